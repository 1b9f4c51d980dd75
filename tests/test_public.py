"""The public names: fast to import, known to editors, documented with an example that runs."""

import ast
import doctest
import importlib
import inspect
import subprocess
import sys
import types
from pathlib import Path

import pytest

import imbalance_bench as ib
from imbalance_bench.classifiers import CLASSIFIERS

OBJECTS = [name for name in ib.__all__ if name not in ("METHODS", "__version__")]
HEAVY = (
    "numpy",
    "pandas",
    "torch",
    "torchvision",
    "mmengine",
    "mmcv",
    "mmdet",
    "transformers",
    "ultralytics",
    "matplotlib",
    "pycocotools",
)


def in_a_process_of_its_own(script: str) -> str:
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


def test_importing_it_imports_nothing_heavy() -> None:
    script = f"import sys, imbalance_bench; print([name for name in {HEAVY} if name in sys.modules])"
    assert in_a_process_of_its_own(script) == "[]"


def test_a_name_brings_only_what_it_needs() -> None:
    script = "import sys, imbalance_bench as ib; ib.{}; print([n for n in ('torch', 'mmengine') if n in sys.modules])"
    assert in_a_process_of_its_own(script.format("CategoryTable")) == "[]"
    assert in_a_process_of_its_own(script.format("fit")) == "['torch']"


def test_names_are_known_to_all_who_ask() -> None:
    assert len(set(ib.__all__)) == len(ib.__all__)
    assert set(ib.__all__) <= set(dir(ib))
    for name in ib.__all__:
        assert getattr(ib, name) is not None
    assert {*CLASSIFIERS} < set(ib.__all__)
    source = ast.parse(Path(ib.__file__).read_text())
    (block,) = [node for node in source.body if isinstance(node, ast.If)]
    seen = {name.asname or name.name for line in block.body for name in line.names}
    assert seen == set(ib.__all__) - {"__version__"}, "what editors and type checkers see"
    with pytest.raises(AttributeError, match="module 'imbalance_bench' has no attribute 'fits'"):
        _ = ib.fits
    assert isinstance(importlib.import_module("imbalance_bench.methods"), types.ModuleType)


def examples() -> list[doctest.DocTest]:
    """Of every public object, its methods included, and of the package."""
    found = doctest.DocTestFinder(recurse=False).find(ib, "imbalance_bench")
    for name in OBJECTS:
        item = getattr(ib, name)
        module = sys.modules[item.__module__]
        found += doctest.DocTestFinder().find(item, name, module, globs=vars(module).copy())
    return [example for example in found if example.examples]


EXAMPLES = {example.name: example for example in examples()}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    runner.run(EXAMPLES[name], out=said.append, clear_globs=False)
    assert not runner.failures, "".join(said)


@pytest.mark.parametrize("name", OBJECTS)
def test_it_is_documented_with_an_example(name: str) -> None:
    item = getattr(ib, name)
    assert name in EXAMPLES, "an example that runs"
    parameters = inspect.signature(item).parameters
    documented = inspect.getdoc(item) or ""
    for parameter in parameters if inspect.isfunction(item) else ():
        assert f"{parameter}:" in documented or f"{parameter}, " in documented, parameter
