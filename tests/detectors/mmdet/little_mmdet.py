"""Small dense and query detectors of mmdet with random weights, as configurations and checkpoints of a user."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import set_random_seed
from torch import nn

from imbalance_bench.detectors.mmdet import hosting
from imbalance_bench.runtime.progress import logged_to

CLASSES = 8
QUERIES = 20
CHANNELS = 16
PIPELINE = [
    {"type": "LoadImageFromFile"},
    {"type": "Resize", "scale": (128, 96), "keep_ratio": True},
    {"type": "LoadAnnotations", "with_bbox": True},
    {"type": "PackDetInputs", "meta_keys": ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")},
]


def _resnet(model: Any, stages: tuple[int, ...]) -> list[int]:
    """Make the backbone a ResNet-18 of an eighth of its width; return the channels of its stages."""
    norm = {"type": "BN", "requires_grad": True}
    model.backbone = Config({"type": "ResNet", "depth": 18, "base_channels": 8, "stem_channels": 8,
                             "out_indices": stages, "norm_cfg": norm, "norm_eval": True})._cfg_dict  # fmt: skip
    return [8 * 2**stage for stage in stages]


def _pyramid(model: Any) -> None:
    model.neck.update(in_channels=_resnet(model, (0, 1, 2)), out_channels=CHANNELS, num_outs=2)
    model.bbox_head.update(in_channels=CHANNELS, feat_channels=CHANNELS, stacked_convs=1)


def retinanet(model: Any) -> None:
    """Nine anchor shapes at a point."""
    _pyramid(model)
    model.bbox_head.anchor_generator.update(strides=[8, 16], octave_base_scale=2)


def atss(model: Any) -> None:
    """One anchor at a point, and centerness."""
    _pyramid(model)
    model.bbox_head.norm_cfg = {"type": "GN", "num_groups": 4}
    model.bbox_head.anchor_generator.update(strides=[8, 16], octave_base_scale=3)


def fcos(model: Any) -> None:
    """Points, and centerness."""
    _pyramid(model)
    model.neck.pop("relu_before_extra_convs")
    model.bbox_head.norm_cfg = {"type": "GN", "num_groups": 4}
    model.bbox_head.update(strides=[8, 16], regress_ranges=((-1, 32), (32, 1e8)))


def rtmdet(model: Any) -> None:
    """Levels share their convolutions, but not their norms and classifiers."""
    _pyramid(model)
    model.neck = {"type": "FPN", "in_channels": model.neck.in_channels, "out_channels": CHANNELS, "num_outs": 2,
                  "start_level": 1}  # fmt: skip
    model.bbox_head.anchor_generator.update(strides=[8, 16])
    model.bbox_head.update(norm_cfg={"type": "BN"}, act_cfg={"type": "SiLU"})


def rtmdet_shared(model: Any) -> None:
    """RTMDet whose levels share everything."""
    rtmdet(model)
    for name in ("share_conv", "exp_on_reg"):
        model.bbox_head.pop(name)
    model.bbox_head.update(type="RTMDetHead", pred_kernel_size=3)


def _queries(model: Any, channels: int = CHANNELS) -> None:
    model.neck.update(in_channels=_resnet(model, (1, 2)), out_channels=channels, num_outs=2)
    model.neck.norm_cfg.num_groups = 4
    model.update(num_queries=QUERIES, num_feature_levels=2)
    for part in (model.encoder, model.decoder):
        part.num_layers = 2
        layer = part.layer_cfg
        layer.ffn_cfg.update(embed_dims=channels, feedforward_channels=16)
        layer.self_attn_cfg.update(embed_dims=channels, num_heads=2)
    model.encoder.layer_cfg.self_attn_cfg.update(num_levels=2, num_points=2)
    model.decoder.layer_cfg.cross_attn_cfg.update(embed_dims=channels, num_heads=2, num_levels=2, num_points=2)
    model.positional_encoding.num_feats = channels // 2
    model.bbox_head.embed_dims = channels
    model.test_cfg.max_per_img = 30


def deformable(model: Any) -> None:
    """Layers share one classifier."""
    _queries(model)


def two_stage(model: Any) -> None:
    """Layers share one classifier, by which an encoder chooses the queries, too; mmdet's is 256 wide."""
    _queries(model, 256)
    model.as_two_stage = True


