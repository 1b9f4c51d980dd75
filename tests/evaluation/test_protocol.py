"""The description of an evaluation, against counts by hand and against what training uses."""

import json
from dataclasses import replace

import numpy as np
import pytest

from imbalance_bench.categories import CategoryTable
from imbalance_bench.detectors.mmdet.annotation_dataset import AnnotationDataset
from imbalance_bench.evaluation.average_precision import evaluate
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.protocol import describe
from imbalance_bench.runtime.errors import InputError

IDS = np.array([2, 3, 5, 9])
ONE = np.ones(4, int)
CATEGORIES = CategoryTable(IDS, tuple("abcd"), ONE, ONE, tuple("rcfr"))
BOXES = {
    1: [(2, [10, 10, 20, 20]), (3, [40, 40, 30, 9])],
    2: [(2, [5, 5, 50, 60]), (5, [70, 20, 20, 70])],
    3: [],
    4: [],
}

NOTHING = Detections.from_images([], [])


def content(area=None, change=list, **images):
    """Four images, two without a box; keyword arguments are fields of images by their id."""
    entries = [(i, c, change(b)) for i, boxes in BOXES.items() for c, b in boxes]
    return {
        "images": [
            {"id": i, "height": 100, "width": 100, "file_name": "x", **{f: v[i] for f, v in images.items() if i in v}}
            for i in BOXES
        ],
        "categories": [{"id": int(i), "name": n} for i, n in zip(IDS, "abcd", strict=True)],
        "annotations": [
            {"id": n, "image_id": i, "category_id": c, "bbox": b, **({} if area is None else {"area": area})}
            for n, (i, c, b) in enumerate(entries, start=1)
        ],
    }


def found(content, ids=None, change=list):
    """Every box found, its category id put through a table."""
    rows = [(e["image_id"], (ids or {}).get(e["category_id"], e["category_id"]), e["bbox"]) for e in content]
    boxes = np.array([change([x, y, x + w, y + h]) for _, _, (x, y, w, h) in rows], float)
    return Detections([i for i, *_ in rows], CATEGORIES.labels_of([c for _, c, _ in rows]), boxes, np.ones(len(rows)))


def said(annotations, detections=None):
    return describe(GroundTruth.read(annotations, CATEGORIES), detections)


def test_coco_rules():
    plain = content()
    lines = [
        "rules: COCO's, every class is judged in every image",
        "counted: 4 boxes of 3 classes; 1 of 4 classes have no box, so no AP; "
        "2 of 4 images have none, all found there is false",
    ]
    assert said(plain) == lines
    assert said(plain, found(plain["annotations"])) == lines
    plain["annotations"][0]["iscrowd"] = 1
    assert said(plain)[0] == "rules: COCO's, every class is judged in every image; 1 crowd region ignored"
    assert said(plain)[1].startswith("counted: 3 boxes of 3 classes;")
    only = content(not_exhaustive_category_ids={1: [2]})
    assert said(only)[0].endswith("; not_exhaustive_category_ids is not used, for no image has neg_category_ids")
    truth = GroundTruth.read(content(neg_category_ids={1: [5]}), CATEGORIES, lvis_style=False)
    assert "its neg_category_ids are not used, as the data set is known to be" in describe(truth)[0]


def test_federated_rules():
    lists = {"neg_category_ids": {1: [5], 2: [], 3: [9]}, "not_exhaustive_category_ids": {1: [2, 3], 2: [5]}}
    assert said(content(**lists)) == [
        "rules: LVIS's (federated), a class is judged in images that have it or list it in neg_category_ids "
        "(1 of 4 images lack this field); not exhaustive in 3 pairs of image and class",
        "counted: 4 boxes of 3 classes; 1 of 4 classes have no box, so no AP; "
        "2 of 4 images have none: 1 with absent classes alone, 1 with no class judged",
    ]
    crowd = content(**lists)
    crowd["annotations"][0]["iscrowd"] = 1
    assert said(crowd)[2] == "look at: 'iscrowd' of 1 box has no meaning in LVIS's rules"


