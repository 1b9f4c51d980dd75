"""The examples of the README work."""

import doctest
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from analyses import readme
from imbalance_bench.runtime.errors import InputError

ROOT = Path(__file__).resolve().parents[1]


def test_the_example_method_is_the_one_in_the_catalogue() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    package = ROOT / "imbalance_bench"
    sources = "".join((package / part).read_text() for part in ("classifiers/sigmoid.py", "methods/sigmoid_family.py"))
    # Laid out by the formatter there, by hand here.
    parts = [re.sub(r"\s+|,(?=\s*\))", "", part) for part in code.split("\n\n\n")]
    known = re.sub(r"\s+|,(?=\s*\))", "", sources)
    assert len(parts) == 3
    assert all(part in known for part in parts)


def test_its_examples_give_what_they_show() -> None:
    text = "\n".join(re.findall(r"```pycon\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL))
    examples = doctest.DocTestParser().get_doctest(text, {}, "README.md", "README.md", 0)
    assert len(examples.examples) == 13
    assert doctest.DocTestRunner(verbose=False).run(examples).failed == 0


def test_every_command_it_names_exists() -> None:
    from analyses.commands.main import app

    known = {command.name or command.callback.__name__ for command in app.registered_commands}  # type: ignore[union-attr]
    known |= {group.name for group in app.registered_groups}
    named = set(re.findall(r"cli\.py ([a-z-]+)", (ROOT / "README.md").read_text()))
    assert named and named <= known


def test_every_file_it_links_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text()):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_its_table_is_the_measured_one() -> None:
    table = (ROOT / "results" / "measured" / "emoji-lt-small" / "table1.md").read_text()
    assert table.strip() in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", ["LICENSE", "CITATION.cff", "CHANGELOG.md", "constraints.txt"])
def test_no_addresses_of_registries(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "index-url" not in text
    assert name != "constraints.txt" or "://" not in text


def test_its_tables_are_the_results(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text()
    results = ROOT / "results" / "measured" / "emoji-lt-small"
    assert readme.rewritten(text, results) == text, "python -m analyses.readme writes them"
    for name, column in (("table1.csv", "mAP"), ("beyond.csv", "tail")):
        changed = shutil.copytree(results, tmp_path / name, ignore=shutil.ignore_patterns("tiny*", "*.png"))
        frame = pd.read_csv(changed / name)
        frame.assign(**{column: frame[column] / 2}).to_csv(changed / name, index=False)
        assert readme.rewritten(text, changed) != text
    with pytest.raises(InputError, match="no '<!-- table 1 -->'"):
        readme.rewritten("# nothing", results)
