"""First weights that the package brings: detectors trained on the embedded pretraining set, in half precision."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.detectors.mmdet import catalogue
from imbalance_bench.detectors.mmdet.detector import Detector
from imbalance_bench.runtime.files import write_atomically, write_json


def weights_of(detector: Detector) -> Path | None:
    """Return the file of a detector's first weights; None if the package brings none."""
    name = catalogue.plain(detector).name
    path = Path(str(resources.files("imbalance_bench.detectors.mmdet"))) / "weights" / f"{name}.safetensors"
    return path if path.is_file() else None


def write(checkpoint: Path, record: dict[str, Any], path: Path) -> None:
    """Write the weights of a checkpoint in half precision as safetensors, and beside them how they were made.

    What is new in every training that starts from them, classifiers and box regressors, is left out.

    Args:
        checkpoint: of the trained detector.
        record: of its run: settings, provenance, metrics.
        path: file that is written; the record goes beside it, with the suffix ``.json``.
    """
    from safetensors.torch import save_file

    state = checkpoints.load(checkpoint)["state_dict"]
    kept = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in state.items()
        if not checkpoints.is_new_in_training(name)
    }
    if not all(value.isfinite().all() for value in kept.values()):
        raise ValueError(f"{checkpoint}: weights that half precision cannot hold")
    write_atomically(path, lambda partial: save_file(kept, partial, {"format": "pt"}))
    write_json(path.with_suffix(".json"), record)
