"""What our RPN head, IoU and detectors compute faster is mmdet's, bit for bit."""

import copy

import pytest
import torch
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData

from imbalance_bench.detectors.mmdet import catalogue
from imbalance_bench.detectors.mmdet.hosting import heads

SIZES = [(20, 24), (10, 12), (5, 6), (3, 3)]


def built(kind: str, **proposals: float) -> torch.nn.Module:
    """The RPN head of ``tiny``, of either class."""
    model = catalogue.get("tiny").model(3, {"type": "SoftmaxClassifier"})
    config = copy.deepcopy(model.rpn_head)
    config.type = kind
    assigner = model.train_cfg.rpn.assigner
    if kind == "RPNHead":
        assigner.pop("iou_calculator")
    model.train_cfg.rpn_proposal.update(proposals)
    torch.manual_seed(0)
    return MODELS.build(config | {"train_cfg": model.train_cfg.rpn, "test_cfg": model.train_cfg.rpn_proposal})


def outputs(spread: float) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    torch.manual_seed(1)
    # Rounded, so that scores tie within and across levels.
    scores = [(spread * torch.randn(3, 2, *size)).round(decimals=1).requires_grad_() for size in SIZES]
    return scores, [0.3 * torch.randn(3, 8, *size) for size in SIZES]


@pytest.mark.parametrize(
    "proposals",
    [{}, {"max_per_img": 20}, {"nms_pre": -1}, {"nms_pre": 50, "min_bbox_size": 15}, {"min_bbox_size": 1000}],
    ids=str,
)
@pytest.mark.parametrize("padded", [False, True])
def test_proposals(proposals: dict[str, float], padded: bool) -> None:
    metas = [{"img_shape": (80, 96)}, {"img_shape": (70, 90) if padded else (80, 96)}, {"img_shape": (80, 96)}]
    theirs, ours = (
        built(kind, **proposals).predict_by_feat(*outputs(4.0), batch_img_metas=metas)
        for kind in ("RPNHead", "AllImagesRPNHead")
    )
    empty = proposals.get("min_bbox_size") == 1000
    for expected, found in zip(theirs, ours, strict=True):
        assert (len(expected) == 0) == empty
        assert torch.equal(found.bboxes, expected.bboxes)
        assert torch.equal(found.scores, expected.scores)
        assert not found.scores.requires_grad and found.labels.dtype == torch.long and not found.labels.any()


@pytest.mark.parametrize("padded", [False, True])
def test_losses_and_the_random_draws_behind_them(padded: bool) -> None:
    sizes = [(80, 96), (64, 80) if padded else (80, 96), (80, 96)]
    metas = [{"img_shape": size, "pad_shape": size} for size in sizes]
    corners = 50 * torch.rand(3, 5, 2, generator=torch.Generator().manual_seed(2))
    boxes = torch.cat([corners, corners + 25], dim=-1)
    truth = [InstanceData(bboxes=box[:count], labels=torch.zeros(count, dtype=torch.long))
             for box, count in zip(boxes, (5, 3, 0), strict=True)]  # fmt: skip
    found = []
    for kind in ("RPNHead", "AllImagesRPNHead"):
        head, (scores, deltas) = built(kind), outputs(1.0)
        torch.manual_seed(3)
        losses = head.loss_by_feat(scores, deltas, truth, metas)
        sum(losses["loss_rpn_cls"]).backward()
        found.append([*losses["loss_rpn_cls"], *losses["loss_rpn_bbox"], *[score.grad for score in scores]])
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_overlaps() -> None:
    torch.manual_seed(0)
    corners = 30 * torch.rand(50, 2)
    boxes = torch.cat([corners, corners + 20 * torch.rand(50, 2)], dim=1)
    boxes[:2, 2:] = boxes[:2, :2]  # points
    calculator = TASK_UTILS.build({"type": "OverlapsByCoordinate"})
    scored = torch.cat([boxes, torch.rand(50, 1)], dim=1)
    before = boxes.clone()
    for first, second in ((boxes[:7], boxes), (boxes[:0], boxes), (boxes, boxes[:0]), (boxes[:7], scored)):
        found = calculator(first, second)
        assert torch.equal(found, bbox_overlaps(first, second[:, :4]))
    assert torch.equal(calculator(boxes[:7], boxes, "giou"), bbox_overlaps(boxes[:7], boxes, "giou"))
    assert torch.equal(calculator(boxes, boxes, is_aligned=True), bbox_overlaps(boxes, boxes, is_aligned=True))
    assert torch.equal(boxes, before)


@pytest.mark.parametrize("name", ["tiny", "tiny-cascade", "tiny-htc", "faster-rcnn-r50"])
def test_our_detectors_have_them(name: str) -> None:
    model = catalogue.get(name).model(3, {"type": "SoftmaxClassifier"})
    extractors = [one for key, part in model.roi_head.items() if key.endswith("_roi_extractor") for one in heads(part)]
    assert {extractor.type for extractor in extractors} == {"AllLevelsRoIExtractor"}
    assert model.rpn_head.type == "AllImagesRPNHead"
    stages = [model.train_cfg.rpn, *heads(model.train_cfg.rcnn)]
    assert {stage.assigner.iou_calculator.type for stage in stages} == {"OverlapsByCoordinate"}
