"""Per-category tables of several runs joined, grouped, and written as CSV and Parquet."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation import per_category
from imbalance_bench.runtime.errors import InputError


def table(seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "id": [4, 7, 9, 0], "name": ["nan", "owl", "None", "background"], "image_count": [3, 9, 40, 0],
            "instance_count": [3, 10, 50, 0], "frequency": ["r", "r", "c", ""], "bin": [1, 2, 2, 0],
            "proposals": [2, 6, 2, 30], "correct": [1, 0, 2, 20],
        },
        index=pd.RangeIndex(4, name="label"),
    )  # fmt: skip
    for column in per_category.COLUMNS:
        if column not in frame:
            frame[column] = rng.random(4)
    frame.loc[[0, 3], "ap"] = np.nan
    return frame[list(per_category.COLUMNS)].assign(accuracy=frame["correct"] / frame["proposals"])


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_written_tables_are_read_back(suffix: str, tmp_path: Path) -> None:
    path = per_category.write(table(), tmp_path / f"table{suffix}")
    again = per_category.read(path)
    pd.testing.assert_frame_equal(again.iloc[:-1], table().iloc[:-1], check_dtype=suffix == ".parquet")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_joined_on_category_id() -> None:
    other = table(1).assign(mean_score=0.5)
    joined = per_category.join({"a": table(), "b": other})
    assert joined.index.tolist() == [4, 7, 9, 0] and joined.index.name == "id"
    assert joined.loc[9, "name"] == "None"
    for name, frame in (("a", table()), ("b", other)):
        expected = frame.set_index("id")["weight_norm"]
        assert joined[f"{name}.weight_norm"].to_dict() == expected.to_dict()
    assert (joined["b.mean_score"] == 0.5).all() and "a.mean_score" not in joined
    with pytest.raises(InputError, match="b: field 'id' is not as in a"):
        per_category.join({"a": table(), "b": table().assign(id=[4, 7, 8, 0])})
    with pytest.raises(InputError, match="instance_count"):
        per_category.join({"a": table(), "b": table().assign(instance_count=1)})


def test_a_category_with_the_id_0_and_background_are_two_rows() -> None:
    content = {"categories": [{"id": i, "name": f"c{i}"} for i in (0, 1, 5)], "images": [], "annotations": []}
    categories = CategoryTable.from_annotations(content).frame(background=True)
    frames = [table(seed).assign(**{name: categories[name] for name in categories}) for seed in (0, 1)]
    joined = per_category.join({"a": frames[0], "b": frames[1]})
    assert joined.index.tolist() == [0, 1, 5, -1]
    assert joined.loc[-1, "name"] == "background" and joined.loc[0, "name"] == "c0"
    for name, frame in zip("ab", frames, strict=True):
        assert joined[f"{name}.weight_norm"].tolist() == frame["weight_norm"].tolist()


def test_any_measure_by_any_grouper() -> None:
    frame = table()
    ap = per_category.grouped_by(frame, "ap")
    assert ap.index.tolist() == ["all", "1", "2", "background"]
    assert ap["2"] == pytest.approx(frame["ap"][1:3].mean())
    assert ap[["1", "background"]].isna().all()
    accuracy = per_category.grouped_by(frame, "accuracy", "frequency", "proposals")
    assert accuracy.to_dict() == pytest.approx({"all": 3 / 10, "r": 1 / 8, "c": 1, "background": 2 / 3})
    with pytest.raises(InputError, match="no numeric field 'mean_score', the version that made it did not measure it"):
        per_category.grouped_by(frame, "mean_score")
    for arguments in (("name",), ("nothing",), ("ap", "bin", "names")):
        with pytest.raises(InputError, match="no numeric field"):
            per_category.grouped_by(frame, *arguments)


def test_what_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not really")
    for name, said in (("a.parquet", "not readable"), ("b.parquet", "no such file")):
        with pytest.raises(InputError, match=said):
            per_category.read(tmp_path / name)
    with pytest.raises(InputError, match=r"\.csv or \.parquet"):
        per_category.write(table(), tmp_path / "table.txt")
