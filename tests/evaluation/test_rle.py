"""Masks: results equal the official packages', and corrupt masks never reach compiled code."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from packages import MEASURES, faster, pycocotools
from pycocotools import mask as coco_mask

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation import average_precision as detection
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.rle import Masks, to_rle
from imbalance_bench.runtime.errors import InputError

VAL100 = Path(__file__).resolve().parents[1] / "data" / "lvis_v0.5_val100"
IDS = np.array([3, 5, 8, 13])
SIZE = (60, 80)


def evaluate(detections, annotations, categories, *, lvis_style, iou_type="bbox", **options):
    truth = GroundTruth.read(annotations, categories, lvis_style=lvis_style, iou_type=iou_type)
    return detection.evaluate(detections, truth, **options)


def table():
    return CategoryTable(IDS, tuple(f"c{i}" for i in IDS), np.arange(4), np.arange(4), tuple("rcfr"), (2, 3))


def ellipse(x, y, w, h, size=SIZE):
    rows, columns = np.ogrid[: size[0], : size[1]]
    return ((columns - x - w / 2) / (w / 2)) ** 2 + ((rows - y - h / 2) / (h / 2)) ** 2 <= 1


def rle(mask):
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))


def as_json(compressed):
    return {"size": list(compressed["size"]), "counts": compressed["counts"].decode()}


def uncompressed(mask):
    runs, value = [0], 0
    for pixel in mask.T.flatten().tolist():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return {"size": list(mask.shape), "counts": runs}


def segmented_set(seed, crowd=False):
    """Ellipses as compressed and uncompressed RLE and as polygons, and jittered detections of them."""
    rng = np.random.default_rng(seed)
    content = {"images": [], "annotations": [], "categories": [{"id": int(i), "name": f"c{i}"} for i in IDS]}
    found = []
    for image in range(12):
        present = rng.choice(IDS[:-1], 2, replace=False)
        for category in rng.choice(present, rng.integers(1, 6)):
            x, y, w, h = (*rng.uniform(0, 40, 2), *rng.uniform(6, 25, 2))
            mask = ellipse(x, y, w, h)
            forms = [as_json(rle(mask)), uncompressed(mask), [[x, y, x + w, y, x + w, y + h, x, y + h]]]
            number = len(content["annotations"]) + 1
            content["annotations"].append(
                {"id": number, "image_id": image, "category_id": int(category), "bbox": [x, y, w, h],
                 "area": float(mask.sum()), "segmentation": forms[number % 3],
                 "iscrowd": int(crowd and number % 3 == 1 and rng.random() < 0.4)}
            )  # fmt: skip
            for _ in range(3):
                jittered = np.array([x, y, w, h]) + rng.normal(0, 0.15, 4) * [w, h, w, h]
                jittered[2:] = jittered[2:].clip(3)
                label = np.searchsorted(IDS, category) if rng.random() < 0.8 else rng.integers(4)
                found.append((image, label, jittered, rle(ellipse(*jittered)), round(rng.random(), 2)))
        content["images"].append(
            {"id": image, "height": SIZE[0], "width": SIZE[1], "neg_category_ids": IDS[-1:].tolist(),
             "not_exhaustive_category_ids": present[:1].tolist()}
        )  # fmt: skip
    images, labels, boxes, masks, scores = zip(*found, strict=True)
    corners = np.array(boxes)
    corners[:, 2:] += corners[:, :2]
    return content, Detections(
        np.array(images), np.array(labels), corners.astype(np.float32), np.array(scores, np.float32), Masks.join(masks)
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_masks_of_a_federated_set_are_the_official_packages(seed):
    content, detections = segmented_set(seed)
    ours, official = (
        evaluate(detections, content, table(), lvis_style=True, evaluator=e, iou_type="segm")
        for e in ("hotcoco", "lvis")
    )
    theirs = faster(detections, GroundTruth.read(content, table(), lvis_style=True, iou_type="segm"))
    pd.testing.assert_frame_equal(ours[MEASURES], theirs, rtol=0, atol=1e-12)
    pd.testing.assert_frame_equal(ours, official, rtol=0, atol=1e-12)
    assert ours["ap"][:3].between(0.02, 0.95).all()
    boxes = evaluate(detections, content, table(), lvis_style=True)
    assert not np.allclose(ours["ap"][:3], boxes["ap"][:3])


def test_masks_with_crowd_regions_are_pycocotools():
    content, detections = segmented_set(3, crowd=True)
    ours = evaluate(detections, content, table(), lvis_style=False, iou_type="segm")
    theirs = pycocotools(content, detections, table(), iou_type="segm")
    pd.testing.assert_frame_equal(ours[MEASURES], theirs, rtol=0, atol=1e-12)


def test_masks_of_real_lvis_annotations():
    content = json.loads((VAL100 / "lvis_val_100.json").read_text())
    categories = CategoryTable.from_annotations(content)
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    entries = content["annotations"]
    boxes = np.array([e["bbox"] for e in entries])
    boxes[:, 2:] += boxes[:, :2]
    columns = (
        np.array([e["image_id"] for e in entries]),
        categories.labels_of([e["category_id"] for e in entries]),
        boxes,
    )
    exact = [to_rle(e["segmentation"], *sizes[e["image_id"]]) for e in entries]
    perfect = Detections(*columns, np.linspace(1, 0.1, len(entries)), Masks.join(exact))
    assert evaluate(perfect, content, categories, lvis_style=True, iou_type="segm")["ap"].mean() == pytest.approx(1)
    # Each mask moved by a few pixels.
    rng = np.random.default_rng(0)
    moved = [rle(np.roll(coco_mask.decode(mask), rng.integers(-6, 7, 2), axis=(0, 1))) for mask in exact]
    noisy = Detections(*columns, rng.random(len(entries)), Masks.join(moved))
    ours, official = (
        evaluate(noisy, content, categories, lvis_style=True, evaluator=e, iou_type="segm") for e in ("hotcoco", "lvis")
    )
    theirs = faster(noisy, GroundTruth.read(content, categories, lvis_style=True, iou_type="segm"))
    pd.testing.assert_frame_equal(ours[MEASURES], theirs, rtol=0, atol=1e-9)
    pd.testing.assert_frame_equal(ours, official, rtol=0, atol=1e-9)
    assert 0.2 < ours["ap"].mean() < 0.9


def test_a_mask_survives_its_file(tmp_path):
    _, detections = segmented_set(0)
    detections.save(tmp_path / "detections.npz")
    again = Detections.load(tmp_path / "detections.npz")
    for number in (0, 7, len(detections) - 1):
        assert again.masks.rle(number) == detections.masks.rle(number)
    results = [
        {"image_id": int(detections.image_ids[i]), "category_id": int(IDS[detections.labels[i]]),
         "bbox": [0, 0, 1, 1], "score": 0.5, "segmentation": detections.masks.rle(i)}
        for i in range(len(detections))
    ]  # fmt: skip
    (tmp_path / "results.json").write_text(json.dumps(results))
    read = Detections.from_coco(tmp_path / "results.json", table())
    assert [read.masks.rle(i) for i in range(3)] == [detections.masks.rle(i) for i in range(3)]
    rows = np.array([5, 0, 0, 7])
    taken = detections.masks.take(rows)
    assert [taken.rle(i) for i in range(4)] == [detections.masks.rle(i) for i in rows]
    assert len(taken.take(rows[:0])) == 0


def test_run_lengths_are_checked_against_the_decoder():
    rng = np.random.default_rng(0)
    for _ in range(100):
        size = rng.integers(1, 50, 2)
        mask = rng.random(size) < rng.choice([0, 0.02, 0.5, 0.98, 1])
        np.testing.assert_array_equal(coco_mask.decode(Masks.join([rle(mask)]).rle(0)), mask)
    whole, refused = rle(ellipse(3, 4, 30, 20)), 0
    for _ in range(500):
        counts = bytearray(whole["counts"])
        counts[rng.integers(len(counts))] = rng.integers(33, 127)
        try:
            Masks.join([{"size": whole["size"], "counts": bytes(counts)}])
        except ValueError:
            refused += 1
            continue
        # What passes covers its size, so that decoding it again changes nothing.
        decoded = coco_mask.decode({"size": whole["size"], "counts": bytes(counts)})
        np.testing.assert_array_equal(coco_mask.decode(rle(decoded)), decoded)
    assert refused > 400


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": [60, 81]}, "cover"),
        ({"size": [0, 80]}, "size"),
        ({"size": [2**40, 80]}, "size"),
        ({"size": "large"}, "size"),
        ({"counts": "\x01\x02"}, "run lengths"),
        ({"counts": "P" * 40}, "run"),
        ({"counts": None}, "counts"),
    ],
)
def test_corrupt_masks_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Masks.join([as_json(rle(ellipse(3, 4, 30, 20))) | changes])


@pytest.mark.parametrize(
    "segmentation",
    [
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, float("nan")]],
        [],
        {"size": [60, 81], "counts": [60 * 81]},
        {"size": [60, 80], "counts": [-1, 4801]},
        {"size": [60, 80], "counts": [5]},
        {"size": [60, 80], "counts": "junk!"},
        None,
        "text",
    ],
)
def test_bad_annotations_are_named(segmentation):
    content, detections = segmented_set(0)
    content["annotations"][4]["segmentation"] = segmentation
    with pytest.raises(InputError, match=r"annotations\[4\]: field 'segmentation'"):
        evaluate(detections, content, table(), lvis_style=True, iou_type="segm")


def test_missing_masks_are_named():
    content, detections = segmented_set(0)
    without = Detections(detections.image_ids, detections.labels, detections.boxes, detections.scores)
    with pytest.raises(InputError, match="carry no masks"):
        evaluate(without, content, table(), lvis_style=True, iou_type="segm")
    del content["annotations"][2]["segmentation"]
    with pytest.raises(InputError, match=r"annotations\[2\]: field 'segmentation' is missing"):
        evaluate(detections, content, table(), lvis_style=True, iou_type="segm")
    content, detections = segmented_set(0)
    for image in content["images"]:
        image["height"], image["width"] = image["width"], image["height"]
    with pytest.raises(InputError, match="'size'"):
        evaluate(detections, content, table(), lvis_style=True, iou_type="segm")
