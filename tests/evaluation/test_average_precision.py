import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from packages import MEASURES, faster, official, pycocotools

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation import average_precision as detection
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.references import lvis_package
from imbalance_bench.runtime.errors import InputError

VAL100 = Path(__file__).resolve().parents[1] / "data" / "lvis_v0.5_val100"
IDS = np.array([3, 5, 8, 13, 21, 40])


def evaluate(detections, annotations, categories, *, lvis_style, iou_type="bbox", **options):
    truth = GroundTruth.read(annotations, categories, lvis_style=lvis_style, iou_type=iou_type)
    return detection.evaluate(detections, truth, **options)


def table(ids=IDS):
    n = len(ids)
    return CategoryTable(ids, tuple(f"c{i}" for i in ids), np.arange(n), np.arange(n), tuple(("rcf" * n)[:n]), (2, 4))


def federated_set(seed=0, images=25, crowd=False):
    """Random boxes of all categories but the last; each image judges some of the categories it lacks."""
    rng = np.random.default_rng(seed)
    content = {"images": [], "annotations": [], "categories": [{"id": int(i), "name": f"c{i}"} for i in IDS]}
    for image in range(images):
        present = rng.choice(IDS[:-1], 3, replace=False)
        for category in rng.choice(present, rng.integers(1, 9)):
            x, y, w, h = (*rng.uniform(0, 200, 2), *rng.uniform(10, 90, 2))
            content["annotations"].append(
                {"id": len(content["annotations"]), "image_id": image, "category_id": int(category),
                 "bbox": [x, y, w, h], "area": w * h, "iscrowd": int(crowd and rng.random() < 0.15)}
            )  # fmt: skip
        absent = np.setdiff1d(IDS, present)
        content["images"].append(
            {"id": image, "width": 300, "height": 300, "neg_category_ids": absent[:2].tolist(),
             "not_exhaustive_category_ids": present[:1].tolist()}
        )  # fmt: skip
    return content


def noisy(content, seed=0, per_box=4, noise=0.12, random_boxes=12):
    """Jittered copies of the boxes with some labels wrong, and boxes anywhere; scores in steps, so that some tie."""
    rng = np.random.default_rng(seed)
    rows = []
    for entry in content["annotations"]:
        for _ in range(per_box):
            x, y, w, h = np.array(entry["bbox"]) + rng.normal(0, noise, 4) * np.tile(entry["bbox"][2:], 2)
            label = np.searchsorted(IDS, entry["category_id"]) if rng.random() < 0.8 else rng.integers(len(IDS))
            rows.append((entry["image_id"], label, x, y, x + max(w, 1), y + max(h, 1)))
    for image in content["images"]:
        for x, y, w, h in rng.uniform(1, 150, (random_boxes, 4)):
            rows.append((image["id"], rng.integers(len(IDS)), x, y, x + w, y + h))
    rows = np.array(rows)[rng.permutation(len(rows))]
    scores = np.round(rng.random(len(rows)), 2).astype(np.float32)
    return Detections(rows[:, 0].astype(int), rows[:, 1].astype(int), rows[:, 2:].astype(np.float32), scores)


def perfect(content):
    boxes = np.array([a["bbox"] for a in content["annotations"]])
    labels = np.searchsorted(IDS, [a["category_id"] for a in content["annotations"]])
    images = np.array([a["image_id"] for a in content["annotations"]])
    boxes[:, 2:] += boxes[:, :2]
    return Detections(images, labels, boxes.astype(np.float32), np.full(len(boxes), 0.9, np.float32))


@pytest.mark.parametrize("evaluator", ["hotcoco", "lvis"])
@pytest.mark.parametrize("case", ["gt_as_dt", "perturbed_seed0"])
def test_real_lvis_annotations_give_the_official_numbers(evaluator, case):
    content = json.loads((VAL100 / "lvis_val_100.json").read_text())
    expected = json.loads((VAL100 / "expected_lvis_0.5.3_stats.json").read_text())[case]
    categories = CategoryTable.from_annotations(content)
    perturbed = json.loads((VAL100 / "perturbed_results_100_seed0.json").read_text())
    entries = content["annotations"] if case == "gt_as_dt" else perturbed
    boxes = np.array([e["bbox"] for e in entries])
    boxes[:, 2:] += boxes[:, :2]
    detections = Detections(
        np.array([e["image_id"] for e in entries]),
        categories.labels_of([e["category_id"] for e in entries]),
        boxes,
        np.array([e.get("score", 1.0) for e in entries]),
    )
    frame = evaluate(detections, content, categories, lvis_style=True, evaluator=evaluator)
    frequency = np.array([c["frequency"] for c in sorted(content["categories"], key=lambda c: c["id"])])
    got = {"AP": frame["ap"].mean(), "AP50": frame["ap50"].mean(), "AP75": frame["ap75"].mean(),
           "AR@300": frame["recall"].mean()}  # fmt: skip
    got |= {f"AP{f}": frame["ap"][frequency == f].mean() for f in "rcf"}
    assert got == pytest.approx({name: expected[name] for name in got}, abs=1e-9)
    assert frame["val_instances"].sum() == len(content["annotations"])


