"""Small torchvision detectors with random weights, and their files."""

from pathlib import Path

import torch
from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign

CLASSES = 8


def rcnn(kind: type[FasterRCNN] = FasterRCNN, rows: int = CLASSES + 1) -> FasterRCNN:
    """A detector of one feature map; images become 96 pixels high, 128 at most."""
    backbone = nn.Sequential(nn.Conv2d(3, 8, 7, 4, 3), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16))
    backbone.out_channels = 16  # type: ignore[assignment]
    return kind(
        backbone,
        min_size=(80, 96),
        max_size=128,
        rpn_anchor_generator=AnchorGenerator(((12, 24, 48),), ((0.5, 1.0, 2.0),)),
        rpn_post_nms_top_n_train=120,
        rpn_post_nms_top_n_test=60,
        box_roi_pool=MultiScaleRoIAlign(["0"], 5, 2),
        box_head=TwoMLPHead(16 * 25, 32),
        box_predictor=FastRCNNPredictor(32, rows),
        box_batch_size_per_image=48,
        bbox_reg_weights=(8.0, 8.0, 4.0, 4.0),
        **(mask_branch(rows) if kind is MaskRCNN else {}),
    )


def mask_branch(rows: int) -> dict[str, nn.Module]:
    """Arguments of Mask R-CNN."""
    return {
        "mask_roi_pool": MultiScaleRoIAlign(["0"], 6, 2),
        "mask_head": MaskRCNNHeads(16, (8,), 1),
        "mask_predictor": MaskRCNNPredictor(8, 8, rows),
    }


def faster() -> FasterRCNN:
    """What a user's ``module:function`` returns."""
    return rcnn()


def by_ids() -> FasterRCNN:
    """With a row for each id up to 90, as torchvision's reference has it."""
    return rcnn(rows=91)


def spread(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give it random weights with scores that differ and boxes that move."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point() and not name.endswith("running_var"):
                fan = value[0].numel() if value.dim() > 1 else 1
                value.normal_(0, (1.5 / fan) ** 0.5 if fan > 1 else 0.1, generator=generator)
        for name, scale in (("cls_score", 3.0), ("bbox_pred", 1.0)):
            getattr(model.roi_heads.box_predictor, name).weight.mul_(scale)  # type: ignore[union-attr]
    return model.eval()


def save(model: nn.Module, path: Path) -> Path:
    """Save it as torchvision's reference training does."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}, path)
    return path


def levels(channels: int = 32) -> nn.Module:
    """A backbone of two feature maps."""
    return Levels(channels)


class Levels(nn.Module):
    """Maps of strides 8 and 16."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out_channels = channels
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 7, 4, 3), nn.ReLU())
        self.first, self.second = nn.Conv2d(8, channels, 3, 2, 1), nn.Conv2d(channels, channels, 3, 2, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return both."""
        first = self.first(self.stem(x))
        return {"0": first, "1": self.second(first.relu())}


def retinanet(classes: int = CLASSES) -> RetinaNet:
    """A detector with three anchor shapes at a point."""
    anchors = AnchorGenerator(((16,), (32,)), ((0.5, 1.0, 2.0),) * 2)
    return RetinaNet(levels(8), classes, min_size=(80, 96), max_size=128, anchor_generator=anchors)


def fcos(classes: int = CLASSES) -> FCOS:
    """A detector with one anchor at a point, and centerness."""
    anchors = AnchorGenerator(((8,), (16,)), ((1.0,),) * 2)
    return FCOS(levels(), classes, min_size=96, max_size=128, anchor_generator=anchors)


def spread_dense(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give it random weights with scores that differ and boxes that move."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.dim() > 1:
                value.normal_(0, (2 / value[0].numel()) ** 0.5, generator=generator)
            if name.endswith("bbox_reg.weight"):
                value.mul_(0.2)
            if name.endswith("cls_logits.bias"):
                value.normal_(-BIAS[type(model)], 0.1, generator=generator)
    return model.eval()


BIAS = {RetinaNet: 5.0, FCOS: 3.0}
"""With which some hundred pairs of an anchor and a class are above the model's threshold."""
