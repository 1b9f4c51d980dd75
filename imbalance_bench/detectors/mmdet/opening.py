"""A user's mmdet detector of any kind that is hosted, by the type of its head.

The configuration is Python code and is executed, as in mmdet; no code in a checkpoint is executed.
"""

from __future__ import annotations

from pathlib import Path

from mmdet.models.dense_heads import DeformableDETRHead, DINOHead
from mmdet.models.detectors import DINO, DeformableDETR, SingleStageDetector

from imbalance_bench.detectors.mmdet import config_file
from imbalance_bench.detectors.mmdet.dense import DenseDetector
from imbalance_bench.detectors.mmdet.families import FAMILIES
from imbalance_bench.detectors.mmdet.from_config import ForeignDetector
from imbalance_bench.detectors.mmdet.query import QueryDetector
from imbalance_bench.detectors.port import UserDetector
from imbalance_bench.runtime.errors import InputError

QUERIES = {DeformableDETR: DeformableDETRHead, DINO: DINOHead}


def open_config(path: Path) -> UserDetector:
    """Read the configuration of a detector.

    Raises:
        InputError: not one, or one of a detector that is not hosted; the message names what it is.
    """
    config = config_file.read_config(path)
    if "roi_head" in config.model:
        return ForeignDetector.from_config(path, config)
    config_file.remove_downloads(config.model)
    transforms = config_file.test_transforms(config, path)
    model = config_file.build_model(config, path).eval()
    head = type(model.bbox_head)
    if QUERIES.get(type(model)) is head:
        return QueryDetector.of(path, config, transforms, model)
    if isinstance(model, SingleStageDetector) and head in FAMILIES:
        return DenseDetector.of(path, config, transforms, model)
    served = [*FAMILIES, *QUERIES.values()]
    raise InputError(
        f"{path}: field 'model.bbox_head' is {head.__name__} in {type(model).__name__}, expected a two-stage detector "
        f"(roi_head), or one of {', '.join(kind.__name__ for kind in served)}"
    )
