from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.ops import nms

from imbalance_bench.proposals.postprocess import Postprocess, detect
from imbalance_bench.proposals.proposal_set import ProposalSet


def slow_detect(scores, boxes, score_threshold=0.0, iou_threshold=0.5, max_per_image=300, min_size=0.0):
    """Class by class over everything, then the best of all."""
    found = []
    for label in range(scores.shape[1] - 1):
        rows = (scores[:, label] > score_threshold).nonzero()[:, 0]
        rows = rows[(boxes[rows, 2:] - boxes[rows, :2]).amin(dim=1) >= min_size]
        rows = rows[nms(boxes[rows].double(), scores[rows, label].double(), iou_threshold)]
        found += [(-scores[row, label].item(), row.item(), label) for row in rows]
    found = sorted(found)[:max_per_image]
    rows = torch.tensor([row for _, row, _ in found], dtype=torch.long)
    labels = torch.tensor([label for _, _, label in found], dtype=torch.long)
    return boxes[rows], scores[rows, labels], labels


def image(seed, proposals=120, classes=12, sharpness=1.0, spread=4.0):
    """Proposals crowded around a few objects, and their softmax scores."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(5, 4, generator=generator)[torch.randint(5, (proposals,), generator=generator)] * 100
    corner = centre[:, :2] + spread * torch.randn(proposals, 2, generator=generator)
    boxes = torch.cat([corner, corner + 20 + centre[:, 2:] / 5], dim=1)
    return (sharpness * torch.randn(proposals, classes + 1, generator=generator)).softmax(dim=1), boxes


def assert_same(result, expected):
    for got, want in zip(result, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_per_image": 5},
        {"score_threshold": 0.2},
        {"iou_threshold": 0.1, "max_per_image": 50},
        {"iou_threshold": 0.9},
        {"min_size": 30.0},
        {"min_size": 1000.0},
    ],
)
def test_equal_to_the_obvious_loop(seed, options):
    for sharpness, spread in [(1.0, 4.0), (3.0, 0.5), (0.1, 30.0)]:
        scores, boxes = image(seed, sharpness=sharpness, spread=spread)
        assert_same(detect(scores, boxes, **options), slow_detect(scores, boxes, **options))


def test_all_candidates_are_looked_at_when_suppression_eats_the_best():
    # One spot, so one survivor a class: the first k candidates never hold enough of them.
    scores, boxes = image(0, proposals=400, classes=20, sharpness=2.0, spread=0.01)
    boxes[:] = boxes[0]
    result = detect(scores, boxes, max_per_image=30)
    assert len(result[0]) == 20
    assert_same(result, slow_detect(scores, boxes, max_per_image=30))


@pytest.mark.parametrize("levels", [1, 3, 10])
def test_ties_go_to_the_lower_proposal_then_the_lower_class(levels):
    scores, boxes = image(1, proposals=200)
    scores = (scores / scores.amax() * levels).ceil() / levels
    for max_per_image in (7, 300):
        result = detect(scores, boxes, max_per_image=max_per_image)
        assert_same(result, slow_detect(scores, boxes, max_per_image=max_per_image))


def test_scores_need_not_sum_to_one_and_background_is_no_class():
    scores, boxes = image(2, proposals=10, classes=3)
    scores[:, -1] = 100
    found = detect(scores * 7, boxes)
    assert found[2].max() < 3
    assert_same(found, slow_detect(scores * 7, boxes))


def test_nothing_to_find():
    for scores, boxes in [(torch.zeros(0, 4), torch.zeros(0, 4)), (torch.zeros(5, 4), torch.rand(5, 4))]:
        found = detect(scores, boxes)
        assert [tuple(part.shape) for part in found] == [(0, 4), (0,), (0,)]
        assert found[2].dtype == torch.long


def test_boxes_without_area_and_outside_the_origin_are_kept_apart_by_class():
    boxes = torch.tensor([[-50.0, -50.0, 900.0, 700.0], [-50.0, -50.0, 900.0, 700.0], [3.0, 3.0, 3.0, 3.0]])
    scores = torch.tensor([[0.9, 0.8, 0.1, 0.0], [0.7, 0.85, 0.2, 0.0], [0.3, 0.3, 0.3, 0.0]])
    _, found, labels = detect(scores, boxes)
    torch.testing.assert_close(found, torch.tensor([0.9, 0.85, 0.3, 0.3, 0.3, 0.2]))
    assert labels.tolist() == [0, 1, 0, 1, 2, 2]
    assert_same(detect(scores, boxes), slow_detect(scores, boxes))


def test_bad_values_are_refused():
    scores, boxes = image(3)
    for bad_scores, bad_boxes in [
        (scores.index_fill(0, torch.tensor([4]), torch.nan), boxes),
        (scores, boxes.index_fill(0, torch.tensor([4]), torch.nan)),
        (scores, boxes.index_fill(0, torch.tensor([4]), torch.inf)),
    ]:
        with pytest.raises(ValueError, match="diverged"):
            detect(bad_scores, bad_boxes)
    with pytest.raises(ValueError, match="expected"):
        detect(scores, boxes[1:])


def test_boxes_of_pairs_are_asked_for_only_where_needed():
    scores, boxes = image(0, proposals=200)
    asked = []

    def of_pairs(proposal, label):
        asked.append(len(proposal))
        return boxes[proposal]

    assert_same(detect(scores, of_pairs, max_per_image=10), detect(scores, boxes, max_per_image=10))
    assert sum(asked) < scores[:, :-1].numel()


def test_queries_suppress_nothing():
    scores, boxes = image(0, proposals=60, spread=0.01)
    found = detect(scores, boxes, iou_threshold=None, max_per_image=50)
    best, place = scores[:, :-1].flatten().sort(descending=True, stable=True)
    assert_same(found, (boxes[place[:50] // 12], best[:50], place[:50] % 12))


@pytest.mark.parametrize("iou_threshold", [None, 0.5])
def test_of_each_proposal_its_best_class(iou_threshold):
    scores, boxes = image(1, proposals=60)
    best, label = scores[:, :-1].max(dim=1)
    alone = torch.zeros_like(scores).scatter(1, label[:, None], best[:, None])
    options = {"iou_threshold": iou_threshold, "max_per_image": 40}
    expected = detect(alone, boxes, **options)
    assert_same(detect(scores, boxes, best_class=True, **options), expected)
    assert len(detect(scores[:0], boxes[:0], best_class=True)[0]) == 0


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_scores_are_combined_with_quality(power):
    scores, boxes = image(2, proposals=50)
    quality = torch.rand(50, generator=torch.Generator().manual_seed(0))
    combined = Postprocess(power=power).combined(scores, quality)
    for row, own, factor in zip(combined, scores, quality, strict=True):
        expected = [(float(score) * float(factor)) ** power for score in own[:-1]]
        torch.testing.assert_close(row, torch.tensor([*expected, float(own[-1])]))
    assert_same(Postprocess(power=power)(combined, boxes), detect(combined, boxes))


def test_boxes_may_be_clipped_after_suppression():
    """Two boxes that are one within the image are both kept, and cut at the borders of the original image."""
    boxes = np.array([[-30, 5, 20, 40], [0, 5, 20, 40]])
    found = ProposalSet.from_arrays(np.eye(2), [0, 0], image_ids=[1, 1], boxes=boxes)
    # The network's image is 60 x 20, twice as high and half as wide as the original, 30 x 40.
    found = replace(found, frames=np.array([[60, 20, 0.5, 2.0]], dtype=np.float32), postprocess=Postprocess(clips=True))
    clipped, scores, _ = found.detect(0, torch.tensor([[0.9, 0.1], [0.8, 0.2]]))
    assert clipped.tolist() == [[0, 5, 20, 30], [0, 5, 20, 30]] and len(scores) == 2
    as_they_are, *_ = replace(found, postprocess=Postprocess()).detect(0, torch.tensor([[0.9, 0.1], [0.8, 0.2]]))
    assert as_they_are.tolist() == boxes.tolist()
