"""Export of a repaired detector for torchvision: a checkpoint, and a small loader beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.classifiers import Classifier
from imbalance_bench.classifiers.softmax import is_linear_softmax
from imbalance_bench.detectors import sigmoid_heads
from imbalance_bench.detectors.hosting import HostingConv
from imbalance_bench.detectors.port import Export
from imbalance_bench.detectors.torchvision.models import CLS_LOGITS, CLS_SCORE
from imbalance_bench.runtime.equality import ByValue
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import write_text

if TYPE_CHECKING:
    from imbalance_bench.detectors.torchvision.dense import Dense
    from imbalance_bench.detectors.torchvision.rcnn import RCNN

LOADER = '''"""A detector with a repaired classifier: ``load()`` returns it in evaluation mode.

{needs}. It keeps all scores and {most} detections of an image, as it was measured;
the model of its user keeps scores above {threshold:g} and {fewer} detections.
"""

from pathlib import Path

import torch
{imports}

CLASSES = {classes}
"""Names of the labels."""


def load(device="cpu"):
    """Build the model, and load ``checkpoint.pth`` beside this file."""
    model = {build}
    path = Path(__file__).with_name("checkpoint.pth")
{body}
    return model.to(device).eval()
'''
PLAIN = '    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))'


@dataclass(frozen=True, eq=False)
class _Loaded(ByValue):
    """How an exported classifier is loaded.

    Attributes:
        state: torchvision's own tensors of the classifier; None where torchvision does not compute it.
        imports: what the loader imports for another one.
        hosted: line that loads another one.
        settings: lines that set thresholds of a model.
    """

    state: Mapping[str, Tensor] | None
    imports: tuple[str, ...]
    hosted: str
    settings: str


def export(detector: RCNN, checkpoint: Path, class_names: Sequence[str], folder: Path) -> Export:
    """Write ``checkpoint.pth`` and ``load.py``, with the settings measured with.

    Args:
        detector: the detector as its user described it.
        checkpoint: checkpoint of a run on this detector.
        class_names: names in label order.
        folder: folder for both files.

    Returns:
        What was written. Where the classifier is a linear layer and a softmax, the checkpoint is a state dict of the
        user's own model; otherwise the loader needs this package.

    Raises:
        InputError: the classifier reads other features than torchvision's predictor does.
    """
    content, classifier = _read(checkpoint)
    if set(classifier.taps) != {"fc"}:
        taps = " and ".join(classifier.taps)
        raise InputError(
            f"option '--export': {type(classifier).__name__} reads {taps}, expected one that reads fc alone"
        )
    own = None
    if is_linear_softmax(classifier):
        rows = {"weight": classifier.weight.detach(), "bias": classifier.bias.detach()}
        own = {CLS_SCORE + name: value.roll(1, 0) for name, value in rows.items()}  # background first
    after = detector.postprocess
    imports = (
        "from imbalance_bench.detectors.torchvision.hosting import load_hosted",
        "from imbalance_bench.proposals.postprocess import Postprocess",
    )
    settings = (
        "    model.roi_heads.score_thresh, model.roi_heads.detections_per_img = "
        f"{after.score_threshold}, {after.max_per_image}"
    )
    loaded = _Loaded(own, imports, f"    load_hosted(model, path, {after})", settings)
    return _write(detector, content, classifier, loaded, class_names, folder)


def export_dense(detector: Dense, checkpoint: Path, class_names: Sequence[str], folder: Path) -> Export:
    """Write ``checkpoint.pth`` and ``load.py``, as ``export`` does; plain is a classifier of sigmoids as they are."""
    content, classifier = _read(checkpoint)
    own = None
    if sigmoid_heads.is_linear(classifier):
        filters = HostingConv(classifier, detector.model.head.classification_head.cls_logits).convolution()
        own = {CLS_LOGITS + name: value.detach() for name, value in zip(("weight", "bias"), filters, strict=True)}
    after = detector.postprocess
    imports = ("from imbalance_bench.detectors.torchvision.dense_hosting import load_hosted",)
    settings = f"    model.score_thresh, model.detections_per_img = {after.score_threshold}, {after.max_per_image}"
    loaded = _Loaded(own, imports, f"    load_hosted(model, path)\n{settings}", settings)
    return _write(detector, content, classifier, loaded, class_names, folder)


def _read(checkpoint: Path) -> tuple[dict[str, Any], Classifier]:
    content = checkpoints.load(checkpoint)
    (classifier,) = checkpoints.classifiers_of(content, checkpoint).values()
    return content, classifier


def _write(
    detector: RCNN | Dense,
    content: Mapping[str, Any],
    classifier: Classifier,
    loaded: _Loaded,
    class_names: Sequence[str],
    folder: Path,
) -> Export:
    state: dict[str, Tensor] = content["state_dict"]
    imports: tuple[str, ...] = ()
    if loaded.state is not None:
        others = {name: value for name, value in state.items() if not checkpoints.is_classifier(name)}
        stored: dict[str, Any] = others | {name: value.clone() for name, value in loaded.state.items()}
        needs, body = "plain torchvision runs it", f"{PLAIN}\n{loaded.settings}"
    else:
        stored = {"state_dict": state, "meta": {"classifier": classifier.config()}}
        needs, imports, body = "it needs this package where it runs (imbalance_bench)", loaded.imports, loaded.hosted
    line, build = _built(detector)
    own = detector.own_postprocess
    text = LOADER.format(
        needs=needs[0].upper() + needs[1:],
        most=detector.postprocess.max_per_image,
        threshold=own.score_threshold,
        fewer=own.max_per_image,
        imports="\n".join(sorted([line, *imports])),
        classes=dict(enumerate(class_names, detector.first_label)),
        build=build,
        body=body,
    )
    checkpoints.write(folder / "checkpoint.pth", stored)
    write_text(folder / "load.py", text)
    return Export(("load.py", "checkpoint.pth"), loaded.state is not None, needs)


def _built(detector: RCNN | Dense) -> tuple[str, str]:
    """Return the import and the call that build the user's model."""
    module, _, function = detector.source.rpartition(":")
    if module:
        return f"from {module} import {function}", f"{function}()"
    call = f"get_model({function!r}, weights=None, weights_backbone=None, num_classes={detector.rows})"
    return "from torchvision.models import get_model", call
