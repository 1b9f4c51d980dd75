"""Learning curves of several runs and seeds, from files made by hand."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analyses import figures, outputs
from imbalance_bench.runtime.errors import InputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "d" / "t"
    for seed in (0, 1):
        for method, epochs, ap in (("baseline", 2, 0.1), ("x2", 2, 0.3), ("rfs", 3, 0.2)):
            folder = root / f"seed{seed}" / method
            folder.mkdir(parents=True)
            settings = {
                "method": method, "variant": "paper", "seed": seed, "schedule": {"epochs": epochs},
                "bin_edges": [5, 20, 80],
            }  # fmt: skip
            record = {"settings": settings, "provenance": {}, "metrics": {}}
            (folder / "record.json").write_text(json.dumps(record))
            (folder / "per_category.csv").touch()
            if (method, seed) != ("rfs", 1):
                curve = pd.DataFrame({"epoch": range(1, epochs + 1), "mAP": ap + seed / 50})
                curve.assign(**{f"AP{i}": i / 100 for i in range(1, 5)}).to_csv(folder / "curve.csv", index=False)
    return root


def test_epochs_go_on_from_the_run_before(root: Path) -> None:
    curves = outputs.learning_curves(root)
    epochs = {key: part["epoch"].tolist() for key, part in curves.groupby(["run", "seed"])}
    assert epochs == {
        ("Softmax baseline", 0): [1, 2], ("Softmax baseline", 1): [1, 2], ("Baseline x2", 0): [3, 4],
        ("Baseline x2", 1): [3, 4], ("RFS", 0): [1, 2, 3],
    }  # fmt: skip
    assert outputs.learning_curves(root, ["x2"])["run"].unique().tolist() == ["Baseline x2"]
    with pytest.raises(InputError, match=r"no learning curve of focal, nothing, 'run-baseline --curve' makes one"):
        outputs.learning_curves(root, ["nothing", "x2", "focal"])
    with pytest.raises(InputError, match="no learning curve of any run"):
        outputs.learning_curves(root.parent)


def test_lines_are_means_and_bands_deviations_over_seeds(root: Path) -> None:
    figure = figures.learning_curves(outputs.learning_curves(root), ["a", "b", "c", "d"])
    first = figure.axes[0]
    assert [line.get_label() for line in first.lines] == ["Softmax baseline, 2 seeds", "RFS", "Baseline x2, 2 seeds"]
    x2 = first.lines[2]
    assert (x2.get_xdata().tolist(), x2.get_ydata().tolist()) == ([3, 4], pytest.approx([31.0, 31.0]))
    band = first.collections[2].get_paths()[0].vertices[:, 1]
    half = 100 * np.std([0.3, 0.32], ddof=1)
    assert (band.min(), band.max()) == pytest.approx((31 - half, 31 + half))
    alone = first.collections[1].get_paths()[0].vertices[:, 1]
    assert alone.min() == alone.max() == pytest.approx(20.0), "one seed has no band"
    assert [axis.get_title() for axis in figure.axes] == ["mAP  all", "AP1  a", "AP2  b", "AP3  c", "AP4  d"]


def test_the_command(root: Path, run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    here = ("--dataset", "d", "--detector", "t", "--work-dir", root.parents[1])
    assert run("figure", "learning-curves", "baseline", "x2", *here, "-o", tmp_path / "c.png")[0] == 0
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    run("export", "--work-dir", root.parents[1], "-o", tmp_path / "out")
    assert (tmp_path / "out/d/t/seed0/x2/curve.csv").read_text() == (root / "seed0/x2/curve.csv").read_text()
