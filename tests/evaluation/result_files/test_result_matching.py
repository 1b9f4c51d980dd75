"""Images and classes of results are those of the annotations: names before ids, and boxes where ids do not tell."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_results import ANNOTATIONS, FILES, NAMES, RESULTS, TRUTH, by_image, corners, expected, same, write

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation import result_files
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.result_files.overlaps import boxes_met
from imbalance_bench.runtime.errors import InputError


def truth_of(content: dict[str, Any]) -> GroundTruth:
    return GroundTruth.read(content, CategoryTable.from_annotations(content))


def renumbered(ids: dict[int, int]) -> GroundTruth:
    """The annotations with other category ids, listed in the order of the old ones."""
    return truth_of(
        {
            **ANNOTATIONS,
            "categories": [{"id": ids[i], "name": name} for i, name in NAMES.items()],
            "annotations": [{**a, "category_id": ids[a["category_id"]]} for a in ANNOTATIONS["annotations"]],
        }
    )


def read(folder: Path, content: Any, truth: GroundTruth = TRUTH, name: str = "results.json") -> Detections:
    return result_files.read(write(folder / name, content), truth)


def with_classes(ids: dict[int, Any]) -> list[dict[str, Any]]:
    return [{**r, "category_id": ids[r["category_id"]]} for r in RESULTS]


@pytest.mark.parametrize(
    ("annotated", "found", "how"),
    [
        ((1, 2, 3), (0, 1, 2), "counted from 0 by id"),
        ((0, 1, 2), (1, 2, 3), "counted from 1 by id"),
        ((3, 7, 12), (0, 1, 2), "counted from 0 by id"),
        ((3, 7, 12), (1, 2, 3), "counted from 1 by id"),
        ((2, 1, 3), (0, 1, 2), "counted from 0 in the order of the annotation file"),
        ((1, 2, 3), (1, 2, 3), "by id"),
        ((3, 7, 12), (3, 7, 12), "by id"),
        ((2, 1, 3), (2, 1, 3), "by id"),
        # All are ids of the annotations, too.
        ((1, 2, 0), (0, 1, 2), "counted from 0 in the order of the annotation file"),
    ],
)
def test_boxes_tell_what_class_ids_are(
    annotated: tuple[int, ...], found: tuple[int, ...], how: str, tmp_path: Path
) -> None:
    truth = renumbered(dict(zip(NAMES, annotated, strict=True)))
    detections = read(tmp_path, with_classes(dict(zip(NAMES, found, strict=True))), truth)
    names = [truth.categories.names[n] for n in detections.labels]
    assert names == [NAMES[r["category_id"]] for r in RESULTS]
    assert detections.notes[0] == f"COCO results: 7 detections, images by id, classes {how}"
    told = f"classes are {how}, not by id: so 7 of 7 annotated boxes are met by their class, else 0"
    assert detections.notes[1:] == (() if how == "by id" else (told,))


def test_without_a_clear_answer_ids_stay(tmp_path: Path) -> None:
    truth = renumbered({3: 1, 7: 2, 12: 0})
    counted = with_classes({3: 0, 7: 1, 12: 2})
    two = read(tmp_path, counted[:2], truth)
    assert two.labels.tolist() == [0, 1] and two.notes[0].endswith("classes by id")
    elsewhere = [{**r, "bbox": [0, 0, 1, 1]} for r in counted]
    assert read(tmp_path, elsewhere, truth).labels.tolist() == [r["category_id"] for r in counted]
    # Half of the boxes are met by one reading and half by another.
    mixed = [a if n % 2 else b for n, (a, b) in enumerate(zip(counted, with_classes({3: 1, 7: 2, 12: 0}), strict=True))]
    assert len(read(tmp_path, mixed, truth).notes) == 1
    message = (
        r"results\[0\]: field 'category_id' is 0, expected one of the 3 categories \(ids 3 to 12\); ids 0 to 1 may be "
        r"counted from 0 by id, but too few .* tell: give class names, or ids of the annotations"
    )
    with pytest.raises(InputError, match=message):
        read(tmp_path, counted[:2])
    with pytest.raises(InputError, match=r"results\[2\]: field 'category_id' is 77, expected .*\(ids 3 to 12\)$"):
        read(tmp_path, [*RESULTS[:2], {**RESULTS[2], "category_id": 77}])


def test_the_order_of_a_framework_stays_unless_boxes_tell_another(tmp_path: Path) -> None:
    listed = {3: 5, 7: 4, 12: 6}  # labels by id: 1, 0, 2
    truth = renumbered(listed)
    for order, how in (([3, 7, 12], "in the order of the annotation file"), ([7, 3, 12], "by id")):
        samples = [
            [[[*corners(r), r["score"]] for r in RESULTS if (r["image_id"], r["category_id"]) == (i, c)] for c in order]
            for i in FILES
        ]
        content = pickle.dumps([[np.array(found).reshape(-1, 5) for found in image] for image in samples])
        found = read(tmp_path, content, truth, "results.pkl")
        assert f"classes counted from 0 {how}" in found.notes[0]
        names = {(i, *b): truth.categories.names[n] for i, n, b in zip(found.image_ids.tolist(), found.labels,
                                                                      found.boxes.tolist(), strict=True)}  # fmt: skip
        assert names == {(r["image_id"], *corners(r)): NAMES[r["category_id"]] for r in RESULTS}
    with pytest.raises(InputError, match=r"image\[0\]: detection 0: field 'labels' is 3, expected a class from 0 to 2"):
        read(tmp_path, pickle.dumps([[np.ones((int(n == 3), 5)) for n in range(4)]] * 3), truth, "results.pkl")


def test_names_decide_over_ids(tmp_path: Path) -> None:
    wrong = {3: 7, 7: 12, 12: 3}
    rows = [
        {**r, "image_id": 41, "file_name": f"/data/{FILES[r['image_id']]}", "category_id": wrong[r["category_id"]],
         "category_name": NAMES[r["category_id"]]} for r in RESULTS
    ]  # fmt: skip
    same(read(tmp_path, rows))
    spelt = {3: "Traffic_Light", 7: "dog", 12: "BUS "}
    found = read(tmp_path, with_classes(spelt))
    same(found)
    note = "3 names are spelt in another way: Traffic_Light is traffic light, dog is Dog, BUS  is bus"
    assert found.notes[1:] == (note,)
    found = read(tmp_path, with_classes({3: "traffic light", 7: "Dog", 12: "zebra"}))
    kept = [n for n, r in enumerate(RESULTS) if r["category_id"] != 12]
    assert found.scores.tolist() == expected().scores[kept].tolist()
    assert found.notes[1:] == (
        "left out: 2 of 7 detections, of 1 of 3 classes that are not found in the annotations: zebra",
    )
    with pytest.raises(InputError, match=r"none of the classes \(3\) is found .* traffic light, Dog, bus: found a, b"):
        read(tmp_path, with_classes({3: "a", 7: "b", 12: "c"}))


def test_names_that_are_numbers_or_not_unique(tmp_path: Path) -> None:
    digits = {3: "1", 7: "2", 12: "0"}
    categories = [{"id": i, "name": name} for i, name in digits.items()]
    same(read(tmp_path, with_classes(digits), truth_of({**ANNOTATIONS, "categories": categories})))
    same(read(tmp_path, with_classes({i: str(i) for i in NAMES})))
    twice = [{"id": i, "name": "Bus" if i == 3 else "bus" if i == 7 else "x"} for i in NAMES]
    truth = truth_of({**ANNOTATIONS, "categories": twice})
    same(read(tmp_path, with_classes({3: "Bus", 7: "bus", 12: "x"}), truth))
    with pytest.raises(InputError, match="'category_id' is 'BUS', the name of 2 categories in the annotations"):
        read(tmp_path, with_classes({3: "BUS", 7: "bus", 12: "x"}), truth)


def with_images(names: dict[int, Any]) -> list[dict[str, Any]]:
    return [{**r, "image_id": names[r["image_id"]]} for r in RESULTS]


@pytest.mark.parametrize(
    "names",
    [
        FILES,
        {40: "/mnt/d/val/000000000040.jpg", 41: "C:\\d\\val\\b.jpg", 7: "./c.d.jpg"},
        {40: "000000000040", 41: "val/b", 7: "c.d"},
        {40: "000000000040.png", 41: "b.jpeg", 7: "c.d.webp"},
        {40: 40, 41: "b", 7: "c.d"},
        {40: "40", 41: "41", 7: "7"},
        {40: 40.0, 41: 41, 7: 7},
        {40: "/x" * 50_000 + "/val/000000000040.jpg", 41: "b", 7: "c.d"},
    ],
)
def test_images_by_name_or_id(names: dict[int, Any], tmp_path: Path) -> None:
    same(read(tmp_path, with_images(names)))


def folders() -> GroundTruth:
    files = {40: "a/1.jpg", 41: "b/1.jpg", 7: "b/2.jpg"}
    return truth_of({**ANNOTATIONS, "images": [{**i, "file_name": files[i["id"]]} for i in ANNOTATIONS["images"]]})


def test_images_of_the_same_name_in_two_folders(tmp_path: Path) -> None:
    same(read(tmp_path, with_images({40: "x/a/1.jpg", 41: "x/b/1.jpg", 7: "2.jpg"}), folders()))
    found = read(tmp_path, with_images({40: "x/a/1.jpg", 41: "1.jpg", 7: "2.jpg"}), folders())
    assert set(found.image_ids.tolist()) == {40, 7}
    note = (
        "left out: 2 of 7 detections, on 1 of 3 images that are not found in the annotations (1 of them as several "
        "have the name): 1.jpg"
    )
    assert found.notes[1:] == (note,)


def test_images_that_the_annotations_lack(tmp_path: Path) -> None:
    found = read(tmp_path, with_images({40: 40, 41: 1234, 7: 7}))
    assert found.scores.tolist() == [r["score"] for r in RESULTS if r["image_id"] != 41]
    assert found.notes[1:] == (
        "left out: 2 of 7 detections, on 1 of 3 images that are not found in the annotations: 1234",
    )
    message = (
        "'image_id': none of the images \\(3\\) is found in the annotations, which have ids such as 40, 41, ... and "
        r"file names such as val/000000000040.jpg, val/b.jpg, ...: found 1, 2, 3$"
    )
    with pytest.raises(InputError, match=message):
        read(tmp_path, with_images({40: 1, 41: 2, 7: 3}))
    nameless = truth_of({**ANNOTATIONS, "images": [{"id": i} for i in FILES]})
    with pytest.raises(InputError, match="and no file names: found a, b, c"):
        read(tmp_path, with_images({40: "a", 41: "b", 7: "c"}), nameless)


def test_numbers_of_file_names_that_are_ids_of_other_images(tmp_path: Path) -> None:
    files = {40: "7.jpg", 41: "040.jpg", 7: "41.jpg"}
    truth = truth_of({**ANNOTATIONS, "images": [{**i, "file_name": files[i["id"]]} for i in ANNOTATIONS["images"]]})
    found = read(tmp_path, with_images({40: 7, 41: 40, 7: 41}), truth)
    same(found)
    assert "images by the number in the file name" in found.notes[0]
    same(read(tmp_path, RESULTS, truth))
    # Without boxes that tell, they are ids.
    far = [{**r, "bbox": [0, 0, 1, 1]} for r in RESULTS]
    assert "images by id" in read(tmp_path, far, truth).notes[0]


def test_images_in_order_need_to_be_as_many(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"names none of its 2 images, so .* annotations, which have 3: expected"):
        read(tmp_path, [*by_image().values()][:2])
    with pytest.raises(InputError, match="field 'image_ids' has 2 entries of 3 images"):
        read(tmp_path, {"image_ids": [1, 2], "predictions": [*by_image().values()]})


def test_shares_of_sides_need_the_sides(tmp_path: Path) -> None:
    entry = {"label": "bus", "bounding_box": [0.1, 0.1, 0.5, 0.5], "confidence": 0.5}
    content = {"labels": {"b": [entry]}}
    truth = truth_of({**ANNOTATIONS, "images": [{"id": i, "file_name": f} for i, f in FILES.items()]})
    with pytest.raises(InputError, match="shares of the sides of an image, expected 'width' and 'height'"):
        read(tmp_path, content, truth)
    content["labels"]["b"][0] = {**entry, "bounding_box": [10, 10, 50, 50]}
    with pytest.raises(InputError, match="field 'bounding_box' reaches 60, expected shares of the sides"):
        read(tmp_path, content)


def slow_boxes_met(boxes: Any, scores: Any, places: Any, truth: GroundTruth) -> dict[int, int]:
    """Box by box, the row of the best detection with an IoU of at least one half; an earlier one of equals."""
    found: dict[int, int] = {}
    for box, (x, y, w, h) in enumerate(truth.boxes.tolist()):
        for row, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
            if places[row] != truth.images[box] or truth.crowd[box]:
                continue
            inter = max(min(x + w, x2) - max(x, x1), 0) * max(min(y + h, y2) - max(y, y1), 0)
            union = w * h + (x2 - x1) * (y2 - y1) - inter
            if inter >= union / 2 and (box not in found or scores[row] > scores[found[box]]):
                found[box] = row
    return found


@pytest.mark.parametrize("seed", range(5))
def test_boxes_that_are_met(seed: int) -> None:
    rng = np.random.default_rng(seed)
    annotations = [
        {"image_id": int(i), "category_id": int(c), "bbox": b, "iscrowd": int(rng.random() < 0.1)}
        for i, c, b in zip(rng.choice([*FILES], 40), rng.choice([*NAMES], 40), rng.integers(1, 20, (40, 4)).tolist(),
                           strict=True)
    ]  # fmt: skip
    truth = truth_of({**ANNOTATIONS, "annotations": annotations})
    boxes = rng.integers(1, 20, (60, 4)).astype(float)
    boxes[:, 2:] += boxes[:, :2]
    scores, places = rng.integers(0, 9, 60) / 8, rng.integers(0, 3, 60)
    met, slow = boxes_met(boxes, scores, places, truth), slow_boxes_met(boxes, scores, places, truth)
    assert len(slow) > 3
    assert met.rows.tolist() == [slow[box] for box in sorted(slow)]
    assert met.labels.tolist() == [truth.labels[box] for box in sorted(slow)]


def test_no_detections(tmp_path: Path) -> None:
    header = "image_id,category_id,score,x1,y1,x2,y2\n"
    contents = {"results.json": [], "results.csv": header, "by_image.json": {"40": {}, "41": {}, "7": by_image_empty()}}
    for name, content in contents.items():
        assert len(read(tmp_path, content, name=name)) == 0


def by_image_empty() -> dict[str, list[Any]]:
    return {"boxes": [], "scores": [], "labels": []}
