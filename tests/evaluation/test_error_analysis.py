"""Kinds of errors: one scene by hand, random scenes against a loop over detections, and the AP gained by fixes."""

import numpy as np
import pandas as pd
import pytest

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation import error_analysis
from imbalance_bench.evaluation.average_precision import evaluate
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.error_analysis import (
    BACKGROUND,
    BOTH,
    CLASSIFICATION,
    DUPLICATE,
    IGNORED,
    KINDS,
    LOCALISATION,
    RIGHT,
    analyse,
    box_outcomes,
    counts,
    gains,
)
from imbalance_bench.evaluation.ground_truth import GroundTruth

COUNTS = np.array([5, 2000, 50])
CATEGORIES = CategoryTable(np.array([1, 2, 3]), tuple("abc"), COUNTS, COUNTS, ("r", "f", "c"))
"""Bins 1, 4, 2."""


def ground_truth(boxes: list[tuple], lvis_style: bool = False, images: list[dict] | None = None) -> GroundTruth:
    """Of (image, label, x, y, width, height[, crowd])."""
    entries = [
        {"image_id": b[0], "category_id": b[1] + 1, "bbox": list(b[2:6]), "iscrowd": b[6] if len(b) > 6 else 0}
        for b in boxes
    ]
    images = images or [{"id": i, "height": 100, "width": 100} for i in (1, 2)]
    return GroundTruth.read(
        {"images": images, "annotations": entries, "categories": []}, CATEGORIES, lvis_style=lvis_style
    )


