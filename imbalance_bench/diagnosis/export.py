"""Export of a fixed detector as an mmdet configuration and a checkpoint."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.classifiers import Classifier, SoftmaxClassifier
from imbalance_bench.detectors.mmdet.from_config import ForeignDetector
from imbalance_bench.detectors.mmdet.hosting import evaluate_as_lvis, heads
from imbalance_bench.runtime.files import write_text

HOST = "imbalance_bench"


def is_plain(classifiers: Sequence[Classifier]) -> bool:
    """Tell whether mmdet's own heads compute the same scores: all classifiers are a linear layer and a softmax."""
    return all(isinstance(c, SoftmaxClassifier) and c.cosine is None for c in classifiers)


def export(detector: ForeignDetector, checkpoint: Path, class_names: Sequence[str], folder: Path) -> bool:
    """Write ``config.py`` and ``checkpoint.pth``, with the test settings measured with: 300 per image, all scores.

    Args:
        detector: the detector as its user configured it.
        checkpoint: checkpoint of a run on this detector.
        class_names: names in label order.
        folder: folder for both files.

    Returns:
        Whether plain mmdet can run the detector; otherwise this package must be importable (``custom_imports``).
    """
    content = checkpoints.load(checkpoint)
    classifiers = list(checkpoints.classifiers_of(content, checkpoint).values())
    plain = is_plain(classifiers)
    config = copy.deepcopy(detector.user_config)
    if plain:
        for head in heads(config.model.roi_head.bbox_head):
            head.loss_cls = {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0}
    else:
        config.model = detector.model(len(class_names), classifiers[0].config())
        imports = config.get("custom_imports") or {"imports": []}
        imports["imports"] = [*imports["imports"], HOST]
        config.custom_imports = {**imports, "allow_failed_imports": False}
    evaluate_as_lvis(config.model)
    meta = {"dataset_meta": {"classes": tuple(class_names)}}
    checkpoints.write(folder / "checkpoint.pth", {"state_dict": content["state_dict"], "meta": meta})
    write_text(folder / "config.py", Config(config.to_dict()).pretty_text + "\n")
    return plain
