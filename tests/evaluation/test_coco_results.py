"""COCO results: every field checked, nothing cast; masks against loops and pycocotools."""

import gzip
import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation import coco_results, detections
from imbalance_bench.evaluation.average_precision import evaluate
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.rle import Masks, to_rle
from imbalance_bench.runtime.errors import InputError

ONE = np.ones(3, int)
CATEGORIES = CategoryTable(np.array([1, 2, 3]), ("car", "person", "truck"), ONE, ONE, tuple("rcf"))
BOXES = [(1, 1, [10, 10, 30, 40]), (1, 2, [50, 20, 20, 20]), (2, 2, [5, 60, 40, 30]), (2, 3, [60, 60, 30, 30])]
GOOD = [{"image_id": i, "category_id": c, "bbox": b, "score": 0.9} for i, c, b in BOXES]
CONTENT = {
    "images": [{"id": i, "height": 100, "width": 100} for i in (1, 2)],
    "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "person"}, {"id": 3, "name": "truck"}],
    "annotations": [
        {"image_id": i, "category_id": c, "bbox": b,
         "segmentation": [[b[0], b[1], b[0] + b[2], b[1], b[0] + b[2], b[1] + b[3], b[0], b[1] + b[3]]]}
        for i, c, b in BOXES
    ],
}  # fmt: skip


def slow_runs(mask):
    """Uncompressed counts, one pixel after the other, down the columns; the first run is of background."""
    runs, value = [0], 0
    for pixel in mask.T.ravel().astype(int):
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


def slow_text(runs):
    """COCO's compressed counts: differences to the run two before from the fourth on, five bits a character."""
    text = ""
    for place, run in enumerate(runs):
        value = run - runs[place - 2] if place > 2 else run
        more = True
        while more:
            low, value = value & 31, value >> 5
            more = not ((value == 0 and not low & 16) or (value == -1 and low & 16))
            text += chr(48 + low + 32 * more)
    return text


def slow_runs_of(text):
    """The other way."""
    runs, place = [], 0
    while place < len(text):
        value, shift, more = 0, 0, True
        while more:
            low = ord(text[place]) - 48
            value |= (low & 31) << shift
            place, shift, more = place + 1, shift + 5, bool(low & 32)
        if low & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    return runs


def masks_of(draw_shape):
    return st.integers(0, 2**32 - 1).flatmap(
        lambda seed: st.sampled_from([0, 0.05, 0.5, 0.95, 1]).map(
            lambda share: np.random.default_rng(seed).random(draw_shape) < share
        )
    )


@given(st.tuples(st.integers(1, 70), st.integers(1, 70)).flatmap(masks_of))
@settings(max_examples=60, deadline=None)
def test_either_kind_of_run_lengths_is_the_mask(mask):
    runs, size = slow_runs(mask), list(mask.shape)
    text = slow_text(runs)
    assert text == coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    kinds = [{"size": size, "counts": counts} for counts in (runs, text, text.encode())]
    joined = Masks.join(kinds)
    for number in range(3):
        assert joined.rle(number) == {"size": size, "counts": text}
        assert slow_runs_of(joined.rle(number)["counts"]) == runs
    np.testing.assert_array_equal(coco_mask.decode(joined.rle(0)), mask)
    assert coco_mask.area(joined.rle(1)) == mask.sum()
    assert to_rle(kinds[0], *size) == joined.rle(0)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = [columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1] if mask.any() else [0, 0, 0, 0]
    assert joined.boxes([2]).tolist() == [box]


