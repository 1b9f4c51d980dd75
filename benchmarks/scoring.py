"""From 1,231 scores of each proposal to 300 detections of an image: ours against mmdet's ``multiclass_nms``.

    python benchmarks/scoring.py [--images 1] [--proposals 300] [--classes 1230]

Every (proposal, class) pair is a candidate (score threshold 0), as in LVIS evaluation. Both must find the same.
"""

from __future__ import annotations

import torch
import typer
from timing import Rows, in_turns, row, show

from imbalance_bench.proposals.postprocess import detect

IOU, MOST = 0.5, 300


def generate(images: int, proposals: int, classes: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Generate (scores, boxes) of images: proposals around a few objects, each with high scores for a few classes."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for _ in range(images):
        objects = torch.rand(20, 4, generator=generator) * 300
        boxes = objects[torch.randint(20, (proposals,), generator=generator)]
        boxes = boxes + torch.randn(proposals, 4, generator=generator) * 12
        boxes[:, 2:] = boxes[:, :2] + boxes[:, 2:].abs() + 8
        logits = torch.randn(proposals, classes + 1, generator=generator) * 2
        made.append((logits.softmax(dim=1), boxes))
    return made


def measure(images: int = 1, proposals: int = 300, classes: int = 1230, repeats: int = 3) -> Rows:
    """Measure one row: the median of repetitions in turns."""
    from mmdet.models.layers import multiclass_nms

    import imbalance_bench.detectors  # noqa: F401 - torchvision's operators in place of mmcv's

    made = generate(images, proposals, classes)

    def ours() -> list[tuple[torch.Tensor, ...]]:
        return [detect(scores, boxes, iou_threshold=IOU, max_per_image=MOST) for scores, boxes in made]

    def theirs() -> list[tuple[torch.Tensor, ...]]:
        config = {"type": "nms", "iou_threshold": IOU}
        return [multiclass_nms(boxes, scores, 0.0, config, MOST) for scores, boxes in made]

    for (boxes, scores, labels), (their_boxes, their_labels) in zip(ours(), theirs(), strict=True):
        assert torch.equal(labels, their_labels)
        torch.testing.assert_close(torch.cat([boxes, scores[:, None]], dim=1), their_boxes)
    seconds, their_seconds = in_turns(ours, theirs, repeats)
    case = f"{images} images x {proposals:,} proposals x {classes:,} classes"
    return [row("scoring and NMS", case, seconds, "mmdet's multiclass_nms", their_seconds, "equal detections")]


def main(images: int = 1, proposals: int = 300, classes: int = 1230, repeats: int = 3) -> None:
    """Check that both find the same detections, time both, and print the result."""
    show(measure(images, proposals, classes, repeats))


if __name__ == "__main__":
    typer.run(main)
