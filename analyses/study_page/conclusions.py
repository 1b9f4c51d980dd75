"""What a study's page says first, in sentences."""

from __future__ import annotations

import pandas as pd

from imbalance_bench.pages.cells import shown_gain, shown_percent

from .. import beyond
from .evidence import Evidence

OVER = {"seeds": "seeds (Student's t)", "images": "validation images, of one seed"}


def conclusions(found: Evidence) -> list[str]:
    """Write the sentences: what is compared, what gains on the tail, what it costs, and how sure that is."""
    if found.control is None:
        return ["Nothing to compare with was run: the tables below are levels alone."]
    frame = found.methods
    control, frame = frame.loc[found.control], frame.drop(index=found.control)
    frame = frame.dropna(subset="tail_gain")
    others = frame.drop(index="baseline", errors="ignore")
    longer = "the detector as it is; the control x2-cls, the same classifier trained longer, was not run"
    if found.control == beyond.CONTROL:
        longer = "the same classifier, trained longer by as much as the methods train theirs"
    lines = [
        f"{len(others)} {'method is' if len(others) == 1 else 'methods are'} compared with {found.control}: {longer}. "
        f"It has an AP of {shown_percent(control['tail'])} on tail classes and {shown_percent(control['head'])} on the "
        "others."
    ]
    if others.empty:
        return lines
    best = others.sort_values(["tail_gain", "mAP_gain"], ascending=False).iloc[0]
    known = others.dropna(subset="tail_low")
    if known.empty:
        lines.append(
            f"{best['method']} gains most on tail classes: {shown_gain(best['tail_gain'])} points, and "
            f"{shown_gain(best['head_gain'])} on the others. With one seed, and no detections to draw images from, "
            "nothing tells which differences are chance."
        )
        return lines
    counted = f"the {len(known)} with several seeds" if found.over == "seeds" else str(len(known))
    up, down = known[known["tail_low"] > 0], known[known["tail_high"] < 0]
    lines.append(
        f"On tail classes {len(up)} of {counted} gain beyond chance and {len(down)} lose: 95 % intervals over "
        f"{OVER[found.over]}. Each is for its method alone: if none differed, about "
        f"{max(1, round(len(known) / 20))} of {len(known)} would still seem to."
    )
    if len(up):
        first = up.sort_values(["tail_gain", "mAP_gain"], ascending=False).iloc[0]
        lines.append(f"Most is gained by {_gained(first)}.")
        free = up[up["head_high"] >= 0].sort_values("tail_gain", ascending=False)
        if len(free) and free.index[0] != first.name:
            lines.append(f"Most without a loss on head classes beyond chance: {_gained(free.iloc[0])}.")
        elif len(free):
            lines.append("It shows no loss on head classes beyond chance.")
        else:
            lines.append("Each of these loses on head classes.")
    return lines


def _gained(row: pd.Series) -> str:
    tail, head = (shown_gain(*(row[f"{group}_{end}"] for end in ("gain", "low", "high"))) for group in ("tail", "head"))
    return f"{row['method']} ({row['variant']}): {tail} AP points on tail classes, {head} on the others"
