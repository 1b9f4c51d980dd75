"""Export of a repaired dense or query detector as an mmdet configuration and a checkpoint."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmengine.config import Config

from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.classifiers import LinearClassifier
from imbalance_bench.detectors import sigmoid_heads
from imbalance_bench.detectors.hosting import aliases
from imbalance_bench.detectors.mmdet import hosted
from imbalance_bench.detectors.mmdet.export import import_this_package, write
from imbalance_bench.detectors.port import Export

if TYPE_CHECKING:
    from imbalance_bench.detectors.mmdet.single_head import SingleHead


def export(detector: SingleHead, checkpoint: Path, class_names: Sequence[str], folder: Path) -> Export:
    """Write ``config.py`` and ``checkpoint.pth``, with the test settings measured with.

    Args:
        detector: the detector as its user configured it.
        checkpoint: checkpoint of a run on this detector.
        class_names: names in label order.
        folder: folder for both files.

    Returns:
        What was written, and whether plain mmdet runs it: where scores are sigmoids of a linear layer, and the layer is
        not also what an encoder chooses queries by. Otherwise this package must be importable (``custom_imports``).
    """
    content = checkpoints.load(checkpoint)
    (classifier,) = checkpoints.classifiers_of(content, checkpoint).values()
    state, config = content["state_dict"], copy.deepcopy(detector.config)
    shared = [aliases(detector.model, name) for name in detector.layers]
    plain = sigmoid_heads.is_linear(classifier) and not any(map(detector.chooses_by, shared))
    if plain:
        assert isinstance(classifier, LinearClassifier)
        state = {name: value for name, value in state.items() if not checkpoints.is_classifier(name)}
        rows = hosted.separated(classifier, detector.layers)
        for names in shared:
            for part in ("weight", "bias"):
                state |= {f"{name}.{part}": rows[f"{names[0]}.{part}"] for name in names}
    else:
        config.model = {**config.model, "type": "HostedDetector", "detector": config.model.type,
                        "classifier": classifier.config()}  # fmt: skip
        import_this_package(config)
    config.model.test_cfg = {**(config.model.get("test_cfg") or {}), **detector.test_settings}
    return write(Config(config.to_dict()), state, class_names, folder, plain)
