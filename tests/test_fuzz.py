"""Mutated files in every reader of user files give a value or InputError: no traceback, no hang, nothing written.

``FUZZ_SECONDS`` says for how long, ``FUZZ_SEED`` where to begin; a failure names its seed, and ``FUZZ_SECONDS=0
FUZZ_SEED=...`` repeats that one.
"""

import copy
import io
import json
import os
import pickle
import random
import signal
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from imbalance_bench.categories import CategoryTable, read_json
from imbalance_bench.checkpoints import foreign as foreign_classifiers
from imbalance_bench.checkpoints import formats as checkpoint_formats
from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.classifiers import GroupSoftmaxClassifier
from imbalance_bench.datasets import coco_format
from imbalance_bench.datasets.formats import voc_xml
from imbalance_bench.datasets.formats.conversion import refuse
from imbalance_bench.datasets.formats.yolo_yaml import read_yaml
from imbalance_bench.evaluation import per_category, result_files
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.experiments.run_folder import RunFolder
from imbalance_bench.runtime.errors import InputError

SECONDS = float(os.environ.get("FUZZ_SECONDS", "4"))
SEED = int(os.environ.get("FUZZ_SEED", "0"))
HANGS = 20
"""Seconds that no reader may take for one of these small files."""

ANNOTATIONS: dict[str, Any] = {
    "info": {"bin_edges": [2, 5]},
    "categories": [{"id": i, "name": n, "frequency": "r", "image_count": 1, "instance_count": 2} for i, n in
                   ((3, "a"), (1, "b"), (7, "c"))],
    "images": [{"id": i, "file_name": f"{i}.jpg", "height": 20, "width": 30, "neg_category_ids": [1],
                "not_exhaustive_category_ids": [3]} for i in (1, 2)],
    "annotations": [{"id": n, "image_id": 1 + n % 2, "category_id": c, "bbox": [1, 2, 5.5, 6], "area": 33.0,
                     "iscrowd": 0, "segmentation": [[1, 1, 6, 1, 6, 8]]} for n, c in enumerate((3, 1, 7, 7), start=1)],
}  # fmt: skip
RESULTS: Any = [
    {"image_id": 1, "category_id": c, "bbox": [1, 2, 5, 6.5], "score": 0.5,
     "segmentation": {"size": [20, 30], "counts": "hb0"}} for c in (3, 1, 7)
]  # fmt: skip
RECORD: Any = {
    "settings": {"dataset": "emoji-lt-mini", "method": "bags", "seed": 0, "schedule": {"lr": 0.1}},
    "provenance": {"date": "2026-01-01", "command": "x"},
    "metrics": {"mAP": 0.1, "AP1": float("nan")},
    "sha256": {"checkpoint.pth": "0" * 64},
}
TABLE = CategoryTable.from_annotations(ANNOTATIONS)
ODD: list[Any] = [None, True, False, -1, 0, 1, 1 << 70, -(1 << 70), 1 << 63, 1e308, float("inf"), float("-inf"),
                  float("nan"), 0.5, "", "1", "x" * 300, "\ud800", "\x00", [], {}, [[]], [None], {"id": 1},
                  [1 << 70], [float("nan")] * 4, 10**400]  # fmt: skip


def nodes(value: Any, found: list[tuple[Any, Any]] | None = None) -> list[tuple[Any, Any]]:
    """(container, key) of everything in a JSON value."""
    found = [] if found is None else found
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        found.append((value, key))
        nodes(value[key], found)
    return found


def mutated_json(rng: random.Random, value: Any) -> bytes:
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        places = nodes(value)
        if not places:
            break
        holder, key = rng.choice(places)
        kind = rng.randrange(6)
        if kind <= 2:
            holder[key] = copy.deepcopy(rng.choice(ODD))
        elif kind == 3:
            del holder[key]
        elif kind == 4:
            other, place = rng.choice(places)
            if isinstance(other, dict) or place < len(other):
                holder[key] = copy.deepcopy(other[place])
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        else:
            holder[rng.choice((*map(str, holder), "x"))] = holder.pop(key)
    if rng.random() < 0.02:
        value = rng.choice(ODD)
    text = json.dumps(value)
    if rng.random() < 0.03:
        text = text.replace("[", "[" * 100_000, 1)
    return text.encode()