def detected(rows: list[tuple]) -> Detections:
    """Of (image, label, x, y, width, height, score)."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 7)
    corners = np.hstack([table[:, 2:4], table[:, 2:4] + table[:, 4:6]])
    return Detections(table[:, 0].astype(int), table[:, 1].astype(int), corners, table[:, 6])


def by_detection(errors: error_analysis.Errors, size: int) -> tuple[list[int], list[tuple | None]]:
    """Kinds in the order of the detections, and (label, x) of the boxes they are about."""
    kinds, about = [0] * size, [None] * size
    for row, kind, box in zip(errors.found.rows, errors.kinds, errors.about, strict=True):
        kinds[row] = int(kind)
        about[row] = None if box < 0 else (int(errors.truth.labels[box]), float(errors.truth.boxes[box, 0]))
    return kinds, about


BOXES = [(1, 0, 0, 0, 10, 10), (1, 1, 50, 50, 20, 20), (2, 2, 0, 0, 10, 10), (2, 0, 80, 80, 10, 10)]


def test_a_scene_by_hand() -> None:
    found = detected(
        [
            (1, 1, 50, 50, 20, 20, 0.9),  # right
            (1, 1, 50, 51, 20, 20, 0.8),  # of a box that is taken
            (1, 1, 0, 0, 10, 10, 0.7),  # a head class on the tail class's box
            (1, 0, 5, 0, 10, 10, 0.6),  # IoU 1/3 with its own
            (1, 0, 58, 50, 20, 20, 0.5),  # IoU 3/7 with another's
            (1, 2, 30, 0, 5, 5, 0.4),  # nothing there
            (2, 0, 0, 0, 10, 10, 0.3),  # on a box of c
        ]
    )
    errors = analyse(found, ground_truth(BOXES))
    kinds, about = by_detection(errors, 7)
    assert kinds == [RIGHT, DUPLICATE, CLASSIFICATION, LOCALISATION, BOTH, BACKGROUND, CLASSIFICATION]
    assert about == [(1, 50), (1, 50), (0, 0), (0, 0), (1, 50), None, (2, 0)]
    assert errors.truth.boxes[errors.missed, 0].tolist() == [80]

    table = counts(errors)
    assert table.loc[0, ["localisation", "both", "bin 2", "right"]].tolist() == [1, 1, 0, 0], (
        "two boxes, two detections"
    )
    assert table["boxes"].tolist() == [2, 1, 1]
    assert table["missed"].tolist() == [1, 0, 0]
    assert table.loc[1].drop(["boxes", "missed"]).to_dict()["right"] == 1

    stands = box_outcomes(errors, overlaps=np.array([0.9, 0.6, 0.9, 0.2])[_places(errors)])
    assert stands.loc[0, ["right", "bin 4", "proposal only", "no proposal"]].tolist() == [0, 1, 1, 0]
    assert stands.loc[2, ["right", "bin 1"]].tolist() == [0, 1]
    assert box_outcomes(errors).loc[0, "no detection"] == 1
    assert (stands.sum(axis=1) == table["boxes"]).all()


def _places(errors: error_analysis.Errors) -> list[int]:
    """Of each of the errors' boxes its place when sorted by x: 0, 0, 50, 80 are 0, 2, 1, 3 of the test's list."""
    known = {(0, 0.0): 0, (0, 80.0): 1, (2, 0.0): 2, (1, 50.0): 3}
    return [known[label, x] for label, x in zip(errors.truth.labels, errors.truth.boxes[:, 0], strict=True)]


def test_what_mending_gains_by_hand() -> None:
    # The only box of c has a better detection of b on it, and c's own comes second: precision 1/2 of b's, 1 of c's.
    truth = ground_truth([(1, 2, 0, 0, 10, 10), (2, 1, 0, 0, 10, 10), (2, 0, 50, 50, 10, 10)])
    found = detected(
        [
            (1, 1, 0, 0, 10, 10, 0.9),
            (2, 1, 0, 0, 10, 10, 0.8),
            (2, 0, 55, 50, 10, 10, 0.7),
            (2, 0, 0, 40, 5, 5, 0.8),
        ]
    )
    table = gains(analyse(found, truth))
    assert table["ap50"].tolist() == pytest.approx([0, 0.5, 0])
    # b loses its wrong first one, c wins it; a's shifted box comes second behind one on background.
    assert table["classification"].tolist() == pytest.approx([0, 0.5, 1])
    assert table["localisation"].tolist() == pytest.approx([0.5, 0, 0])
    assert table[["both", "duplicate", "background", "missed"]].to_numpy() == pytest.approx(0)


def test_each_kind_is_mended_by_itself() -> None:
    """A box with a surer misplaced detection and one of a wrong class: tidecv would gain a nothing by the class."""
    truth = ground_truth([(1, 0, 0, 0, 10, 10), (2, 1, 0, 0, 10, 10)])
    found = detected([(1, 0, 5, 0, 10, 10, 0.9), (1, 1, 0, 0, 10, 10, 0.6), (2, 1, 0, 0, 10, 10, 0.5)])
    table = gains(analyse(found, truth))
    assert table["ap50"].tolist() == pytest.approx([0, 0.5, np.nan], nan_ok=True)
    # Found second by the class, as misplaced one it is found first; b is rid of its false one.
    assert table["classification"].tolist() == pytest.approx([0.5, 0.5, np.nan], nan_ok=True)
    assert table["localisation"].tolist() == pytest.approx([1, 0, np.nan], nan_ok=True)


def test_categories_without_boxes_and_boxes_without_detections() -> None:
    truth = ground_truth([(1, 0, 0, 0, 10, 10)])
    table = gains(analyse(detected([]), truth))
    assert table["missed"].tolist() == pytest.approx([1, np.nan, np.nan], nan_ok=True)
    nothing = analyse(detected([(1, 1, 0, 0, 5, 5, 0.5)]), ground_truth([]))
    assert nothing.kinds.tolist() == [BACKGROUND]
    assert gains(nothing).isna().all(axis=None)
    assert counts(nothing).to_numpy().sum() == 0


def test_what_federated_evaluation_and_crowds_ignore_is_no_error() -> None:
    images = [
        {"id": 1, "height": 99, "width": 99, "neg_category_ids": [2], "not_exhaustive_category_ids": [1]},
        {"id": 2, "height": 99, "width": 99, "neg_category_ids": [], "not_exhaustive_category_ids": []},
    ]
    truth = ground_truth([(1, 0, 0, 0, 10, 10)], lvis_style=True, images=images)
    rows = [(1, 0, 50, 50, 9, 9, 0.9), (1, 1, 0, 0, 10, 10, 0.8), (1, 2, 0, 0, 10, 10, 0.7), (2, 0, 0, 0, 9, 9, 0.6)]
    errors = analyse(detected(rows), truth)
    kinds = dict(zip(errors.found.rows.tolist(), errors.kinds.tolist(), strict=True))
    assert kinds == {0: IGNORED, 1: CLASSIFICATION}, "classes that nobody looked for are left out"
    assert errors.takers.tolist() == [1]
    crowd = ground_truth([(1, 0, 0, 0, 50, 50, 1), (1, 1, 60, 60, 10, 10)])
    errors = analyse(detected([(1, 0, 5, 5, 10, 10, 0.9), (1, 1, 5, 5, 10, 10, 0.8)]), crowd)
    assert sorted(errors.kinds.tolist()) == [IGNORED, BACKGROUND]
    assert errors.missed.sum() == 1


def drawn(seed: int) -> tuple[Detections, GroundTruth]:
    """Boxes of three classes on two images, and detections near them, of these and other classes."""
    rng = np.random.default_rng(seed)
    boxes = [
        (
            int(rng.integers(1, 3)),
            int(rng.integers(3)),
            *rng.integers(0, 60, 2).tolist(),
            *rng.integers(8, 30, 2).tolist(),
        )
        for _ in range(10)
    ]
    rows = []
    for number in range(40):
        image, label, x, y, width, height = boxes[rng.integers(10)]
        shift = rng.choice([1, 4, 12, 60], p=[0.3, 0.3, 0.3, 0.1])
        place = (x + rng.uniform(-shift, shift), y + rng.uniform(-shift, shift))
        label = label if rng.random() < 0.6 else int(rng.integers(3))
        rows.append((image, label, *place, width, height, 1 - number / 100))
    return detected(rows), ground_truth(boxes)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """IoU of two xyxy boxes."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    inside = float(np.prod(np.maximum(sides, 0)))
    return inside / (float(np.prod(a[2:] - a[:2])) + float(np.prod(b[2:] - b[:2])) - inside)