@given(st.lists(st.integers(-1, 20), max_size=6), st.integers(1, 8), st.integers(1, 8), st.booleans())
@settings(max_examples=200, deadline=None)
def test_run_lengths_that_do_not_cover_the_size_are_refused(runs, height, width, completed):
    if completed:
        runs = [*runs, height * width - sum(runs)]
    fits = min(runs, default=0) >= 0 and sum(runs) == height * width
    for counts in (runs, slow_text(runs)):
        mask = {"size": [height, width], "counts": counts}
        if fits:
            assert sum(slow_runs_of(Masks.join([mask]).rle(0)["counts"])[1::2]) == sum(runs[1::2])
        else:
            with pytest.raises(ValueError, match=r"counts|runs|run "):
                Masks.join([mask])


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_overlap_of_masks_is_the_share_of_pixels(seed):
    rng = np.random.default_rng(seed)
    corner, sides = rng.integers(0, 50, 2), rng.integers(5, 50, 2)
    true, found = np.zeros((2, 100, 100), bool)
    true[corner[0] : corner[0] + sides[0], corner[1] : corner[1] + sides[1]] = True
    found[corner[0] + rng.integers(0, 9) : corner[0] + sides[0], corner[1] : corner[1] + sides[1] - 4] = True
    iou = (true & found).sum() / (true | found).sum()
    content = CONTENT | {"annotations": [{**CONTENT["annotations"][0], "segmentation": segmentation(true)}]}
    given_ = [{"image_id": 1, "category_id": 1, "score": 0.5, "segmentation": segmentation(found)}]
    truth = GroundTruth.read(content, CATEGORIES, iou_type="segm")
    frame = evaluate(labelled(given_), truth)
    assert frame.loc[0, "ap"] == pytest.approx((iou >= np.linspace(0.5, 0.95, 10)).mean())


def segmentation(mask):
    return {"size": list(mask.shape), "counts": slow_runs(mask)}


def labelled(results):
    return detections._labelled(coco_results.columns(results, "results.json"), CATEGORIES, "results.json")


def read(folder, content, name="results.json"):
    (folder / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return detections.Detections.from_coco(folder / name, CATEGORIES)


def mean_ap(found, iou_type="bbox"):
    return evaluate(found, GroundTruth.read(CONTENT, CATEGORIES, iou_type=iou_type))["ap"].mean()


@pytest.mark.parametrize("compressed", [True, False])
def test_results_of_masks_alone(tmp_path, compressed):
    results = []
    for result, entry in zip(GOOD, CONTENT["annotations"], strict=True):
        rle = to_rle(entry["segmentation"], 100, 100)
        counts = rle["counts"] if compressed else slow_runs_of(rle["counts"])
        mask = {"size": [100, 100], "counts": counts}
        results.append({k: v for k, v in result.items() if k != "bbox"} | {"segmentation": mask})
    found = read(tmp_path, results)
    assert mean_ap(found, "segm") == mean_ap(found) == pytest.approx(1)
    assert found.notes == ("4 of 4 results have no 'bbox': theirs is the box around the mask",)
    # Some tools write an empty list for no box, or for no mask.
    assert mean_ap(read(tmp_path, [{**r, "bbox": []} for r in results])) == pytest.approx(1)
    assert read(tmp_path, [{**r, "segmentation": []} for r in GOOD]).masks is None
    with pytest.raises(InputError, match=r"results\[1\]: field 'segmentation' is missing, which other results have"):
        read(tmp_path, [results[0], GOOD[1]])
    with pytest.raises(InputError, match=r"results\[1\]: field 'segmentation': .*polygons"):
        read(tmp_path, [results[0], {**GOOD[1], "segmentation": [[1, 2, 3, 4, 5, 6]]}])


def test_text_of_any_encoding(tmp_path):
    text = json.dumps(GOOD)
    contents = [text.encode(code) for code in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32")]
    for content in (*contents, gzip.compress(contents[1])):
        for name in ("results.json", "results.JSON", "results", "results.json.gz"):
            assert mean_ap(read(tmp_path, content, name)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category_id": 1.5}, "'category_id' is 1.5, expected a whole number"),
        ({"category_id": True}, "'category_id' is true"),
        ({"category_id": None}, "'category_id' is null"),
        ({"category_id": 77}, r"'category_id' is 77, expected one of the 3 categories \(ids 1 to 3\)$"),
        ({"category_id": 0}, "'category_id' is 0"),
        ({"image_id": "0001"}, "'image_id' is text '0001', expected a whole number"),
        ({"image_id": 2**64}, "'image_id' is 18446744073709551616"),
        ({"score": "0.9"}, "'score' is text '0.9'"),
        ({"score": True}, "'score' is true"),
        ({"score": float("nan")}, "'score' is nan"),
        ({"score": 10**400}, "'score' is 1000"),
        ({"bbox": [[1, 2, 3, 4]]}, "'bbox' is a list of 1"),
        ({"bbox": [1, 2, 3]}, r"'bbox' is \[1, 2, 3\]"),
        ({"bbox": [1, 2, 3, 1e300]}, r"'bbox' is .*1e\+300"),
        ({"bbox": ["1", 2, 3, 4]}, "'bbox' is"),
        ({"segmentation": {"size": [100.5, 100], "counts": "a"}}, "'segmentation'"),
        ({"segmentation": {"size": [100, 100], "counts": 5}}, "'segmentation'"),
        ({"segmentation": {"size": [100, 100], "counts": [10_000.0]}}, "'segmentation'"),
        ({"segmentation": {"size": [2**40, 2**40], "counts": [2**80]}}, "'segmentation'"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(tmp_path, change, message):
    results = [dict(result) for result in GOOD]
    if "segmentation" in change:
        results = [result | {"segmentation": segmentation(np.ones((100, 100)))} for result in results]
    results[2] |= change
    with pytest.raises(InputError, match=r"results\.json: results\[2\]: field " + message):
        read(tmp_path, results)


def test_ids_that_count_the_classes_are_told(tmp_path):
    from_zero = [{**result, "category_id": result["category_id"] - 1} for result in GOOD]
    with pytest.raises(InputError, match=r"'category_id' is 0, .*; ids 0 to 2 fit a count of the classes from 0"):
        read(tmp_path, from_zero)


def test_whole_numbers_as_floats_and_odd_scores(tmp_path):
    floats = [{**r, "image_id": float(r["image_id"]), "category_id": float(r["category_id"])} for r in GOOD]
    assert mean_ap(read(tmp_path, floats)) == pytest.approx(1)
    assert mean_ap(read(tmp_path, [])) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert mean_ap(read(tmp_path, [{**r, "score": 1e300} for r in GOOD])) == pytest.approx(1)
        assert mean_ap(read(tmp_path, [{**r, "bbox": [*r["bbox"][:3], -5]} for r in GOOD])) == 0
    # Scores that differ do not tie: in single precision both of these were 1.
    wrong = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5]}
    for score, expected in ((0.999999999, 1), (0.9999999999, 1 / 2)):
        found = read(tmp_path, [{**wrong, "score": score}, {**GOOD[0], "score": 0.9999999995}])
        assert evaluate(found, GroundTruth.read(CONTENT, CATEGORIES)).loc[0, "ap"] == pytest.approx(expected)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([1, 2, 3, 1.0]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["size", "counts"]), inner),
    max_leaves=6,
)  # fmt: skip


