"""Methods that a detector's head cannot host are left out with the reason, or refused where they were asked for."""

import sys
from pathlib import Path

import pytest
from their_detector import NAMES, ON_SIGMOIDS

sys.path.insert(0, str(Path(__file__).parents[1] / "detectors" / "torchvision"))
from little_torchvision import fcos, save, spread_dense

from imbalance_bench import diagnose
from imbalance_bench.datasets.generated import generate
from imbalance_bench.detectors.torchvision.dense import Dense
from imbalance_bench.diagnosis.trials import fitting
from imbalance_bench.experiments.benchmark import Benchmark
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.methods import candidates
from imbalance_bench.runtime.errors import InputError


def test_what_fits_a_dense_head(tmp_path: Path) -> None:
    data = generate(tmp_path / "data", len(NAMES), 6, 2, (64, 64))
    detector = Dense.of("little_torchvision:fcos", fcos())
    bench = Benchmark(Setup(data, detector), tmp_path)
    fit, notes = fitting(bench, detector, candidates(None), asked=False)
    assert [method.name for method in fit] == ON_SIGMOIDS
    assert len(notes) == 2 and all(note.startswith("not tried: ") for note in notes)
    of_background = next(note for note in notes if "x2-cls" in note)
    assert "seesaw" in of_background and "it scores background by a row of its own" in of_background
    with pytest.raises(InputError, match="'seesaw' cannot be tried on little_torchvision:fcos: it scores background"):
        fitting(bench, detector, candidates(("eql", "seesaw")), asked=True)


def test_an_export_of_what_is_not_tried(their_data: Path, tmp_path: Path) -> None:
    path = save(spread_dense(fcos()), tmp_path / "fcos.pth")
    with pytest.raises(InputError, match="option '--export' is 'tau-norm', expected one of the methods that are tried"):
        diagnose(
            "little_torchvision:fcos", path, their_data / "train.json", their_data / "val.json", their_data / "train",
            val_images=their_data / "val", out=tmp_path / "out", skip_missing=True, export="tau-norm",
            framework="torchvision",
        )  # fmt: skip