def slow_kinds(found: Detections, truth: GroundTruth) -> list[str]:
    """One detection after the other, best first."""
    corners = np.hstack([truth.boxes[:, :2], truth.boxes[:, :2] + truth.boxes[:, 2:]])
    images = truth.image_ids[truth.images]
    taken: set[int] = set()
    kinds = []
    for image, label, box in zip(found.image_ids, found.labels, found.boxes.astype(float), strict=True):
        ious = {g: overlap(box, corners[g]) for g in range(len(corners)) if images[g] == image}
        own = {g: iou for g, iou in ious.items() if truth.labels[g] == label}
        free = [g for g, iou in own.items() if iou >= 0.5 and g not in taken]
        best_own = max(own.values(), default=0)
        best_other = max((iou for g, iou in ious.items() if g not in own), default=0)
        if free:
            taken.add(max(free, key=lambda g: own[g]))
            kinds.append("right")
        elif 0.1 <= best_own < 0.5:
            kinds.append("localisation")
        elif best_other >= 0.5:
            kinds.append("classification")
        elif best_own >= 0.5:
            kinds.append("duplicate")
        else:
            kinds.append("background" if max(best_own, best_other) <= 0.1 else "both")
    return kinds


@pytest.mark.parametrize("seed", range(8))
def test_drawn_scenes(seed: int) -> None:
    found, truth = drawn(seed)
    errors = analyse(found, truth)
    kinds, _ = by_detection(errors, len(found))
    assert [("right", *KINDS)[kind + 1] for kind in kinds] == slow_kinds(found, truth)
    explained = {int(box) for kind, box in zip(errors.kinds, errors.about, strict=True) if kind <= LOCALISATION}
    assert set(np.flatnonzero(errors.missed)) == set(range(len(truth.boxes))) - explained

    table, ap50 = gains(errors), evaluate(found, truth)["ap50"]
    assert table["ap50"].to_numpy() == pytest.approx(ap50.to_numpy(), nan_ok=True)
    # What is removed is as if it had never been detected.
    for kind in (BOTH, DUPLICATE, BACKGROUND):
        left = np.setdiff1d(np.arange(len(found)), errors.found.rows[errors.kinds == kind])
        without = Detections(found.image_ids[left], found.labels[left], found.boxes[left], found.scores[left])
        expected = evaluate(without, truth)["ap50"].to_numpy() - ap50.to_numpy()
        assert table[KINDS[kind]].to_numpy() == pytest.approx(expected, nan_ok=True)
    # What is mended is as if it had been detected in the right place, under the right class.
    for kind in (CLASSIFICATION, LOCALISATION):
        labels, boxes, keep = found.labels.copy(), found.boxes.copy(), np.ones(len(found), dtype=bool)
        free = set(range(len(truth.boxes))) - set(errors.about[errors.kinds == RIGHT].tolist())
        for row in range(len(found)):
            place = int(np.flatnonzero(errors.found.rows == row)[0])
            if errors.kinds[place] != kind:
                continue
            box = int(errors.about[place])
            keep[row] = box in free
            free -= {box}
            labels[row] = truth.labels[box]
            boxes[row] = [*truth.boxes[box, :2], *(truth.boxes[box, :2] + truth.boxes[box, 2:])]
        mended = Detections(found.image_ids[keep], labels[keep], boxes[keep], found.scores[keep])
        expected = evaluate(mended, truth)["ap50"].to_numpy() - ap50.to_numpy()
        assert table[KINDS[kind]].to_numpy() == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("seed", range(3))
