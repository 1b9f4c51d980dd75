"""One call for both diagnoses: of a detector's result files, or of its checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    from imbalance_bench.diagnosis.predictions.result import PredictionDiagnosis
    from imbalance_bench.diagnosis.result import Diagnosis
    from imbalance_bench.evaluation.detections import Detections


@overload
def diagnose(
    *,
    predictions: str | Path | Detections,
    annotations: str | Path,
    train_annotations: str | Path | None = None,
    images: str | Path | None = None,
    **options: Any,
) -> PredictionDiagnosis: ...


@overload
def diagnose(
    detector: str | Path,
    checkpoint: str | Path,
    train_annotations: str | Path,
    val_annotations: str | Path,
    images: str | Path,
    **options: Any,
) -> Diagnosis: ...


def diagnose(*arguments: Any, **options: Any) -> PredictionDiagnosis | Diagnosis:
    """Find out what is wrong with the rare classes of a detector, and what helps.

    Args:
        arguments: as ``options``, in the order of ``diagnosis.diagnose.diagnose``.
        options: with ``predictions``, the arguments of ``diagnosis.predictions.diagnose.diagnose_predictions``, which
            needs neither torch nor mmdet; without, those of ``diagnosis.diagnose.diagnose``, of a detector of mmdet,
            torchvision or transformers with its checkpoint.

    Returns:
        The diagnosis, which is also saved in the folder ``out``.

    Raises:
        InputError: an input is missing, wrong, or does not fit the others.

    Example:
        >>> diagnose(predictions="predictions.json", annotations="val.json")
        Traceback (most recent call last):
        imbalance_bench.runtime.errors.InputError: val.json: no such file, expected the validation annotations
    """
    if "predictions" in options:
        from imbalance_bench.diagnosis.predictions.diagnose import diagnose_predictions

        return diagnose_predictions(*arguments, **options)
    from imbalance_bench.diagnosis.diagnose import diagnose as diagnose_checkpoint

    return diagnose_checkpoint(*arguments, **options)
