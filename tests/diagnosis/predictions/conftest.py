"""Diagnoses from made files."""

from pathlib import Path

import pytest
from made_files import NAMES, annotations, detections, write

from imbalance_bench.diagnosis.predictions.diagnose import diagnose_predictions
from imbalance_bench.diagnosis.predictions.result import PredictionDiagnosis

TRAIN, VAL = (900, 30, 200), (200, 40, 60)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three classes: the rarest loses half of its boxes to the most frequent one."""
    folder = tmp_path_factory.mktemp("three")
    val = annotations(NAMES, VAL, images=40, seed=2)
    found = detections(val, right={3: 0.95, 5: 0.45, 8: 0.9}, taken_by={5: 3})
    return {
        "predictions": write(folder / "predictions.json", found),
        "annotations": write(folder / "val.json", val),
        "train_annotations": write(folder / "train.json", annotations(NAMES, TRAIN, images=100)),
    }


@pytest.fixture(scope="session")
def diagnosis(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> PredictionDiagnosis:
    return diagnose_predictions(**files, out=tmp_path_factory.mktemp("three_out"))
