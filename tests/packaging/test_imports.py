"""Imports go in one direction, and imported packages are declared."""

import ast
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest
from importlinter.cli import lint_imports
from packaging.requirements import Requirement

from imbalance_bench.runtime.errors import EXTRAS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PROVIDERS = metadata.packages_distributions()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

NOT_INSTALLED = ("ultralytics",)
"""In no extra that tests are run with, for its licence."""


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def packages(requirements: list[str]) -> set[str]:
    return {plain(Requirement(text).name) for text in requirements}


def providers(module: str) -> set[str]:
    """Distributions that bring what is imported by a name; one that is not installed here has its own name."""
    return {plain(name) for name in PROVIDERS.get(module, [module] if module in NOT_INSTALLED else [])}


def imported(folder: Path) -> set[str]:
    """Packages of others that the modules of a folder import, wherever in them."""
    names = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(str(node.module).partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"imbalance_bench", "analyses"}


def test_imports_run_one_way(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    assert lint_imports(config_filename="pyproject.toml", no_cache=True) == 0, capsys.readouterr().out


@pytest.mark.parametrize("folder", ["imbalance_bench", "analyses"])
def test_what_is_imported_is_declared(folder: str) -> None:
    extras = PROJECT["optional-dependencies"]
    declared = packages(PROJECT["dependencies"]).union(*(packages(extras[name]) for name in EXTRAS))
    found = imported(ROOT / folder)
    assert found, folder
    undeclared = {name for name in found if not providers(name) & declared}
    assert not undeclared


def test_extras_are_named_by_what_they_bring() -> None:
    """``MissingDependency`` names the extra in whose requirements the package is."""
    for extra, modules in EXTRAS.items():
        requirements = packages(PROJECT["optional-dependencies"][extra])
        for module in modules:
            assert providers(module) & requirements, (extra, module)
    everything = packages(PROJECT["dependencies"])
    assert not {module for modules in EXTRAS.values() for module in modules if providers(module) & everything}


def test_every_package_is_installed() -> None:
    """``setup.py`` finds packages by their ``__init__.py``: no folder with modules is without one."""
    folders = {path.parent for name in ("imbalance_bench", "analyses") for path in (ROOT / name).rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in folders)