@pytest.mark.parametrize("seed", [0, 1])
def test_both_evaluators_are_the_packages_per_category_on_a_federated_set(seed, tmp_path):
    content = federated_set(seed)
    detections = noisy(content, seed)
    ours, theirs = (
        evaluate(detections, content, table(), lvis_style=True, evaluator=e, max_detections=15)
        for e in ("hotcoco", "lvis")
    )
    pd.testing.assert_frame_equal(ours, theirs, rtol=0, atol=1e-12)
    truth = GroundTruth.read(content, table(), lvis_style=True)
    for reference in (faster(detections, truth, 15), official(content, detections, table(), tmp_path, 15)):
        pd.testing.assert_frame_equal(ours[MEASURES], reference, rtol=0, atol=1e-12)
    assert ours["ap"].isna().tolist() == [False] * 5 + [True]
    assert ours["ap"].between(0.05, 0.95)[:5].all()
    # The limit is of an image, not of an image and category.
    unlimited = evaluate(detections, content, table(), lvis_style=True)
    assert (unlimited["recall"][:5] > ours["recall"][:5]).all()


def test_federated_rules_change_the_values():
    content = federated_set()
    detections = noisy(content)
    frame = evaluate(detections, content, table(), lvis_style=True)
    for image in content["images"]:
        image["not_exhaustive_category_ids"] = []
    strict = evaluate(detections, content, table(), lvis_style=True)
    for image in content["images"]:
        image["neg_category_ids"] = IDS.tolist()
    exhaustive = evaluate(detections, content, table(), lvis_style=True)
    as_coco = evaluate(detections, content, table(), lvis_style=False)
    assert (frame["ap"][:5] > strict["ap"][:5]).all()
    assert (strict["ap"][:5] > exhaustive["ap"][:5]).all()
    pd.testing.assert_frame_equal(exhaustive, as_coco)


@pytest.mark.parametrize("max_detections", [300, 2])
def test_coco_style_equals_pycocotools_crowds_included(max_detections):
    content = federated_set(crowd=True)
    detections = noisy(content)
    frame = evaluate(detections, content, table(), lvis_style=False, max_detections=max_detections)
    reference = pycocotools(content, detections, table(), max_detections)
    pd.testing.assert_frame_equal(frame[MEASURES], reference, rtol=0, atol=1e-12)
    whole = [a for a in content["annotations"] if not a["iscrowd"]]
    assert frame["val_instances"].tolist() == [sum(a["category_id"] == i for a in whole) for i in IDS]
    assert frame["val_images"].tolist() == [len({a["image_id"] for a in whole if a["category_id"] == i}) for i in IDS]


@pytest.mark.parametrize(
    ("lvis_style", "evaluator"),
    [(True, "hotcoco"), (True, "lvis"), (False, "hotcoco")],
)
def test_perfect_detections_and_none(lvis_style, evaluator):
    content = federated_set()
    options = {"lvis_style": lvis_style, "evaluator": evaluator}
    frame = evaluate(perfect(content), content, table(), **options)
    np.testing.assert_allclose(frame[MEASURES].iloc[:5], 1, atol=1e-12)
    assert frame[MEASURES].iloc[5].isna().all()
    nothing = evaluate(Detections.from_images([], []), content, table(), **options)
    assert (nothing[MEASURES].iloc[:5] == 0).all(axis=None)
    assert nothing[MEASURES].iloc[5].isna().all()


def test_fields_that_annotations_may_lack_and_reading_from_a_file(tmp_path):
    content = federated_set()
    detections = noisy(content)
    for image in content["images"]:
        image["neg_category_ids"] = image["not_exhaustive_category_ids"] = []
    full = evaluate(detections, content, table(), lvis_style=True)
    for image in content["images"]:
        del image["neg_category_ids"], image["not_exhaustive_category_ids"], image["width"]
    for entry in content["annotations"]:
        del entry["area"], entry["iscrowd"], entry["id"]
    before = json.dumps(content)
    (tmp_path / "val.json").write_text(before)
    for evaluator in ("hotcoco", "lvis"):
        frame = evaluate(detections, tmp_path / "val.json", table(), lvis_style=True, evaluator=evaluator)
        pd.testing.assert_frame_equal(frame, full, rtol=0, atol=1e-12)
    evaluate(detections, content, table(), lvis_style=True)
    assert json.dumps(content) == before


def test_a_federated_box_without_area_counts_for_neither_evaluator():
    content = federated_set()
    detections = noisy(content)
    flat = Detections(
        np.append(detections.image_ids, 0), np.append(detections.labels, 0),
        np.vstack([detections.boxes, [5, 5, 5, 9]]), np.append(detections.scores, 1),
    )  # fmt: skip
    content["annotations"].append({"image_id": 0, "category_id": int(IDS[0]), "bbox": [9, 9, 0, 4], "id": 9999})
    expected = evaluate(detections, federated_set(), table(), lvis_style=True)
    for evaluator in ("hotcoco", "lvis"):
        frame = evaluate(flat, content, table(), lvis_style=True, evaluator=evaluator)
        pd.testing.assert_frame_equal(frame, expected, rtol=0, atol=1e-12)


