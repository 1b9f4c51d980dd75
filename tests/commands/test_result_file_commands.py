"""``evaluate``, ``errors`` and ``compare`` on the files of other tools, against the same detections as COCO results."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

Run = Callable[..., tuple[int, str, str]]
NAMES = {2: "cat", 5: "dog", 9: "emu"}


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    entries = [
        {"id": n, "image_id": 1 + n % 6, "category_id": [*NAMES][n % 3],
         "bbox": [*rng.integers(0, 60, 2).tolist(), *rng.integers(10, 40, 2).tolist()]} for n in range(1, 40)
    ]  # fmt: skip
    content = {
        "images": [{"id": i, "file_name": f"val/photo {i}.jpg", "height": 100, "width": 100} for i in range(1, 7)],
        "categories": [{"id": i, "name": name} for i, name in NAMES.items()],
        "annotations": entries,
    }
    (tmp_path / "val.json").write_text(json.dumps(content))
    return tmp_path / "val.json"


@pytest.fixture
def files(annotations: Path, tmp_path: Path) -> dict[str, Path]:
    """The same detections, in the order of the images and their classes, in several formats."""
    rng = np.random.default_rng(1)
    content = json.loads(annotations.read_text())
    entries = sorted(content["annotations"], key=lambda entry: (entry["image_id"], entry["category_id"]))
    results: list[dict[str, Any]] = [
        {"image_id": e["image_id"], "category_id": e["category_id"], "score": float(score),
         "bbox": [e["bbox"][0] + int(shift), *e["bbox"][1:]]}
        for e, score, shift in zip(entries, rng.permutation(len(entries)) / 64, rng.integers(0, 9, len(entries)),
                                   strict=True)
    ]  # fmt: skip
    corners = np.array([r["bbox"] for r in results], dtype=float)
    corners[:, 2:] += corners[:, :2]
    table = pd.DataFrame(corners, columns=["x1", "y1", "x2", "y2"])
    table["image"] = [f"photo {r['image_id']}.jpg" for r in results]
    table["class"] = [NAMES[r["category_id"]] for r in results]
    table["confidence"] = [r["score"] for r in results]
    by_class = [
        [
            np.array([[*box, r["score"]] for box, r in zip(corners, results, strict=True)
                      if (r["image_id"], r["category_id"]) == (image, category)]).reshape(-1, 5)
            for category in NAMES
        ]
        for image in range(1, 7)
    ]  # fmt: skip
    paths = {name: tmp_path / name for name in ("coco.json", "counted.json", "table.csv", "results.pkl")}
    paths["coco.json"].write_text(json.dumps(results))
    counted = [{**r, "category_id": [*NAMES].index(r["category_id"])} for r in results]
    paths["counted.json"].write_text(json.dumps(counted))
    table.to_csv(paths["table.csv"], index=False)
    paths["results.pkl"].write_bytes(pickle.dumps(by_class))
    return paths


def test_every_format_has_the_same_ap(run: Run, annotations: Path, files: dict[str, Path], tmp_path: Path) -> None:
    given = ("--val-annotations", annotations, "--train-annotations", annotations)
    said, frames = {}, {}
    for name, path in files.items():
        status, said[name], err = run("evaluate", path, *given, "-o", tmp_path / "ap.csv")
        assert status == 0, err
        frames[name] = pd.read_csv(tmp_path / "ap.csv")
    for name, frame in frames.items():
        pd.testing.assert_frame_equal(frame, frames["coco.json"]), name
    assert 0 < frames["coco.json"]["ap"].min() < 1
    assert "read: COCO results: 39 detections, images by id, classes by id\n" in said["coco.json"]
    assert "classes are counted from 0 by id, not by id: so 39 of 39" not in said["coco.json"]
    assert "classes counted from 0 by id; classes are counted from 0 by id, not by id: so " in said["counted.json"]
    assert "read: a table (CSV): 39 detections, images by file name, classes by name\n" in said["table.csv"]
    assert "images in the order of the annotations, classes counted from 0" in said["results.pkl"]
    status, out, err = run("errors", files["table.csv"], *given)
    assert status == 0 and "read: a table (CSV)" in out, err


def test_compare_takes_files(run: Run, annotations: Path, files: dict[str, Path]) -> None:
    given = ("--val-annotations", annotations, "--train-annotations", annotations, "--resamples", 10)
    status, out, err = run("compare", files["coco.json"], files["table.csv"], *given)
    assert status == 0, err
    line = next(line.split() for line in out.splitlines() if line.split()[:1] == ["mAP"])
    assert line[1] == line[2] and line[3:] == ["0.00", "0.00", "to", "0.00", "no"]
    for name, how in (("coco.json", "COCO results"), ("table.csv", "a table (CSV)")):
        assert f"read: {files[name]}: {how}: 39 detections" in out
    status, _, err = run("compare", files["coco.json"], files["table.csv"], "--val-annotations", annotations)
    assert status == 2 and "go together" in err


def test_compare_writes_a_page(run: Run, annotations: Path, files: dict[str, Path], tmp_path: Path) -> None:
    given = ("--val-annotations", annotations, "--train-annotations", annotations, "--resamples", 10)
    page = tmp_path / "new" / "page.html"
    status, out, err = run("compare", files["coco.json"], files["table.csv"], *given, "-o", page)
    assert status == 0, err
    assert f"written: {page}" in out
    status, _, err = run("compare", files["coco.json"], files["table.csv"], *given, "-o", tmp_path / "page")
    assert status == 2 and "expected a name that ends in .html" in err and not (tmp_path / "page").exists()
    assert "by class: 0 of 0 differ beyond chance, adjusted for 0 comparisons; 3 with boxes in fewer than 10" in out
    text = page.read_text()
    assert "table.csv against coco.json" in text and "a table (CSV): 39 detections" in text
    (tmp_path / "other").mkdir()
    copy = tmp_path / "other" / "coco.json"
    copy.write_text(files["coco.json"].read_text())
    status, out, _ = run("compare", files["coco.json"], copy, *given, "-o", page)
    assert status == 0 and "other/coco.json against " in page.read_text(), "names of one kind are told apart"
