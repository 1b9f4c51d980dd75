"""Proposal accuracy by bin of training instances and on background, from per-category tables (section 5.2)."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from analyses.per_category import Source, read, side_by_side


def accuracy_by_bin(source: Source) -> pd.DataFrame:
    """Accuracy of all proposals, of each bin's and of background's.

    Args:
        source: a run's per-category table or its path.

    Returns:
        Index ``group``: ``ACC`` (background included), ``ACC1``.., ``ACCbg``; columns ``classes`` (with a
        proposal), ``proposals``, ``correct``, ``accuracy`` (correct / proposals, the paper's) and ``macro`` (mean
        over foreground classes; NaN for ``ACCbg``), fractions.

    Raises:
        InputError: not a per-category table.
    """
    frame = read(source)
    classes = frame.iloc[:-1]
    groups = {"ACC": frame}
    groups |= {f"ACC{int(number)}": part for number, part in classes.groupby("bin")}
    groups["ACCbg"] = frame.iloc[-1:]
    rows = {}
    for name, part in groups.items():
        members = part[part.index.isin(classes.index)]
        rows[name] = {
            "classes": int((members["proposals"] > 0).sum()),
            "proposals": int(part["proposals"].sum()),
            "correct": int(part["correct"].sum()),
            "macro": (members["correct"] / members["proposals"]).mean(),
        }
    result = pd.DataFrame.from_dict(rows, orient="index").rename_axis("group")
    result = result.astype({"classes": int, "proposals": int, "correct": int})
    result.insert(3, "accuracy", result["correct"] / result["proposals"])
    return result


def compare(sources: Mapping[str, Source], column: str = "accuracy") -> pd.DataFrame:
    """``column`` of ``accuracy_by_bin`` for several runs: a row a run, columns ACC, ACC1.., ACCbg."""
    return side_by_side(sources, accuracy_by_bin, column)
