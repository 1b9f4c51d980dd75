"""Each tool's file gives the same detections as COCO results of them."""

import gzip
import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from made_results import ANNOTATIONS, BOXES, FILES, NAMES, RESULTS, SIZES, TRUTH, by_image, corners, label, same, write

from imbalance_bench.evaluation import result_files

LINES = "\n".join(map(json.dumps, RESULTS)) + "\n"
IMAGES = by_image()
STEMS = {i: Path(f).stem for i, f in FILES.items()}


def relative(result: dict[str, Any]) -> list[float]:
    width, height = SIZES[result["image_id"]]
    return [value / side for value, side in zip(result["bbox"], [width, height] * 2, strict=True)]


def ultralytics(file_name: bool) -> list[dict[str, Any]]:
    """Numeric stems as numbers, others as text; classes from 1."""
    rows = []
    for result in RESULTS:
        stem = STEMS[result["image_id"]]
        rows.append({**result, "image_id": int(stem) if stem.isnumeric() else stem, "category_id": 1 + label(result)})
        if file_name:
            rows[-1]["file_name"] = f"{stem}.jpg"
    return rows


def fiftyone_samples() -> dict[str, Any]:
    def detections(results: list[dict[str, Any]], scored: bool) -> dict[str, Any]:
        return {
            "_cls": "Detections",
            "detections": [
                {"_cls": "Detection", "label": NAMES[r["category_id"]], "bounding_box": relative(r),
                 **({"confidence": r["score"]} if scored else {})} for r in results
            ],
        }  # fmt: skip

    return {
        "samples": [
            {"filepath": f"/home/x/data/{Path(name).name}", "tags": [],
             "ground_truth": detections([r for r in RESULTS if r["image_id"] == i], False),
             "predictions": detections([r for r in RESULTS if r["image_id"] == i], True)}
            for i, name in FILES.items()
        ]
    }  # fmt: skip


def coco_export() -> dict[str, Any]:
    """As FiftyOne: images and categories by its own ids, which mean other images and categories here."""
    ids, order = {image: n for n, image in enumerate(FILES, start=40)}, sorted(NAMES.values())
    return {
        "info": {}, "licenses": [],
        "categories": [{"id": n, "name": name} for n, name in enumerate(order)],
        "images": [{"id": ids[i], "file_name": Path(f).name} for i, f in FILES.items()],
        "annotations": [
            {"id": n, "image_id": ids[r["image_id"]], "category_id": order.index(NAMES[r["category_id"]]),
             "bbox": r["bbox"], "score": r["score"], "area": 1.0, "iscrowd": 0} for n, r in enumerate(RESULTS)
        ],
    }  # fmt: skip


def mmdet_2() -> list[list[np.ndarray]]:
    """Image by image and class by class, so in another order than the others."""
    return [
        [
            np.array(
                [[*corners(r), r["score"]] for r in RESULTS if r["image_id"] == i and r["category_id"] == c], np.float32
            ).reshape(-1, 5)
            for c in NAMES
        ]
        for i in FILES
    ]


def sink() -> list[dict[str, Any]]:
    """supervision's rows, with the image as data of one's own."""
    rows = []
    for result in RESULTS:
        x1, y1, x2, y2 = corners(result)
        rows.append(
            {"x_min": x1, "y_min": y1, "x_max": x2, "y_max": y2, "class_id": 30 + label(result),
             "confidence": result["score"], "tracker_id": "", "class_name": NAMES[result["category_id"]],
             "image_name": Path(FILES[result["image_id"]]).name}
        )  # fmt: skip
    return rows


def frame(boxes: str, image: str, category: str) -> pd.DataFrame:
    table = pd.DataFrame({"score": [r["score"] for r in RESULTS]})
    numbers = np.array([r["bbox"] if boxes in ("x,y,w,h", "bbox") else corners(r) for r in RESULTS])
    if boxes == "bbox":
        table["bbox"] = numbers.tolist()
    else:
        table[boxes.split(",")] = numbers
    table[image] = [r["image_id"] if image == "image_id" else FILES[r["image_id"]] for r in RESULTS]
    table[category] = [r["category_id"] if category == "category_id" else NAMES[r["category_id"]] for r in RESULTS]
    return table


