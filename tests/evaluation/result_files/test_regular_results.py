"""Large regular result files are read in blocks, to the same numbers; anything irregular is left to the usual way."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imbalance_bench.evaluation.result_files import contents, recognise, regular
from imbalance_bench.evaluation.result_files.found import check


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    """Small files are read so, too, and in many blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regular, "LEAST", 0)
        patch.setattr(regular, "BLOCK", 300)
        yield


def results(count: int = 50) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {"image_id": int(rng.integers(1, 9)), "category_id": int(rng.integers(0, 5)),
         "bbox": rng.normal(50, 30, 4).tolist(), "score": float(rng.choice([rng.random(), 1e-7 * rng.random(), 1]))}
        for _ in range(count)
    ]  # fmt: skip


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("options", [{}, {"separators": (",", ":")}, {"indent": 2}, {"sort_keys": True}])
def test_the_same_numbers(options: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path / "results.json", json.dumps(results(), **options) + "\n")
    found, expected = regular.read(path), check(recognise(contents.load(path), str(path)))
    assert found is not None
    assert np.array_equal(found.boxes, expected.boxes) and np.array_equal(found.scores, expected.scores)
    for mine, theirs in ((found.image_ids, expected.image_ids), (found.class_ids, expected.class_ids)):
        assert mine is not None and theirs is not None
        assert np.array_equal(np.array(mine.values)[mine.codes], np.array(theirs.values)[theirs.codes])
    assert found.rows.place(7) == expected.rows.place(7) and found.rows.kind == expected.rows.kind


def changed(**fields: Any) -> str:
    """One object in the middle that differs."""
    content = results()
    content[25] = {**content[25], **fields}
    return json.dumps(content)


PLAIN = json.dumps(results(3))
ONE = '{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5}'


@pytest.mark.parametrize(
    "text",
    [
        changed(image_id="7"), changed(image_id=1.5), changed(category_id=None), changed(score=float("nan")),
        changed(score=True), changed(bbox=[1, 2, 3]), changed(bbox=[1, 2, 3, 4, 5]), changed(bbox=[]),
        changed(bbox=[1, 2, 3, 1e300]), changed(image_id=2**60), changed(extra=1), changed(segmentation={}),
        json.dumps([{**result, "file_name": "e.jpg"} for result in results()]),
        json.dumps({"annotations": results()}), "[]", f"[{ONE}]", "", "[[1, 2]]", "nonsense", "[" + PLAIN,
        PLAIN[:-1], PLAIN[:-2], PLAIN + "1", PLAIN[:-1] + ", 5]", PLAIN.replace("}, {", "},, {", 1),
        f"[{ONE}, {ONE.replace('[1, 2, 3, 4]', '[1.2.3, , 3, 4]')}]", f"[{ONE}, {ONE.replace('0.5', '0.5 0.6')}]",
        f"[{ONE}, {ONE.replace('0.5', '-')}]", f"[{ONE}, {ONE.replace('0.5', '')}]",
        f"[{ONE}, {ONE.replace('score', 'scor')}]", f"[{ONE}  {ONE}]", f"[{ONE}, {ONE}}}]",
    ],
)  # fmt: skip
def test_what_is_irregular_is_left(text: str, tmp_path: Path) -> None:
    assert regular.read(write(tmp_path / "results.json", text)) is None


def test_packed_and_missing_files_are_left(tmp_path: Path) -> None:
    assert regular.read(tmp_path / "none.json") is None
    (tmp_path / "packed.json.gz").write_bytes(b"\x1f\x8b" + bytes(500))
    assert regular.read(tmp_path / "packed.json.gz") is None
