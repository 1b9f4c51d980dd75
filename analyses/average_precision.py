"""AP by bin of training instances and by LVIS frequency, from runs' per-category tables (sections 5.1 and 5.2)."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from analyses.per_category import Source, foreground, side_by_side
from imbalance_bench.evaluation.bootstrap import interval_over_classes


def ap_by_bin(source: Source, *, resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """AP of each bin, of each frequency and of all, with the number of classes and boxes it rests on.

    Args:
        source: a run's per-category table or its path.
        resamples: of the bootstrap over categories; see ``bootstrap.interval_over_classes``.
        seed: of the bootstrap.

    Returns:
        Index ``group``: ``mAP``, ``AP1``.., ``APr``, ``APc``, ``APf`` (those that have a category); columns
        ``classes`` (with validation ground truth), ``val_instances``, ``ap``, ``ap50``, ``ap75``, ``recall``
        (means over classes, fractions), ``classes_low`` and ``classes_high`` (95 % interval of ``ap`` over classes).

    Raises:
        InputError: not a per-category table.
    """
    frame = foreground(source)
    groups = {"mAP": frame}
    groups |= {f"AP{int(number)}": part for number, part in frame.groupby("bin")}
    groups |= {f"AP{letter}": frame[frame["frequency"] == letter] for letter in "rcf"}
    rows = {}
    for name, part in groups.items():
        if len(part):
            low, high = interval_over_classes(part["ap"], resamples=resamples, seed=seed)
            means = part[["ap", "ap50", "ap75", "recall"]].mean()
            counts = {"classes": part["ap"].count(), "val_instances": int(part["val_instances"].sum())}
            rows[name] = {**counts, **means, "classes_low": low, "classes_high": high}
    columns = pd.DataFrame.from_dict(rows, orient="index").rename_axis("group")
    return columns.astype({"classes": int, "val_instances": int})


def compare(sources: Mapping[str, Source], column: str = "ap") -> pd.DataFrame:
    """``column`` of ``ap_by_bin`` for several runs: a row a run, columns mAP, AP1.., APr, APc, APf."""
    return side_by_side(sources, ap_by_bin, column)
