"""RoIs of all levels pooled at once are mmdet's, pooled level by level, and so are their gradients."""

import pytest
import torch
from mmdet.registry import MODELS
from torch import nn

from imbalance_bench.detectors.mmdet.bbox_head import _of_maps


@pytest.mark.parametrize("ratio", [0, 1, 2])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("factor", [None, 1.3])
def test_as_mmdet(ratio: int, memory: torch.memory_format, factor: float | None) -> None:
    torch.manual_seed(0)
    config = {
        "roi_layer": {"type": "RoIAlign", "output_size": (3, 2), "sampling_ratio": ratio},
        "out_channels": 5,
        "featmap_strides": [4, 8, 16],
        "finest_scale": 6,
    }
    corners = torch.rand(60, 2) * 60 - 6
    sides = 2 ** (6 * torch.rand(60, 2))
    rois = torch.cat([torch.randint(4, (60, 1)), corners, corners + sides], dim=1)
    found = []
    for kind in ("SingleRoIExtractor", "AllLevelsRoIExtractor"):
        torch.manual_seed(1)
        extractor = MODELS.build({"type": kind, **config})
        levels = extractor.map_roi_levels(rois, 3)
        assert sorted(set(levels.tolist())) == [0, 1, 2]
        features = [
            torch.randn(4, 5, 64 // stride, 72 // stride).to(memory_format=memory).requires_grad_()
            for stride in (4, 8, 16)
        ]
        pooled = extractor(tuple(features), rois, factor)
        pooled.backward(torch.arange(pooled.numel()).sin().view(pooled.shape))
        found.append([pooled.detach(), *[feature.grad for feature in features]])
    for theirs, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("rows", [0, 4])
def test_no_rois_on_a_level(rows: int) -> None:
    extractor = MODELS.build(
        {
            "type": "AllLevelsRoIExtractor",
            "roi_layer": {"type": "RoIAlign", "output_size": 2, "sampling_ratio": 0},
            "out_channels": 3,
            "featmap_strides": [4, 8],
        }
    )
    features = [torch.randn(1, 3, side, side, requires_grad=True) for side in (8, 4)]
    pooled = extractor(tuple(features), torch.tensor([[0.0, 2, 2, 20, 20]]).repeat(rows, 1))
    assert pooled.shape == (rows, 3, 2, 2)
    pooled.sum().backward()
    first, second = (feature.grad for feature in features)
    assert first is not None and second is not None
    assert bool(first.any()) == (rows > 0) and not second.any()


def test_weights_follow_the_order_of_the_features() -> None:
    torch.manual_seed(0)
    fc = nn.Linear(4 * 3 * 2, 5)
    maps = torch.randn(6, 4, 3, 2)
    expected = fc(maps.flatten(1))
    expected.square().sum().backward()
    gradient, fc.weight.grad = fc.weight.grad, None
    found = _of_maps(fc, maps.to(memory_format=torch.channels_last))
    found.square().sum().backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(fc.weight.grad, gradient)