def test_thelvis_package_leaves_no_trace(capfd):
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    content = federated_set(images=3)
    for evaluator in ("lvis", "hotcoco"):
        evaluate(noisy(content), content, table(), lvis_style=True, evaluator=evaluator)
    assert "float" not in vars(np)
    with pytest.raises(RuntimeError, match="inside"), lvis_package():
        assert np.float is float  # noqa: NPY001
        raise RuntimeError("inside")
    assert "float" not in vars(np)
    assert (root.handlers, root.level) == (handlers, level)
    assert capfd.readouterr() == ("", "")


def test_detections_survive_the_round_trip(tmp_path):
    detections = noisy(federated_set())
    detections.save(tmp_path / "detections.npz")
    again = Detections.load(tmp_path / "detections.npz")
    for field in ("image_ids", "labels", "boxes", "scores"):
        np.testing.assert_array_equal(getattr(again, field), getattr(detections, field))
        assert getattr(again, field).dtype == getattr(detections, field).dtype
    assert [path.name for path in tmp_path.iterdir()] == ["detections.npz"]


def test_bad_detection_files_are_named_with_the_field(tmp_path):
    good = {"image_ids": np.zeros(2, int), "labels": np.zeros(2, int), "boxes": np.zeros((2, 4)), "scores": np.ones(2)}
    bad = {
        "boxes": np.zeros((2, 5)),
        "labels": np.zeros(2),
        "scores": np.array([0.5, np.nan]),
        "image_ids": np.array([{}, {}], dtype=object),
    }
    for field, value in bad.items():
        np.savez(tmp_path / "bad.npz", **(good | {field: value}))
        with pytest.raises(InputError, match=r"bad\.npz: .*(" + field + "|pickle)"):
            Detections.load(tmp_path / "bad.npz")
    np.savez(tmp_path / "bad.npz", **{name: good[name] for name in ("image_ids", "boxes", "scores")})
    with pytest.raises(InputError, match="field 'labels' is missing"):
        Detections.load(tmp_path / "bad.npz")
    for damaged in (b"", b"not an archive", (tmp_path / "bad.npz").read_bytes()[:200]):
        (tmp_path / "damaged.npz").write_bytes(damaged)
        with pytest.raises(InputError, match=r"damaged\.npz: not readable"):
            Detections.load(tmp_path / "damaged.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(InputError, match=r"array\.npy"):
        Detections.load(tmp_path / "array.npy")
    with pytest.raises(InputError, match="no such file"):
        Detections.load(tmp_path / "absent.npz")


def test_bad_annotations_and_strangers_are_named():
    content = federated_set(images=2)
    detections = perfect(content)
    with pytest.raises(InputError, match="'image_ids' has 77"):
        evaluate(Detections([77], [0], np.zeros((1, 4)), [1.0]), content, table(), lvis_style=True)
    with pytest.raises(InputError, match="'labels' leaves the range 0 to 5"):
        evaluate(Detections([0], [6], np.zeros((1, 4)), [1.0]), content, table(), lvis_style=True)
    for field in ("bbox", "image_id", "category_id"):
        annotations = [{k: v for k, v in a.items() if k != field} for a in content["annotations"]]
        with pytest.raises(InputError, match=f"'{field}' is missing"):
            evaluate(detections, content | {"annotations": annotations}, table(), lvis_style=True)
    for entry, message in [
        ({"bbox": [1, 2, 3]}, r"annotations\[0\]: field 'bbox' is \[1, 2, 3\], expected four finite numbers"),
        ({"bbox": [1, 2, 3, float("nan")]}, r"'bbox' is \[1, 2, 3, nan\]"),
        ({"bbox": [1, 2, 3, 1e200]}, r"'bbox' is \[1, 2, 3, 1e\+200\]"),
        ({"bbox": [1, 2, 3, True]}, "'bbox' is"),
        ({"area": None}, "'area' is null"),
        ({"area": "9"}, "'area' is text '9'"),
        ({"iscrowd": 2}, "'iscrowd' is 2"),
        ({"image_id": "0"}, "'image_id' is text '0', expected a whole number"),
        ({"image_id": 0.5}, "'image_id' is 0.5"),
        ({"category_id": 2**64}, "'category_id' is 18446744073709551616"),
        ({"category_id": []}, r"'category_id' is \[\]"),
        ({"category_id": 4}, "'category_id' is 4"),
        ({"image_id": 9}, "'image_id' is 9"),
    ]:
        annotations = [content["annotations"][0] | entry]
        with pytest.raises(InputError, match=message):
            evaluate(detections, content | {"annotations": annotations}, table(), lvis_style=False)
    with pytest.raises(ValueError, match="federated"):
        evaluate(detections, content, table(), lvis_style=False, evaluator="lvis")