def mutated_bytes(rng: random.Random, raw: bytes) -> bytes:
    data = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at, kind = rng.randrange(len(data) + 1), rng.randrange(6)
        if kind == 0:
            del data[at:]
        elif kind == 1:
            data[at : at + rng.randrange(1, 9)] = b""
        elif kind == 2:
            data[at:at] = rng.choice((b"\xff" * 8, b"\x00" * 4, rng.randbytes(3), b"9999999999999999999", b"NaN", b","))
        elif kind == 3:
            data[at:at] = data[at : at + rng.randrange(64)]
        elif at < len(data):
            data[at] = rng.randrange(256) if kind == 4 else data[at] ^ 1 << rng.randrange(8)
    return bytes(data)


def mutated_zip(rng: random.Random, raw: bytes) -> bytes:
    """One entry changed, the archive whole."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as source, zipfile.ZipFile(target, "w") as out:
        names = source.namelist()
        chosen = rng.choice([name for name in names if name.endswith((".pkl", ".npy"))] or names)
        for name in names:
            content = source.read(name)
            out.writestr(name, mutated_bytes(rng, content) if name == chosen else content)
    return target.getvalue()


def saved(write: Callable[[Path], None], folder: Path, suffix: str) -> bytes:
    path = folder / f"valid{suffix}"
    write(path)
    return path.read_bytes()


def find_classifier(path: Path) -> None:
    content = checkpoint_formats.read(path)
    checkpoints.categories_of({"meta": content.meta}, path)
    for categories in (TABLE, None):
        foreign_classifiers.find(content, categories)


def load_classifier(path: Path) -> None:
    content = checkpoints.load(path)
    checkpoints.categories_of(content, path)
    checkpoints.classifiers_of(content, path)


def check_annotations(path: Path) -> None:
    content = read_json(path)
    coco_format.check(content, str(path))
    coco_format.missing_images(content, path.parent)


def read_truth(path: Path) -> None:
    for iou_type in ("bbox", "segm"):
        GroundTruth.read(path, TABLE, lvis_style=coco_format.is_federated(path), iou_type=iou_type)  # type: ignore[arg-type]


def record(path: Path) -> None:
    path.replace(path.parent / "record.json")
    RunFolder(path.parent).record()


def settings(path: Path) -> None:
    path.replace(path.parent / "settings.json")
    RunFolder(path.parent).begin(RECORD["settings"])


def read_xml(path: Path) -> None:
    refuse([found for found in [voc_xml.parse(str(path))] if isinstance(found, str)])


Target = tuple[str, bytes | Any, Callable[[Path], object]]


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    """(suffix, a valid file, its reader) by what it is."""
    folder = tmp_path_factory.mktemp("valid")
    classifier = GroupSoftmaxClassifier(3, 4, [1, 1, 2])
    state = {f"roi_head.bbox_head.fc_cls.{name}": value for name, value in classifier.state_dict().items()}
    ours = saved(lambda path: checkpoints.save(path, state, classifier, TABLE), folder, ".pth")
    theirs = {"roi_head.bbox_head.fc_cls.weight": torch.ones(4, 3), "roi_head.bbox_head.fc_cls.bias": torch.ones(4)}
    meta = {"meta": {"CLASSES": ("c", "a", "b"), "mmdet_version": "2.1"}, "state_dict": theirs}
    legacy = saved(lambda path: torch.save(meta, path, _use_new_zipfile_serialization=False), folder, ".old")
    arrays = {"model": {"roi_heads.box_predictor.cls_score.weight": np.ones((4, 3), "f4")}, "x": [(1, "a")]}
    header = json.dumps({"fc_cls.weight": {"dtype": "F32", "shape": [4, 3], "data_offsets": [0, 48]}}).encode()
    truth = GroundTruth.read(ANNOTATIONS, TABLE)
    results = result_files.read(written(folder / "results.json", RESULTS), truth)
    images = [{"image_id": 1, "instances": [{**RESULTS[0], "category_id": 1}]}, {"image_id": 2, "instances": []}]
    instances = {"bboxes": torch.ones(2, 4), "scores": torch.ones(2), "labels": torch.ones(2).long()}
    samples = [{"img_id": n, "pred_instances": instances} for n in (1, 2)]
    table = b"image_id,class,score,x1,y1,x2,y2\n1,a,.5,1,2,6,8\n2,b,.25,1,2,6,8\n"
    frame = TABLE.frame(background=True).reindex(columns=per_category.COLUMNS)
    data = b"path: .\ntrain: ../train/images\nval: [a, b.txt]\nnc: 2\nnames:\n  0: kite\n  1: 'no'\n"
    box = b"<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9.5</xmax><ymax>8</ymax></bndbox>"
    xml = b"<annotation><size><width>9</width><height>8</height></size><object><name>a</name>%b</object></annotation>"
    counts = b"id,name,instance_count,image_count,frequency\n3,a,10,4,r\n1,b,5,,\n7,c,1,1,f\n"
    return {
        "annotations": (".json", ANNOTATIONS, check_annotations),
        "categories": (".json", ANNOTATIONS, CategoryTable.from_annotations),
        "ground truth": (".json", ANNOTATIONS, read_truth),
        "results": (".json", RESULTS, lambda path: result_files.read(path, truth)),
        "results by image": (
            ".json",
            {"1.jpg": {"boxes": [[1, 2, 6, 8]], "scores": [0.5], "labels": [1]}, "2.jpg": {}},
            lambda path: result_files.read(path, truth),
        ),
        "results in a table": (".csv", table, lambda path: result_files.read(path, truth)),
        "results of detectron2": (
            ".pth",
            saved(lambda path: torch.save(images, path), folder, ".d2.pth"),
            lambda path: result_files.read(path, truth),
        ),
        "results of mmdet": (".pkl", pickle.dumps(samples, 2), lambda path: result_files.read(path, truth)),
        "results of mmdet 2": (
            ".pkl",
            pickle.dumps([[np.ones((1, 5), "f4")] * 3] * 2, 4),
            lambda path: result_files.read(path, truth),
        ),
        "record": (".json", RECORD, record),
        "settings": (".json", RECORD["settings"], settings),
        "detections": (".npz", saved(results.save, folder, ".npz"), lambda path: result_files.read(path, truth)),
        "yolo": (".yaml", data, read_yaml),
        "voc": (".xml", xml % box, read_xml),
        "counts": (".csv", counts, CategoryTable.from_counts),
        "per category": (".csv", frame.to_csv().encode(), per_category.read),
        "our checkpoint": (".pth", ours, find_classifier),
        "our checkpoint loaded": (".pth", ours, load_classifier),
        "legacy checkpoint": (".pth", legacy, find_classifier),
        "pickle": (".pkl", pickle.dumps(arrays, 2), find_classifier),
        "new pickle": (".pkl", pickle.dumps(arrays, 4), find_classifier),
        "safetensors": (".safetensors", len(header).to_bytes(8, "little") + header + bytes(48), find_classifier),
    }


def written(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


@contextmanager
def no_hang() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"no answer within {HANGS} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(HANGS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def mutant(rng: random.Random, valid: Any) -> bytes:
    if not isinstance(valid, bytes):
        return mutated_json(rng, valid) if rng.random() < 0.85 else mutated_bytes(rng, json.dumps(valid).encode())
    if valid.startswith(b"PK") and rng.random() < 0.7:
        return mutated_zip(rng, valid)
    return mutated_bytes(rng, valid)


def one(seed: int, targets: dict[str, Target], folder: Path) -> None:
    """Raises AssertionError where a reader does anything but return or say what is wrong in one line."""
    rng = random.Random(seed)
    name = rng.choice(sorted(targets))
    suffix, valid, reader = targets[name]
    path = folder / f"{seed}{suffix}"
    path.parent.mkdir()
    path.write_bytes(mutant(rng, valid))
    here = f"FUZZ_SEED={seed}, {name}"
    try:
        with no_hang():
            reader(path)
    except InputError as error:
        assert "\n" not in str(error), here
        assert str(folder) in str(error), f"{here}: the message names no file: {error}"
    except Exception as error:
        raise AssertionError(f"{here}: {type(error).__name__}: {error}") from error
    assert len(list(folder.iterdir())) == 1, f"{here}: files were left"


def test_valid_files_are_read(targets: dict[str, Target], tmp_path: Path) -> None:
    for name, (suffix, valid, reader) in targets.items():
        folder = tmp_path / name
        folder.mkdir()
        path = folder / f"valid{suffix}"
        path.write_bytes(valid if isinstance(valid, bytes) else json.dumps(valid).encode())
        if name in ("pickle", "new pickle"):
            with pytest.raises(InputError, match="--background"):
                reader(path)
        else:
            reader(path)


@pytest.mark.filterwarnings("ignore")
def test_mutated_files_are_one_clear_line(targets: dict[str, Target], tmp_path: Path) -> None:
    end, seed = time.monotonic() + SECONDS, SEED
    while True:
        one(seed, targets, tmp_path / str(seed))
        seed += 1
        if time.monotonic() >= end:
            break