TORCHVISION = [{**image, "image_id": i} for i, image in IMAGES.items()]
PIPELINE = {
    FILES[i]: [
        {"score": r["score"], "label": NAMES[r["category_id"]],
         "box": dict(zip(("xmin", "ymin", "xmax", "ymax"), corners(r), strict=True))}
        for r in RESULTS if r["image_id"] == i
    ]
    for i in FILES
}  # fmt: skip
FIFTYONE_LABELS = {
    "classes": [*NAMES.values()],
    "labels": {
        STEMS[i]: [{"label": label(r), "bounding_box": relative(r), "confidence": r["score"]} for r in RESULTS
                   if r["image_id"] == i]
        for i in FILES
    },
}  # fmt: skip
TEXTS: dict[str, tuple[str, Any]] = {
    "COCO": ("results.bbox.json", RESULTS),
    "COCO packed": ("results.json.gz", gzip.compress(json.dumps(RESULTS).encode())),
    "JSON lines": ("results.jsonl", LINES),
    "JSON lines packed": ("results.jsonl.gz", gzip.compress(LINES.encode("utf-16"))),
    "JSON lines by content": ("results.json", LINES),
    "COCO export": ("labels.json", coco_export()),
    "ultralytics": ("predictions.json", ultralytics(False)),
    "ultralytics with names": ("predictions.json", ultralytics(True)),
    "RF-DETR": ("predictions.json", {str(i): image for i, image in IMAGES.items()}),
    "transformers": ("results.json", [{**image, "file_name": FILES[i]} for i, image in IMAGES.items()]),
    "transformers' pipeline": ("results.json", PIPELINE),
    "torchvision": ("results.json", TORCHVISION),
    "torchvision from 1": (
        "results.json", {FILES[i]: {**image, "labels": [n + 1 for n in image["labels"]]} for i, image in IMAGES.items()}
    ),
    "torchvision with ids beside": ("results.json", {"image_ids": [*FILES], "predictions": [*IMAGES.values()]}),
    "torchvision in lines": ("results.jsonl", "\n".join(map(json.dumps, TORCHVISION))),
    "in order": ("results.json", [*IMAGES.values()]),
    "supervision": ("detections.json", sink()),
    "supervision CSV": ("detections.csv", pd.DataFrame(sink()).to_csv(index=False)),
    "FiftyOne samples": ("samples.json", fiftyone_samples()),
    "FiftyOne labels": ("labels.json", FIFTYONE_LABELS),
    "CSV": ("results.csv", frame("x1,y1,x2,y2", "image_id", "category_id").to_csv(index=False)),
    "CSV of lists": ("results.csv", frame("bbox", "file_name", "class").to_csv()),
    "CSV of Excel": (
        "results.csv.gz",
        gzip.compress(frame("XMin,YMin,XMax,YMax", "Image", "Label Name").to_csv(sep=";").encode("utf-16")),
    ),
    "TSV": ("results.tsv", frame("x,y,w,h", "file_name", "category_name").to_csv(sep="\t")),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_text(name: str, tmp_path: Path) -> None:
    file, content = TEXTS[name]
    found = result_files.read(write(tmp_path / file, content), TRUTH)
    same(found, atol=1e-9 if "FiftyOne" in name else 0)


@pytest.mark.parametrize("boxes", ["x1,y1,x2,y2", "left,top,right,bottom", "bbox_x1,bbox_y1,bbox_x2,bbox_y2", "bbox"])
@pytest.mark.parametrize(("image", "category"), [("image_id", "category_id"), ("path", "label")])
def test_parquet(boxes: str, image: str, category: str, tmp_path: Path) -> None:
    frame(boxes, image, category).to_parquet(tmp_path / "results.parquet")
    same(result_files.read(tmp_path / "results.parquet", TRUTH))


def tensors(image: dict[str, list[Any]]) -> dict[str, torch.Tensor]:
    """Views of one tensor, as they come out of non-maximum suppression, in several types."""
    dets = torch.tensor([[*box, score] for box, score in zip(image["boxes"], image["scores"], strict=True)])
    return {"bboxes": dets[:, :4], "scores": dets[:, 4].half(), "labels": torch.tensor(image["labels"])}


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("named", ["img_id", "img_path"])
def test_mmdet_3(named: str, protocol: int, tmp_path: Path) -> None:
    samples = [
        {named: i if named == "img_id" else f"data/coco/{FILES[i]}", "ori_shape": (32, 64),
         "scale_factor": np.ones(2), "pred_instances": tensors(image)} for i, image in IMAGES.items()
    ]  # fmt: skip
    found = result_files.read(write(tmp_path / "results.pkl", pickle.dumps(samples, protocol)), TRUTH)
    same(found)
    assert "mmdet" in found.notes[0] and "counted from 0" in found.notes[0]


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("with_masks", [False, True])
def test_mmdet_2(with_masks: bool, protocol: int, tmp_path: Path) -> None:
    content: Any = mmdet_2()
    if with_masks:
        rle = {"size": [2, 2], "counts": b"04"}
        content = [(image, [[rle] * len(found) for found in image]) for image in content]
    found = result_files.read(write(tmp_path / "results.pkl", pickle.dumps(content, protocol)), TRUTH)
    order = [
        n for i in FILES for c in NAMES for n, (image, category, _) in enumerate(BOXES) if (image, category) == (i, c)
    ]
    inverse = np.argsort(order)
    assert found.masks is None if not with_masks else len(found.masks) == len(RESULTS)
    same(type(found)(*(getattr(found, f)[inverse] for f in ("image_ids", "labels", "boxes", "scores"))))
    assert "in the order of the annotations" in found.notes[0]


@pytest.mark.parametrize("new", [True, False])
def test_torch_files(new: bool, tmp_path: Path) -> None:
    path = tmp_path / "instances_predictions.pth"
    contiguous = [{**r, "category_id": label(r)} for r in RESULTS]
    images = [{"image_id": i, "instances": [r for r in contiguous if r["image_id"] == i]} for i in FILES]
    torch.save(images, path, _use_new_zipfile_serialization=new)
    assert result_files.is_results(path)
    found = result_files.read(path, TRUTH)
    same(found)
    assert "detectron2" in found.notes[0]
    images = [{"image_id": torch.tensor(i), **tensors(image)} for i, image in IMAGES.items()]
    torch.save(images, path, _use_new_zipfile_serialization=new)
    same(result_files.read(path, TRUTH))
    torch.save({"state_dict": {"a": torch.ones(2)}}, path, _use_new_zipfile_serialization=new)
    assert not result_files.is_results(path)


def test_this_suites_own(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    found = result_files.read(write(tmp_path / "results.json", RESULTS), TRUTH)
    found.save(tmp_path / "run" / "detections.npz")
    for path in (tmp_path / "run", tmp_path / "run" / "detections.npz"):
        same(result_files.read(path, TRUTH))


def test_nothing_is_needed_of_torch_to_read(tmp_path: Path) -> None:
    """In a process without it."""
    import subprocess
    import sys

    samples = [{"img_id": i, "pred_instances": tensors(image)} for i, image in IMAGES.items()]
    write(tmp_path / "results.pkl", pickle.dumps(samples))
    torch.save(samples, tmp_path / "results.pth")
    write(tmp_path / "val.json", ANNOTATIONS)
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from imbalance_bench.categories import CategoryTable\n"
        "from imbalance_bench.evaluation import result_files\n"
        "from imbalance_bench.evaluation.ground_truth import GroundTruth\n"
        "truth = GroundTruth.read('val.json', CategoryTable.from_annotations('val.json'))\n"
        "print(*(len(result_files.read(name, truth)) for name in ('results.pkl', 'results.pth')))"
    )
    path = {"PYTHONPATH": str(Path(result_files.__file__).parents[3]), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=path, capture_output=True, text=True)
    assert done.stdout.split() == ["7", "7"], done.stderr


def test_masks_come_with_the_detections_that_stay(tmp_path: Path) -> None:
    from imbalance_bench.evaluation.rle import Masks, encode

    rng = np.random.default_rng(0)
    masks = [encode(rng.random((1, SIZES[r["image_id"]][1], SIZES[r["image_id"]][0])) < 0.5)[0] for r in RESULTS]
    texts = [{**mask, "counts": mask["counts"].decode()} for mask in masks]
    results = [{**r, "segmentation": mask} for r, mask in zip(RESULTS, texts, strict=True)]
    results[2]["image_id"] = 999
    found = result_files.read(write(tmp_path / "results.segm.json", results), TRUTH)
    assert found.masks == Masks.join([mask for n, mask in enumerate(texts) if n != 2])
    samples = [
        {"img_id": i, "pred_instances": {**tensors(image), "masks": [m for m, r in zip(masks, RESULTS, strict=True)
                                                                    if r["image_id"] == i]}}
        for i, image in IMAGES.items()
    ]  # fmt: skip
    found = result_files.read(write(tmp_path / "results.pkl", pickle.dumps(samples)), TRUTH)
    same(found)
    assert found.masks == Masks.join(texts)


def test_a_pickle_in_memory_is_a_file(tmp_path: Path) -> None:
    """Protocols 0 and 1 do not begin with a mark: the suffix tells."""
    for protocol in (0, 1):
        buffer = io.BytesIO()
        pickle.dump(RESULTS, buffer, protocol)
        same(result_files.read(write(tmp_path / "results.pkl", buffer.getvalue()), TRUTH))
