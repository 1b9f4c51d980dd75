"""Files that are wrong or hostile: one line names the file, the place and what was expected; nothing is executed."""

import gzip
import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_results import ANNOTATIONS, RESULTS, TRUTH, by_image, write

from imbalance_bench.evaluation import result_files
from imbalance_bench.runtime.errors import InputError

LINE = json.dumps(RESULTS[0])
HEAD = "image_id,category_id,score,x1,y1,x2,y2\n"
IMAGE = by_image()[40]


class Executes:
    """What it runs when it is unpickled would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def torch_bytes(content: Any, new: bool = True) -> bytes:
    torch.save(content, file := io.BytesIO(), _use_new_zipfile_serialization=new)
    return file.getvalue()


def parquet_bytes() -> bytes:
    import pandas as pd

    pd.DataFrame(RESULTS).drop(columns="bbox").to_parquet(file := io.BytesIO())
    return file.getvalue()


def deep(levels: int) -> bytes:
    return b"\x80\x02" + b")" + b"\x85" * levels + b"."


CASES: list[tuple[str, Any, str]] = [
    ("r.json", b"", "the file is empty"),
    ("r.json", b"image_id,category_id\n1,2\n", "not readable as JSON"),
    ("r.json", b"[" * 100_000, "not readable as JSON"),
    ("r.json", b'{"predictions":' * 900 + b"[]" + b"}" * 900, "found an object, expected COCO results"),
    ("r.json", json.dumps(RESULTS).encode()[:-9], "not readable as JSON"),
    ("r.json.gz", gzip.compress(json.dumps(RESULTS).encode())[:-9], "its gzip is damaged"),
    ("r.json.gz", gzip.compress(b" " * (100 << 20)), "unpacked it is more than 200 times as large"),
    ("r.json", ANNOTATIONS, "found annotations, which have no 'score'"),
    ("r.json", {}, "found an object"),
    ("r.json", 5, "found 5"),
    ("r.json", [1], r"results\[0\] is 1"),
    ("r.json", [RESULTS[0], None], r"results\[1\] is null"),
    ("r.json", [{"a": 1}], r"no field for the images \(image_id, file_name\), found a$"),
    ("r.json", [{"image_id": 1, "score": 1, "bbox": [1, 2, 3, 4]}], "no field for the classes"),
    ("r.json", [{"image_id": 1, "label": 1, "bbox": [1, 2, 3, 4]}], "no field for the scores"),
    ("r.json", [{"image_id": 1, "label": 1, "score": 1}], "no field for the boxes"),
    ("r.json", IMAGE, "it holds one image, expected a list of images"),
    ("r.jsonl", f"{LINE}\n\n{LINE[:-5]}\n", "line 3: not readable as JSON"),
    ("r.jsonl", f"{LINE},{LINE}\n", "line 1: not readable as JSON"),
    ("r.jsonl", b"", "the file is empty"),
    ("r.csv", b"", "the file is empty"),
    ("r.csv", b"\xff\xfe\x00", "not readable as text"),
    ("r.csv", HEAD + "40,3,0.5,1,2,3,4,5\n", "rows have more fields than the first line names"),
    ("r.csv", HEAD + "40,3,0.5,1,2,3,4\n40,3,0.5,1,2,3,4,5,6\n", "not readable as CSV"),
    ("r.csv", HEAD + '40,3,"0.5\n', "not readable as CSV"),
    ("r.csv", "a,b\n1,2\n", "no field for the images .* found a, b$"),
    ("r.parquet", parquet_bytes()[:-9], "not readable as Parquet"),
    ("r.parquet", parquet_bytes(), "no field for the boxes"),
    ("r.pkl", pickle.dumps(RESULTS)[:-9], "not readable as a results file, it may be truncated"),
    ("r.pkl", b"<html>", "it is a page of a website"),
    ("r.pkl", deep(100_000), "nests more than 200 containers"),
    ("r.pkl", pickle.dumps({"boxes": [np.ones((2, 4))]}), "it holds one image"),
    ("r.pkl", pickle.dumps([np.ones((2, 5))]), r"results\[0\] is "),
    ("r.pth", torch_bytes(RESULTS)[:-99], "truncated|no such file|not readable"),
    ("r.pth", torch_bytes(RESULTS, new=False)[:99], "not readable as a results file"),
    ("r.pth", torch_bytes({"state_dict": {"a": torch.ones(2)}}), "found an object"),
    ("r.npz", b"PK\x03\x04", "no npz archive"),
]


@pytest.mark.parametrize(("name", "content", "message"), CASES)
def test_a_file_that_is_none(name: str, content: Any, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(InputError, match=message) as caught:
        result_files.read(path, TRUTH)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def changed(**fields: Any) -> list[dict[str, Any]]:
    return [*RESULTS[:2], {**RESULTS[2], **fields}, *RESULTS[3:]]


VALUES: list[tuple[Any, str]] = [
    (changed(category_id=1.5), r"results\[2\]: field 'category_id' is 1.5, expected the id of a category"),
    (changed(category_id=True), r"results\[2\]: field 'category_id' is true"),
    (changed(category_id=None), r"results\[2\]: field 'category_id' is null"),
    (changed(category_id=""), r"results\[2\]: field 'category_id' is text ''"),
    (changed(category_id=10**30), r"results\[2\]: field 'category_id' is 1000"),
    (changed(image_id=[1]), r"results\[2\]: field 'image_id' is \[1\], expected the id of an image"),
    (changed(image_id=2**64), r"results\[2\]: field 'image_id' is 18446744073709551616"),
    (changed(image_id={}), r"results\[2\]: field 'image_id' is an object"),
    (changed(score="0.9"), r"results\[2\]: field 'score' is text '0.9', expected a finite number"),
    (changed(score=True), r"results\[2\]: field 'score' is true"),
    (changed(score=float("nan")), r"results\[2\]: field 'score' is nan"),
    (changed(score=10**400), r"results\[2\]: field 'score' is 1000"),
    (changed(bbox=[1, 2, 3]), r"results\[2\]: field 'bbox' is \[1, 2, 3\], expected four numbers \(x, y, width"),
    (changed(bbox=[1, 2, 3, 1e300]), r"results\[2\]: field 'bbox' is .*1e\+300"),
    (changed(bbox=[1, 2, 3, False]), r"results\[2\]: field 'bbox' is \[1, 2, 3, False\]"),
    ([RESULTS[0], {k: v for k, v in RESULTS[1].items() if k != "score"}], r"results\[1\]: field 'score' is missing"),
    ({"40": {**IMAGE, "scores": [0.5]}}, r"image '40': has 2 boxes, 1 scores, 2 labels, expected as many of each"),
    ({"40": {**IMAGE, "scores": None}}, r"image '40': field 'scores': is null, expected a list or an array"),
    ({"40": {"boxes": [], "scores": []}}, r"image '40': field 'labels' is missing, expected boxes, scores and labels"),
    ({"40": {**IMAGE, "scores": [0.5, float("inf")]}}, r"image '40': detection 1: field 'scores' is inf"),
    ({"7": by_image()[7], "40": {**IMAGE, "boxes": [[1, 2, 3, 4], [[1], 2, 3, 4]]}},
     r"image '40': detection 1: field 'boxes' is .*, expected four numbers \(x1, y1, x2, y2\)"),
    ({"40": {**IMAGE, "scores": [[0.1, 0.9], [0.2, 0.8]]}},
     r"image '40': detection 0: field 'scores' is \[0.1, 0.9\], expected a finite number"),
    ([{"image_id": 40, "instances": 5}], r"image\[0\]: field 'instances' is 5, expected a list of results"),
    ({"samples": [{"filepath": 5}]}, r"samples\[0\]: field 'filepath' is missing"),
    ({"samples": [{"filepath": "b.jpg"}]}, "no field of detections with a 'confidence'"),
    ({"samples": [{"filepath": "b.jpg", **{n: {"detections": [{"confidence": 1}]} for n in ("x", "y")}}]},
     r"several fields of detections with a 'confidence' \(x, y\)"),
    ({"labels": {"b": 5}}, r"labels\['b'\] is 5, expected a list of detections"),
    ({"labels": {"b": [5]}}, r"labels\['b'\]\[0\] is 5"),
    ({"labels": {"b": [{"label": "bus", "bounding_box": [0, 0, 1, 1]}]}}, r"labels\['b'\]\[0\]: field 'confidence'"),
    ({**ANNOTATIONS, "annotations": [{**RESULTS[0], "image_id": 5}]},
     r"annotations\[0\]: field 'image_id' is 5, expected an 'id' in the file's 'images'"),
    ({"b.jpg": [{"label": "bus", "score": 1, "box": {"xmin": 1, "ymin": 2, "xmax": 3}}]},
     r"\['b.jpg'\]\[0\]: field 'box' is an object, expected four numbers"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), VALUES)
def test_the_first_wrong_value_is_named_with_its_place(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"r\.json: " + message):
        result_files.read(write(tmp_path / "r.json", content), TRUTH)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("40,3,,1,2,3,4", "row 2: field 'score' is text ''"),
        ("40,3,nan,1,2,3,4", "row 2: field 'score' is text 'nan'"),
        ("40,3,inf,1,2,3,4", "row 2: field 'score' is inf"),
        ("40,3,True,1,2,3,4", "row 2: field 'score' is text 'True'"),
        ("40,3,0.5,1,2,3,1e99", "row 2: field 'x1, y1, x2, y2' is .*1e.99"),
        ("40,3,0.5,1,2,3", "row 2: field 'x1, y1, x2, y2' is"),
        ("40,,0.5,1,2,3,4", "row 2: field 'category_id' is text ''"),
        ("40,3.0,0.5,1,2,3,4", ""),
        ("40,3.5,0.5,1,2,3,4", "none of the classes"),
    ],
)
def test_cells_of_a_table(row: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", HEAD + "40,3,0.5,1,2,3,4\n" + row + "\n")
    if not message:
        assert result_files.read(path, TRUTH).labels.tolist() == [0, 0]
        return
    if "3.5" in row:
        path = write(tmp_path / "r.csv", HEAD + row + "\n")
    with pytest.raises(InputError, match=message):
        result_files.read(path, TRUTH)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_no_pickle_executes(protocol: int, tmp_path: Path) -> None:
    trap = tmp_path / "executed"
    sample = {"img_id": 40, "pred_instances": {"bboxes": Executes(trap), "scores": [], "labels": []}}
    files = {
        "r.pkl": pickle.dumps([sample], protocol),
        "r.pth": torch_bytes([sample]),
        "old.pth": torch_bytes([sample], new=False),
    }
    for name, content in files.items():
        with pytest.raises(InputError, match=r"a results file of tensors and plain values, but it holds .*mkdir"):
            result_files.read(write(tmp_path / name, content), TRUTH)
    assert not trap.exists()


def test_no_file_within_a_tensor_executes(tmp_path: Path) -> None:
    """A tensor in a pickle holds a whole file of torch, of which only a storage is read."""
    trap = tmp_path / "executed"

    class Hides:
        def __reduce__(self) -> tuple[Any, ...]:
            return torch.storage._load_from_bytes, (torch_bytes(Executes(trap), new=False),)

    with pytest.raises(InputError, match="not readable as a results file"):
        result_files.read(write(tmp_path / "r.pkl", pickle.dumps([Hides()])), TRUTH)
    assert not trap.exists()


def tensor_file(size: Any, stride: Any, offset: int = 0) -> bytes:
    """A file of torch with a tensor of two numbers that claims another shape."""
    raw, content = torch_bytes([{"img_id": 40, "labels": [0], "scores": [1.0], "boxes": torch.tensor([1.0, 2.0])}]), b""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as source, zipfile.ZipFile(file, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("data.pkl"):
                # The view of the tensor: offset 0, size (2,), strides (1,).
                start = content.index(b"K\x00K\x02\x85")
                end = content.index(b"\x89", start)
                content = content[:start] + pickled(offset) + pickled(size) + pickled(stride) + content[end:]
            target.writestr(name, content)
    return file.getvalue()


def pickled(value: Any) -> bytes:
    if isinstance(value, int):
        return b"\x8a\x08" + struct.pack("<q", value)
    return b"(" + b"".join(map(pickled, value)) + b"t"


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [
        ((1 << 40, 4), (0, 0), 0), ((1, 4), (4, 1), 0), ((1, 2), (2, 1), 1), ((1, 2), (-1, 1), 0), ((-1, 4), (1, 1), 0),
        ((1, 2), (1,), 0), ((1, 2), (1, 1), -1), ((1,) * 99 + (0,), (1,) * 100, 0), ((0, 1 << 47), (1, 1), 0),
    ],
)  # fmt: skip
def test_tensors_that_leave_their_storage(size: Any, stride: Any, offset: int, tmp_path: Path) -> None:
    path = write(tmp_path / "r.pth", tensor_file(size, stride, offset))
    with pytest.raises(InputError, match=r"image\[0\]"):
        result_files.read(path, TRUTH)


def test_compressed_entries_are_refused(tmp_path: Path) -> None:
    raw, file = torch_bytes(RESULTS), io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as source, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(InputError, match="it holds compressed entries"):
        result_files.read(write(tmp_path / "r.pth", file.getvalue()), TRUTH)


def test_what_is_not_read_is_said(tmp_path: Path) -> None:
    rows = [{**r, "scores": [0.5] * 3, "logits": [1.0] * 3} for r in RESULTS]
    assert result_files.read(write(tmp_path / "r.json", rows), TRUTH).notes[1:] == ("not read: scores, logits",)
    images = {str(i): {**image, "masks": [[[0.5]]] * len(image["scores"])} for i, image in by_image().items()}
    notes = result_files.read(write(tmp_path / "r.json", images), TRUTH).notes
    assert notes[-1] == "not read: masks (no run-length encodings)"
    export = {**ANNOTATIONS, "annotations": [{**r, "segmentation": [[0, 0, 1, 1, 2, 2]]} for r in RESULTS]}
    assert "not read: segmentation (outlines)" in result_files.read(write(tmp_path / "r.json", export), TRUTH).notes
    table = "segmentation," + HEAD + "x,40,3,0.5,1,2,3,4\n"
    assert "not read: segmentation" in result_files.read(write(tmp_path / "r.csv", table), TRUTH).notes


def test_masks_of_some_images_alone(tmp_path: Path) -> None:
    rle = {"size": [32, 64], "counts": [32 * 64]}
    images = {str(i): {**image, **({"masks": [rle] * 2} if i == 40 else {})} for i, image in by_image().items()}
    with pytest.raises(InputError, match="some images have masks and others do not"):
        result_files.read(write(tmp_path / "r.json", images), TRUTH)
    images["40"]["masks"] = [rle]
    with pytest.raises(InputError, match="image '40': has 1 masks of 2 detections"):
        result_files.read(write(tmp_path / "r.json", images), TRUTH)


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from imbalance_bench.runtime.errors import MissingDependency

    path = write(tmp_path / "r.parquet", parquet_bytes())
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependency, match=r"pip install 'imbalance-bench\[parquet\]'"):
        result_files.read(path, TRUTH)


def test_a_folder_that_is_no_run_and_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file, expected COCO results"):
        result_files.read(tmp_path / "none.json", TRUTH)
    with pytest.raises(InputError, match=r"detections\.npz: no such file"):
        result_files.read(tmp_path, TRUTH)