def test_counts_and_box_outcomes_of_drawn_scenes(seed: int) -> None:
    found, truth = drawn(seed)
    errors = analyse(found, truth)
    table, kinds = counts(errors), slow_kinds(found, truth)
    boxes = np.bincount(truth.labels, minlength=3)
    for label in range(3):
        first = [kind for kind, own in zip(kinds, found.labels, strict=True) if own == label][: boxes[label]]
        row = table.loc[label]
        assert row["right"] == first.count("right")
        assert row[["bin 1", "bin 2", "bin 3", "bin 4"]].sum() == first.count("classification")
        for name in ("localisation", "both", "duplicate", "background"):
            assert row[name] == first.count(name)
    corners = np.hstack([truth.boxes[:, :2], truth.boxes[:, :2] + truth.boxes[:, 2:]])
    expected = pd.DataFrame(0, index=range(3), columns=["right", "bin 1", "bin 2", "bin 3", "bin 4", "no detection"])
    for image, label, corner in zip(truth.images, truth.labels, corners, strict=True):
        on_box = [
            other
            for at, other, box in zip(found.image_ids, found.labels, found.boxes.astype(float), strict=True)
            if at == truth.image_ids[image] and overlap(box, corner) >= 0.5
        ]
        if on_box:
            expected.loc[label, "right" if on_box[0] == label else f"bin {CATEGORIES.bins[on_box[0]]}"] += 1
        else:
            expected.loc[label, "no detection"] += 1
    assert box_outcomes(errors).to_numpy().tolist() == expected.to_numpy().tolist()


def test_masks_are_refused() -> None:
    truth = GroundTruth.read(
        {"images": [], "annotations": [], "categories": []}, CATEGORIES, lvis_style=False, iou_type="segm"
    )
    with pytest.raises(ValueError, match="boxes"):
        analyse(detected([]), truth)
