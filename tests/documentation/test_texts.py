"""What the documentation shows exists: commands with their options, code, error messages, public names, files."""

import ast
import doctest
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from written import ROOT, code, texts

import imbalance_bench as ib
from analyses.documentation import command_pages, llms, pages
from analyses.documentation.command_pages import PROGRAM
from imbalance_bench.methods import METHODS, parse

COMMANDS = command_pages.commands()


def lines() -> Iterator[tuple[str, list[str]]]:
    """Every command line of this program in a block of shell, with its page; ``torchrun ... cli.py`` counts, too."""
    for name, block in code("shell"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if "cli.py" in words:
                words = [PROGRAM, *words[words.index("cli.py") + 1 :]]
            if words and words[0] == PROGRAM:
                yield name, words[1:]
            elif words:
                assert words[0] in ("pip", "make", ".venv/bin/python"), (name, line)


def command_of(words: list[str]) -> tuple[str, list[str]]:
    """Split a line into the command and its arguments."""
    for length in (2, 1):
        if " ".join(words[:length]) in COMMANDS:
            return " ".join(words[:length]), words[length:]
    raise AssertionError(f"no such command: {' '.join(words)}")


def test_every_command_exists_with_its_options() -> None:
    seen = set()
    for page, words in lines():
        name, arguments = command_of(words)
        seen.add(name)
        known = {option for parameter in COMMANDS[name].params for option in parameter.opts + parameter.secondary_opts}
        flags = {
            option
            for parameter in COMMANDS[name].params
            if getattr(parameter, "is_flag", False)
            for option in parameter.opts + parameter.secondary_opts
        }
        used = [word.partition("=")[0] for word in arguments if re.match(r"--?[a-zA-Z]", word)]
        assert set(used) <= known, f"{page}: {name} has no {set(used) - known}"
        needed = {p.opts[0] for p in COMMANDS[name].params if p.required and p.param_type_name == "option"}
        assert needed <= set(used), f"{page}: {name} needs {needed - set(used)}"
        takes = sum(1 for parameter in COMMANDS[name].params if parameter.param_type_name == "argument")
        values = len(arguments) - len(used) - sum(1 for word in used if word not in flags)
        wanted = sum(p.required for p in COMMANDS[name].params if p.param_type_name == "argument")
        assert values >= wanted and (takes or not values), f"{page}: {name} {arguments}"
    assert set(COMMANDS) - seen <= {"groups", "figure worlds", "proposal-accuracy", "export"}, set(COMMANDS) - seen


def test_every_method_and_variant_exists() -> None:
    found = 0
    for _, words in lines():
        named = dict(itertools.pairwise(words))
        if "--method" in named:
            assert named["--method"] in METHODS
            parse(f"{named['--method']}:{named['--variant']}" if "--variant" in named else named["--method"])
            found += 1
        for name in [*named.get("--methods", "").split(","), named.get("--export", "")]:
            assert not name or name in METHODS
    assert found > len(METHODS)


def test_its_options_in_prose_exist() -> None:
    known = {option for command in COMMANDS.values() for p in command.params for option in p.opts + p.secondary_opts}
    for name, text in texts().items():
        plain = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
        used = {
            word
            for inline in re.findall(r"`([^`]*)`", plain)
            for word in re.findall(r"(?<![\w-])--[a-z][a-z-]+", inline)
        }
        assert used <= known | {"--debug", "--help"}, f"{name}: {used - known}"


def test_its_examples_in_python_run() -> None:
    examples = 0
    for name in {name for name, _ in code("pycon")}:
        text = "\n".join(block for page, block in code("pycon") if page == name)
        test = doctest.DocTestParser().get_doctest(text, {}, name, name, 0)
        said: list[str] = []
        assert doctest.DocTestRunner(verbose=False).run(test, out=said.append).failed == 0, "".join(said)
        examples += len(test.examples)
    assert examples > 15


def test_its_python_is_python() -> None:
    for name, block in code("python"):
        ast.parse(block, name)


def messages() -> list[str]:
    """Every message of an error that the code raises, with … for what is filled in."""
    found = []

    def text(node: ast.expr) -> str:
        if isinstance(node, ast.Constant):
            return str(node.value)
        if isinstance(node, ast.JoinedStr):
            return "".join(text(part) for part in node.values)
        if isinstance(node, ast.BinOp):
            return text(node.left) + text(node.right)
        return "…"

    for folder in ("imbalance_bench", "analyses"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr | ast.Constant):
                    found.append(" ".join(text(node).split()))
    return found


def test_its_error_messages_are_raised() -> None:
    shown = re.findall(r"^### `(.*)`$", texts()["faq.md"], re.MULTILINE)
    assert len(shown) > 20
    raised = messages()
    for message in shown:
        parts = [part for part in re.split("…", message) if len(part.strip()) > 3]
        pattern = re.compile(".*".join(map(re.escape, parts)))
        assert any(pattern.search(one) for one in raised), message


def test_every_public_name_is_in_the_reference() -> None:
    reference = texts()["reference/python.md"] + texts()["reference/classifiers.md"]
    documented = re.findall(r"^::: imbalance_bench\.(\w+)$", reference, re.MULTILINE)
    assert len(documented) == len(set(documented))
    assert {*documented, "METHODS", "__version__"} == set(ib.__all__)
    assert "imbalance_bench.METHODS" in reference and "imbalance_bench.__version__" in reference


def test_every_extra_is_explained() -> None:
    declared = (
        (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    )
    extras = re.findall(r"^(\w+) = \[", declared, re.MULTILINE)
    explained = re.findall(r"^\| `(\w+)` \|", texts()["install.md"], re.MULTILINE)
    assert set(explained) == set(extras) - {"all", "dev"}


def test_every_generated_part_is_used() -> None:
    used = {
        part
        for path in (ROOT / "docs").rglob("*.md")
        for part in re.findall(r"<!-- generated: (.*?) -->", path.read_text(encoding="utf-8"))
    }
    assert used == set(pages.PARTS)


def test_the_reference_has_every_command_and_option() -> None:
    text = texts()["reference/commands.md"]
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE))
    assert list(sections) == list(COMMANDS)
    for name, command in COMMANDS.items():
        for parameter in command.params:
            for option in parameter.opts:
                assert option == "--help" or option == "-h" or f"`{option}`" in sections[name], (name, option)
    rows = {name: [re.sub(" +", " ", line) for line in text.splitlines()] for name, text in sections.items()}
    assert any(row.startswith("| `--tune`, `--no-tune` | `on` |") for row in rows["diagnose"])
    assert any(row.startswith("| `--skip-missing` | `off` |") for row in rows["diagnose"])
    assert any(row.startswith("| `path` | needed |") for row in rows["evaluate"])