@pytest.mark.parametrize("area", [0, -1])
def test_areas_that_are_placeholders(area):
    lists = {"neg_category_ids": {image: [] for image in BOXES}}
    lines = said(content(area, **lists))
    assert "counted: 0 boxes of 0 classes" in lines[1] and "4 of 4 boxes have area <= 0 and are left out" in lines[1]
    assert lines[2] == "look at: field 'area' of 4 boxes is <= 0 though the sides are not"
    lines = said(content(area))
    assert ("4 of 4 boxes have area < 0 and are ignored" in lines[1]) == (area < 0)
    # What is said to count is what the table counts.
    for annotations in (content(area), content(area, **lists)):
        frame = evaluate(NOTHING, GroundTruth.read(annotations, CATEGORIES))
        assert f"counted: {frame['val_instances'].sum()} box" in said(annotations)[1]
        assert (frame["val_instances"] > 0).tolist() == frame["ap"].notna().tolist()


def test_boxes_of_other_conventions():
    normalised = content(change=lambda box: [v / 100 for v in box])
    assert said(normalised)[2] == "look at: all boxes lie within 1 x 1 pixel: are they normalised?"
    plain = content()
    detections = found(plain["annotations"], change=lambda box: [v / 100 for v in box])
    assert said(plain, detections)[2] == "look at: all detections lie within 1 x 1 pixel: are they normalised?"
    detections = found(plain["annotations"], change=lambda box: [*box[:2], box[2], box[1] - 5])
    assert said(plain, detections)[2] == "look at: 4 of 4 detections have a side that is not above 0"
    assert said(plain, NOTHING)[2] == "look at: there are no detections"


def test_sides_below_zero_are_those_that_training_leaves_out(tmp_path):
    odd = content(area=7)
    odd["annotations"][0]["bbox"][3], odd["annotations"][2]["bbox"][2] = -5, 0
    path = tmp_path / "train.json"
    path.write_text(json.dumps(odd))
    dataset = AnnotationDataset(IDS.tolist(), ann_file=str(path), pipeline=[], serialize_data=False)
    used = sum(len(record["instances"]) for record in dataset.data_list)
    assert used == 2
    assert said(odd)[2] == f"look at: {4 - used} of 4 boxes have a side that is not above 0: no training uses them"


def test_boxes_far_beyond_their_image():
    plain = content()
    twice = found(plain["annotations"], change=lambda box: [9 * v for v in box])
    assert said(plain, twice)[2].startswith("look at: 4 of 4 detections reach far beyond their image: are their boxes")
    assert len(said(plain, found(plain["annotations"], change=lambda box: [v - 5 for v in box]))) == 2, "not far"
    without = plain | {"images": [{"id": image} for image in BOXES]}
    assert len(said(without, twice)) == 2, "their sizes are not known"


def test_how_detections_were_read():
    plain = content()
    noted = replace(found(plain["annotations"]), notes=("a table (CSV)", "left out: 1 of 5"))
    assert said(plain, noted)[2] == "read: a table (CSV); left out: 1 of 5"


def test_categories_of_another_data_set_are_refused(tmp_path):
    other = content()
    other["categories"][1]["name"] = "x"
    (tmp_path / "val.json").write_text(json.dumps(other))
    message = "field 'categories': id 3 is 'x', expected 'b' as in the training annotations"
    for given in (other, tmp_path / "val.json"):
        with pytest.raises(InputError, match=message):
            GroundTruth.read(given, CATEGORIES)
    for categories in ([1], [{"name": "a"}], {"id": 2}, [{"id": [2], "name": "a"}]):
        with pytest.raises(InputError, match="expected"):
            GroundTruth.read(other | {"categories": categories}, CATEGORIES)
