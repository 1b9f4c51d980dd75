"""The figure of AP by bin shows gains over the control, with intervals over seeds."""

import numpy as np
import pandas as pd
import pytest

from analyses import outputs
from analyses.beyond import half_width


def runs(seeds: int) -> pd.DataFrame:
    """Return runs of Table 1 whose AP differs from the control's (.30) by ``GAINS``, a little more with each seed."""
    known = {"bin_edges": "10 100", "dataset": "any", "detector": "tiny", "date": "2026-01-01"}
    gained = {
        "x2-cls": 0.0,
        "x2": -0.03,
        "baseline": -0.05,
        "bags": 0.02,
        "finetune-tail": -0.06,
        "reweight-cls": 0.04,
        "focal": -0.5,
    }
    return pd.DataFrame(
        [
            {
                **known, "run": run, "seed": seed, "AP1_classes": 1, "AP2_classes": 3, "AP3_classes": 2,
                **{name: 0.3 + gain + 0.001 * seed * (run != "x2-cls") for name in ("mAP", "AP1", "AP2", "AP3")},
            }
            for run, gain in gained.items()
            for seed in range(seeds)
        ]
    )  # fmt: skip


@pytest.mark.parametrize("seeds", [1, 3])
def test_gains_over_the_control(seeds: int) -> None:
    figure = outputs.ap_by_bin(runs(seeds))
    panels = figure.axes
    names = [label.get_text().split(" ")[0] for label in panels[0].get_yticklabels()]
    assert sorted(names) == ["bags", "baseline", "finetune-tail", "focal", "reweight-cls", "x2"], (
        "not the control itself"
    )
    assert "AP over x2-cls" in figure.get_suptitle() and ("intervals" in figure.get_suptitle()) == (seeds > 1)
    assert [panel.get_title().split("\n")[1] for panel in panels] == ["6 classes", "1 class", "3 classes", "2 classes"]
    offset = 0.1 * np.mean(range(seeds))
    written = dict(zip(names, (text.get_text() for text in panels[1].texts), strict=True))
    assert written["bags"] == f"{2 + offset:+.1f}" and written["focal"] == f"{-50 + offset:+.1f}"
    assert panels[1].get_xlim()[0] > -10, "what is far off does not hide the others"
    arrows = [line for line in panels[1].lines if line.get_marker() == "<" and len(line.get_xdata())]
    assert [line.get_ydata().tolist() for line in arrows] == [[names.index("focal")]]


def test_without_the_control_over_the_baseline() -> None:
    some = runs(1).query("run != 'x2-cls'").sort_values("run", key=lambda of: of != "baseline")
    assert "over baseline" in outputs.ap_by_bin(some).get_suptitle()


def test_intervals_are_those_of_the_mean_over_seeds() -> None:
    differences = [0.02, 0.021, 0.022]
    first, panel, *_ = outputs.ap_by_bin(runs(3)).axes
    names = [label.get_text().split(" ")[0] for label in first.get_yticklabels()]
    (whiskers,) = panel.containers
    shown = [row for row in names if row != "focal"]
    segment = whiskers.lines[2][0].get_segments()[shown.index("bags")]
    half = 100 * half_width(np.std(differences, ddof=1), 3)
    assert segment[:, 0] == pytest.approx([2.1 - half, 2.1 + half])