def test_the_list_for_language_models() -> None:
    text = llms.listed("name", "What it is.", [("Part", [("Page", "page.md", "# Page\n\nOne `thing`. Two.")])])
    assert text == "# name\n\n> What it is.\n\n## Part\n\n- [Page](page.md): One thing.\n"
    assert llms.first_sentence("# A\n\n| a |\n|---|\n\n```shell\nx. y\n```\n\n> no\n\nA [b](c.md) *d*! E.") == "A b d!"
    assert llms.first_sentence("# A\n\n::: x.y") == ""


@pytest.mark.parametrize("place", ["docs", "mkdocs.yml"])
def test_nothing_is_loaded_from_elsewhere(place: str) -> None:
    path = ROOT / place
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.suffix in (".css", ".js", ".html")]
    for file in files:
        assert not re.search(
            r"(?:https?:)?//[a-z]+\.[a-z]", re.sub(r"^\s*//.*$", "", file.read_text(), flags=re.MULTILINE)
        ), file


def test_lines_of_pages_are_not_long() -> None:
    for path in (ROOT / "docs").rglob("*.md"):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            allowed = line.startswith(("|", "#", "![", "imbalance-bench ", "<")) or "http" in line
            assert allowed or len(line) <= 130, f"{path.name}:{number}"


def test_paths_of_this_machine_are_not_in_it() -> None:
    assert not [name for name, text in texts().items() if str(Path.home()) + "/" in text or str(ROOT) in text]