def dino(model: Any) -> None:
    """A classifier for each layer, and one for the encoder."""
    _queries(model)


DENSE = {
    "retinanet": ("retinanet/retinanet_r50_fpn_1x_coco", retinanet),
    "atss": ("atss/atss_r50_fpn_1x_coco", atss),
    "fcos": ("fcos/fcos_r50-caffe_fpn_gn-head_1x_coco", fcos),
    "rtmdet": ("rtmdet/rtmdet_tiny_8xb32-300e_coco", rtmdet),
    "rtmdet_shared": ("rtmdet/rtmdet_tiny_8xb32-300e_coco", rtmdet_shared),
}
OF_QUERIES = {
    "deformable": ("deformable_detr/deformable-detr_r50_16xb2-50e_coco", deformable),
    "two_stage": ("deformable_detr/deformable-detr_r50_16xb2-50e_coco", two_stage),
    "dino": ("dino/dino-4scale_r50_8xb2-12e_coco", dino),
}
KINDS = DENSE | OF_QUERIES
"""mmdet's configuration, and what is changed in it."""


def config(kind: str, change: Callable[[Any], None] = lambda model: None) -> Config:
    """The configuration of a small detector."""
    base, shrink = KINDS[kind]
    model = hosting.shipped(base)
    model.data_preprocessor.pop("batch_augments", None)
    model.bbox_head.num_classes = CLASSES
    shrink(model)
    change(model)
    dataset = {"type": "CocoDataset", "ann_file": "val.json", "pipeline": PIPELINE, "test_mode": True}
    loader = {"batch_size": 1, "dataset": dataset}
    return Config({"default_scope": "mmdet", "model": model.to_dict(), "test_dataloader": loader})


def make(kind: str, settings: Config | None = None) -> nn.Module:
    """A model in evaluation mode whose scores differ and whose boxes move."""
    set_random_seed(3)
    init_default_scope("mmdet")
    with logged_to(None):
        model: nn.Module = MODELS.build(copy.deepcopy((settings or config(kind)).model))
        model.init_weights()
    shared = torch.zeros(CLASSES).normal_(0, 0.3)
    with torch.no_grad():
        for name, value in model.named_parameters():
            place, _, last = name.rpartition(".")
            if "cls_branches" in name or place.endswith(("retina_cls", "_cls", "_cls.0", "_cls.1")):
                if last == "bias":
                    value.copy_(shared.repeat(len(value) // CLASSES) - BIAS.get(kind, 1.0))
                else:
                    value.normal_(0, (4 / value[0].numel()) ** 0.5)
            elif place.endswith(("_reg", "_reg.0", "_reg.1")) or "reg_branches" in name:
                value.normal_(SIDE.get(kind, 0.0) if last == "bias" else 0.0, 0.1)
            elif value.dim() > 1 and not name.startswith(("backbone", "neck")):
                value.normal_(0, (2 / value[0].numel()) ** 0.5)
    return model.eval()


BIAS = {"retinanet": 2.5, "atss": 2.5, "fcos": 2.5, "rtmdet": 2.0, "rtmdet_shared": 2.0}
"""With which some hundred pairs of an anchor and a class are above the model's threshold."""
SIDE = {"fcos": 2.5, "rtmdet": 1.5}
"""With which boxes are about as large as objects, where they are coded by their sides."""


NAMES = tuple(f"class {1 + 2 * number}" for number in range(CLASSES))
"""Of generated data."""


def save(model: nn.Module, settings: Config, folder: Path, names: tuple[str, ...] = NAMES) -> tuple[Path, Path]:
    """Save configuration and checkpoint as mmdet does."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.py").write_text(settings.pretty_text)
    state = {"state_dict": model.state_dict(), "meta": {"dataset_meta": {"classes": names}}}
    torch.save(state, folder / "model.pth")
    return folder / "config.py", folder / "model.pth"