@given(st.sampled_from(["image_id", "category_id", "bbox", "score", "segmentation"]), ANYTHING)
@settings(max_examples=400, deadline=None)
def test_any_value_in_any_field_is_right_or_refused(field, value):
    results = json.loads(json.dumps([{**GOOD[0], field: value}]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found = labelled(results)
            GroundTruth.read(CONTENT, CATEGORIES).check(found)
        except InputError as error:
            assert "\n" not in str(error)
            return
        evaluate(found, GroundTruth.read(CONTENT, CATEGORIES))
    (result,) = results
    assert found.image_ids.tolist() == [result["image_id"]]
    assert CATEGORIES.ids[found.labels].tolist() == [result["category_id"]]
    assert found.scores.tolist() == [result["score"]] and not isinstance(result["score"], bool)
    if result["bbox"]:
        x, y, w, h = result["bbox"]
        assert found.boxes.tolist() == [[x, y, x + w, y + h]]
    else:
        assert found.masks is not None


@given(st.sampled_from(["image_id", "category_id", "bbox", "area", "iscrowd"]), ANYTHING)
@settings(max_examples=200, deadline=None)
def test_any_value_in_any_field_of_an_annotation_is_right_or_refused(field, value):
    content = CONTENT | {"annotations": [CONTENT["annotations"][1], {**CONTENT["annotations"][0], field: value}]}
    try:
        truth = GroundTruth.read(json.loads(json.dumps(content)), CATEGORIES)
    except InputError as error:
        assert "annotations[1]" in str(error) and "\n" not in str(error)
        return
    assert len(truth.boxes) == 2 and np.isfinite(truth.boxes).all()


@given(st.sampled_from(["id", "neg_category_ids", "not_exhaustive_category_ids"]), ANYTHING)
@settings(max_examples=200, deadline=None)
def test_any_value_in_any_field_of_an_image_is_right_or_refused(field, value):
    content = CONTENT | {"images": [{"id": 1}, {"id": 2}, {"id": 7, field: value}]}
    try:
        truth = GroundTruth.read(json.loads(json.dumps(content)), CATEGORIES)
    except InputError as error:
        assert "images[2]" in str(error) and "\n" not in str(error)
        return
    assert len(truth.image_ids) == 3
