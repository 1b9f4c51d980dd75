"""All classifier-level methods on one frozen detector per seed: default settings, chosen ones, and a cosine head."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from imbalance_bench.bins import tail_bins
from imbalance_bench.evaluation import per_category
from imbalance_bench.evaluation.calibration import INTERVALS
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.measures import PREFIXES
from imbalance_bench.experiments.run_folder import RunFolder
from imbalance_bench.methods import METHODS, Method, Run, candidates
from imbalance_bench.runtime.errors import InputError

from . import over_images as drawing

CONTROL, COSINE_CONTROL = "x2-cls", "cosine"
"""W and b as they are, trained as much longer: what a method must beat; and the same of a cosine classifier."""
GAINS = ("mAP", "tail", "head")
CAPTION = (
    f"gains over {CONTROL}, over '{COSINE_CONTROL}' for cosine=20: 95 % interval of the mean over seeds, with one seed "
    f"over images; fixed: 10,000 detections a class, no limit an image; ECE: {INTERVALS}"
)


def collect(root: Path) -> pd.DataFrame:
    """Collect finished runs, one row for each method, kind of settings and seed.

    Args:
        root: ``work_dir/<dataset>/<detector>``, which holds ``seed0``, ``seed1``, ...

    Returns:
        ``method``, ``kind`` (``default``, ``tuned``, ``cosine``), ``settings``, ``folder``, ``seed``, the measures as
        fractions with ``tail`` and ``head`` (mean AP over the classes of the tail bins and the others, ``tail_bins``;
        under AP_fixed ``tail_fixed`` and ``head_fixed``), and the provenance. A method whose chosen settings are the
        default ones occurs twice.

    Raises:
        InputError: there is no finished run below ``root``.
    """
    baseline = METHODS["baseline"]
    rows = []
    for seed in sorted(root.glob("seed*")):
        for method in (baseline, *candidates()):
            kinds = {
                "default": method.candidate,
                "tuned": chosen(seed, method),
                "cosine": method.under_a_cosine,
            }
            for kind, run in kinds.items():
                if run is not None and (folder := RunFolder(seed / run.folder)).is_done:
                    rows.append(
                        {
                            "method": method.name,
                            "kind": kind,
                            "settings": run.variant,
                            "folder": run.folder,
                            **measures(folder),
                        }
                    )
    if not rows:
        raise InputError(f"{root}: no finished run, 'beyond' makes them")
    return pd.DataFrame(rows)


def chosen(seed: Path, method: Method) -> Run | None:
    """Return the run with the settings chosen for a method; None if nothing was tried."""
    path = seed / "tuning" / f"{method.name}.json"
    return method.run(str(json.loads(path.read_text())["chosen"])) if path.exists() else None


def measures(folder: RunFolder) -> dict[str, Any]:
    """Return seed, measures, ``tail`` and ``head``, and provenance of a finished run, as ``collect``.

    Raises:
        InputError: its files are not those of a finished run.
    """
    record = folder.record()
    table = per_category.foreground(folder.per_category)
    table = table.assign(ap_fixed=table.get("ap_fixed", math.nan))  # not measured by earlier versions
    tail = tail_bins(record["settings"]["bin_edges"])
    in_tail, in_head = table["bin"].isin(tail), table["bin"] > max(tail, default=0)
    provenance = record["provenance"]
    return {
        "seed": record["settings"]["seed"],
        **{f"tail{kind}": table.loc[in_tail, f"ap{kind}"].mean() for kind in ("", "_fixed")},
        **{f"head{kind}": table.loc[in_head, f"ap{kind}"].mean() for kind in ("", "_fixed")},
        **{name: value for name, value in record["metrics"].items() if not name.endswith("_classes")},
        "dataset": record["settings"]["dataset"],
        "detector": record["settings"]["detector"],
        "train_seconds": provenance["seconds"].get("train"),
        "machine": provenance["machine"],
        "date": provenance["date"],
        "versions": "; ".join(f"{name} {version}" for name, version in provenance["versions"].items()),
        "command": provenance["command"],
    }


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Compute means over seeds, one row for each method and kind, and gains over baseline and control, paired by seed.

    Returns:
        ``method``, ``title``, ``family``, ``year``, ``source``, ``kind``, ``settings`` (all that were chosen),
        ``seeds``; each measure's mean and, as ``<name>_std``, its deviation over seeds; of mAP, tail and head, and of
        the same under AP_fixed, ``<name>_gain`` over the baseline and ``<name>_over_control`` (of the cosine kind, over
        the cosine classifier's), both with ``_low`` and ``_high``: 95 % intervals of the mean over seeds (Student's
        t; NaN for one seed); ``over``, what they are over: ``seeds``, or ``-``; data set, detector and provenance.
    """
    compared = [f"{group}{kind}" for kind in ("", "_fixed") for group in GAINS]
    measured = [*compared, *(c for c in runs if c.startswith(PREFIXES))]
    by_seed = {key: part.set_index("seed") for key, part in runs.groupby(["method", "kind"], sort=False)}
    rows = []
    for (name, kind), part in by_seed.items():
        method = METHODS[name]
        row: dict[str, Any] = {
            "method": name, "title": method.title, "family": method.family, "year": method.year,
            "source": method.source, "kind": kind, "settings": " / ".join(dict.fromkeys(part["settings"])),
            "seeds": len(part), "over": "seeds" if len(part) > 1 else "-",
            **part[measured].mean(), **part[measured].std().add_suffix("_std"),
        }  # fmt: skip
        control = COSINE_CONTROL if kind == "cosine" else CONTROL
        for other, suffix in (("baseline", "gain"), (control, "over_control")):
            if (other, "default") not in by_seed:
                continue
            for group in compared:
                difference = (part[group] - by_seed[other, "default"][group]).dropna()
                mean, half = difference.mean(), half_width(difference.std(), len(difference))
                row |= {f"{group}_{suffix}": mean, f"{group}_{suffix}_low": mean - half}
                row |= {f"{group}_{suffix}_high": mean + half}
        provenance = ("dataset", "detector", "machine", "date", "versions")
        row |= {name: " / ".join(dict.fromkeys(part[name].astype(str))) for name in provenance}
        rows.append(row)
    return pd.DataFrame(rows)


