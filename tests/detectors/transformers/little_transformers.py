"""Small DETRs of transformers with random weights, and their folders."""

from pathlib import Path
from typing import Any

import torch
import transformers as hf
from torch import nn

CLASSES = 8
QUERIES = 20
SIZE = 64


def resnet(*stages: str) -> Any:
    """Configuration of a backbone."""
    return hf.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1] * 4, layer_type="basic", out_features=list(stages)
    )


def _sizes(dim: int = 16, **more: Any) -> dict[str, Any]:
    heads = {f"{part}_attention_heads": 2 for part in ("encoder", "decoder")}
    widths = {"d_model": dim, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    return {"num_labels": CLASSES, "num_queries": QUERIES, "decoder_layers": 2, **heads, **widths, **more}


def detr(**more: Any) -> nn.Module:
    """A softmax with a row for no object."""
    given = {"use_timm_backbone": False, "backbone_config": resnet("stage4"), **_sizes(encoder_layers=1), **more}
    return hf.DetrForObjectDetection(hf.DetrConfig(**given))


def conditional() -> nn.Module:
    """Sigmoids."""
    backbone = {"use_timm_backbone": False, "backbone_config": resnet("stage4")}
    config = hf.ConditionalDetrConfig(**backbone, **_sizes(encoder_layers=1))
    return hf.ConditionalDetrForObjectDetection(config)


def deformable(**more: Any) -> nn.Module:
    """The classifiers of all layers share their weights."""
    backbone = {"use_timm_backbone": False, "backbone_config": resnet("stage3", "stage4")}
    points = {"num_feature_levels": 2, "encoder_n_points": 2, "decoder_n_points": 2}
    config = hf.DeformableDetrConfig(**backbone, **points, **_sizes(32, encoder_layers=1, **more))
    return hf.DeformableDetrForObjectDetection(config)


def two_stage() -> nn.Module:
    """An encoder chooses the queries."""
    return deformable(two_stage=True, with_box_refine=True, two_stage_num_proposals=QUERIES)


def rt(kind: str = "RTDetr", **more: Any) -> nn.Module:
    """An encoder chooses the queries; three levels."""
    backbone = hf.RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1] * 4, layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    channels = {"encoder_in_channels": [16, 24, 32], "decoder_in_channels": [16] * 3, "encoder_hidden_dim": 16}
    given = {"backbone_config": backbone, "decoder_n_points": 2, "num_denoising": 0, **channels, **_sizes(), **more}
    return getattr(hf, f"{kind}ForObjectDetection")(getattr(hf, f"{kind}Config")(**given))


def rt_v2() -> nn.Module:
    """As RT-DETR."""
    return rt("RTDetrV2")


def d_fine() -> nn.Module:
    """A quality is added to logits."""
    widths = [8, 16, 24, 32]
    channels = {"stem_channels": [3, 8, 8], "stage_in_channels": [8, 8, 16, 24], "stage_mid_channels": [8] * 4,
                "stage_out_channels": widths, "hidden_sizes": widths, "embedding_size": 8}  # fmt: skip
    counts = {"stage_num_blocks": [1] * 4, "stage_numb_of_layers": [1] * 4, "depths": [1] * 4}
    backbone = hf.HGNetV2Config(**channels, **counts, out_features=["stage2", "stage3", "stage4"])
    return rt("DFine", backbone_config=backbone, hidden_size=16, decoder_n_points=[2, 2, 2])


_HEADS = {"decoder_self_attention_heads": 2, "decoder_cross_attention_heads": 2, "decoder_n_points": 2}
_LITTLE = {"d_model": 16, "decoder_ffn_dim": 16, "decoder_layers": 2, "num_queries": QUERIES, "num_labels": CLASSES}
_VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 1, "image_size": SIZE}


def lw() -> nn.Module:
    """A plain transformer as backbone; groups of queries in training."""
    backbone = hf.LwDetrViTConfig(
        **_VIT, patch_size=8, pretrain_image_size=SIZE, num_windows=4, window_block_indices=[0], out_features=["stage2"]
    )
    more = {"projector_scale_factors": [1.0], "group_detr": 2, "c2f_num_blocks": 1}
    return hf.LwDetrForObjectDetection(hf.LwDetrConfig(backbone_config=backbone, **_LITTLE, **_HEADS, **more))


def rf() -> nn.Module:
    """As LW-DETR, on DINOv2."""
    backbone = {"model_type": "rf_detr_dinov2", **_VIT, "patch_size": 8, "num_windows": 2}
    config = hf.RfDetrConfig(
        backbone_config={**backbone, "out_features": ["stage1", "stage2"]}, **_LITTLE, **_HEADS, group_detr=2
    )
    return hf.RfDetrForObjectDetection(config)


KINDS = {
    "detr": detr, "conditional": conditional, "deformable": deformable, "two_stage": two_stage, "rt": rt,
    "rt_v2": rt_v2, "d_fine": d_fine, "lw": lw, "rf": rf,
}  # fmt: skip
CHOOSING = ("two_stage", "rt", "rt_v2", "d_fine", "lw", "rf")
FIXED = {"height": SIZE, "width": SIZE}
SIZES = {"detr": {"shortest_edge": 60, "longest_edge": 90}, "conditional": {"shortest_edge": 48, "longest_edge": 90}}
"""Images of both keep their shape; those of the others are made square."""


def make(kind: str, seed: int = 0) -> nn.Module:
    """A model in evaluation mode whose scores differ and whose boxes move."""
    torch.manual_seed(seed)
    model = KINDS[kind]()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.requires_grad:
                value.add_(torch.randn_like(value) * 0.1)
            if "class" in name and value.dim() > 1:
                value.normal_(0, 1)
    return model.eval()


def save(model: Any, folder: Path, kind: str) -> Path:
    """Save it as transformers' Trainer does, with its image processor; return the weights."""
    model.save_pretrained(folder)
    processor = {"detr": hf.DetrImageProcessor, "conditional": hf.ConditionalDetrImageProcessor,
                 "rf": hf.RfDetrImageProcessor, "deformable": hf.DeformableDetrImageProcessor,
                 "two_stage": hf.DeformableDetrImageProcessor, "lw": hf.DeformableDetrImageProcessor}  # fmt: skip
    processor.get(kind, hf.RTDetrImageProcessor)(size=SIZES.get(kind, FIXED)).save_pretrained(folder)
    return folder / "model.safetensors"