def over_images(frame: pd.DataFrame, runs: pd.DataFrame, root: Path, truth: GroundTruth) -> pd.DataFrame:
    """Give the gains of a table of one seed their intervals over validation images, the same drawn ones for both runs.

    Args:
        frame: result of ``summary``.
        runs: result of ``collect``, of one seed.
        root: its folder.
        truth: the validation annotations that the runs were measured on.

    Returns:
        ``frame`` with the intervals of mAP, tail and head, where ``over`` is then ``images``; those under AP_fixed are
        not known.

    Raises:
        InputError: a run has no detections.
    """
    folders = {key: RunFolder(root / f"seed{part['seed'].iloc[0]}" / part["folder"].iloc[0])
               for key, part in runs.groupby(["method", "kind"])}  # fmt: skip
    drawn = {}
    for key, folder in folders.items():
        folder.verified(folder.detections)
        drawn[key] = drawing.drawn(Detections.load(folder.detections), truth)
    found = frame.set_index(["method", "kind"])
    for name, kind in found.index:
        control = (COSINE_CONTROL if kind == "cosine" else CONTROL, "default")
        for other, suffix in ((("baseline", "default"), "gain"), (control, "over_control")):
            if other not in drawn or other == (name, kind):
                continue
            limits = drawing.gains(drawn[name, kind], drawn[other])
            for group in GAINS:
                for end in ("low", "high"):
                    found.loc[(name, kind), f"{group}_{suffix}_{end}"] = limits.loc[group, end]
        found.loc[(name, kind), "over"] = "images"
    return found.reset_index()[list(frame)]


def half_width(deviation: Any, count: Any) -> Any:
    """Return half the width of the 95 % interval of a mean by Student's t; NaN for fewer than two values.

    Args:
        deviation: standard deviation of the values (of the sample): a number, or a frame of them.
        count: how many values there are, of the same shape.
    """
    from scipy import stats

    return stats.t.ppf(0.975, count - 1) * deviation / np.sqrt(count)


def cell(mean: float, half: float, sign: str = "") -> str:
    """Format a fraction in percent with one decimal, and what stands after its ± if that is known."""
    if math.isnan(mean):
        return "-"
    return f"{100 * mean:{sign}.1f}" + ("" if math.isnan(half) else f"±{100 * half:.1f}")


def interval(value: float, low: float, high: float, is_symmetric: bool) -> str:
    """Format a difference in percent with its interval: ``+1.2±0.3``, or ``+1.2 [+0.4, +2.9]``."""
    if is_symmetric or math.isnan(low):
        return cell(value, high - value, "+")
    return f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """Format the table for readers: AP in percent, gains over the control (``CAPTION``), best mAP first."""
    tuned = frame["kind"] == "tuned"
    columns: dict[str, list[str]] = {
        "method": frame["method"].tolist(),
        "settings": frame["settings"].where(~tuned, frame["settings"] + " (chosen)").tolist(),
    }
    by_bin = [c for c in frame if c.startswith("AP") and c[2:].isdigit()]
    for name in ("mAP", "tail", "head", *by_bin, "mAP_fixed", "tail_fixed", "ECE"):
        columns[name] = [cell(*pair) for pair in zip(frame[name], frame[f"{name}_std"], strict=True)]
    for group in GAINS:
        ends = (frame[f"{group}_over_control{end}"] for end in ("", "_low", "_high"))
        rows = zip(*ends, frame["over"] != "images", strict=True)
        columns[f"{group} over control"] = [interval(*row) for row in rows]
    order = frame["mAP"].sort_values(ascending=False, kind="stable").index
    return pd.DataFrame(columns, index=frame.index).loc[order]


def brief(frame: pd.DataFrame) -> pd.DataFrame:
    """Format the short table: as ``shown``, but default settings only, highest AP on the tail first."""
    chosen = frame[frame["kind"] == "default"].sort_values("tail", ascending=False, kind="stable")
    columns = ["method", "mAP", "tail", "head", "tail_fixed", "tail over control", "head over control"]
    return shown(chosen).loc[chosen.index, columns].assign(year=chosen["year"].astype(str))


def short(frame: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Return some rows of ``brief``, index ``method``: AP of all, tail and head classes, and gains over the control."""
    columns = ["mAP", "tail", "head", "tail over control", "head over control"]
    return brief(frame).set_index("method").loc[list(methods), columns]


def points(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row per method for ``diagnosis.figures.gains``: the numbers of ``brief``, over the control."""
    default = frame[frame["kind"] == "default"].set_index("method")
    columns = {
        f"{group}_{end}": default[f"{group}_over_control{source}"]
        for group in ("tail", "head")
        for end, source in (("gain", ""), ("low", "_low"), ("high", "_high"))
    }
    return pd.DataFrame(columns)


def figure(frame: pd.DataFrame, title: str) -> Figure:
    """Draw tail gain against head cost of every method over the control, with the numbers of ``brief``."""
    from imbalance_bench.diagnosis.figures import gains  # what reads run folders needs nothing that a diagnosis needs

    return gains(points(frame), None, f"{title}: default settings, over {CONTROL}", over=CONTROL)
