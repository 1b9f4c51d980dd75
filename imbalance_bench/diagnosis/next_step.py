"""What to do next after a diagnosis with a checkpoint: the fix that its trials recommend."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import pandas as pd

from imbalance_bench.diagnosis.advice import Advice, paper
from imbalance_bench.diagnosis.fixes import GROUPS, OVER, control_of
from imbalance_bench.diagnosis.recommendation import by_itself
from imbalance_bench.diagnosis.result import Diagnosis
from imbalance_bench.diagnosis.tables import interval
from imbalance_bench.methods import METHODS


def advise(diagnosis: Diagnosis) -> Advice:
    """Return the recommended fix with its gains, or that none helps."""
    name, fixes, exported = diagnosis.recommended, diagnosis.fixes, diagnosis.summary["exported"]
    if name is None:
        return Advice(
            do="Leave the classifier as it is: no method gains on the tail beyond what the best of so many reaches by "
            "chance, without losing overall. What becomes of tail objects, below, shows whether proposals miss them.",
            why=f"{len(fixes) - 1} methods were tried on this detector.{_perhaps(fixes)}{_over_all_classes(fixes)}",
            holds=worth(diagnosis.summary["rule"]),
        )
    method, row = METHODS[name], fixes.loc[name]
    gains = _gains(row)
    named = f"{method.title} ({row['settings']})"
    do = f"Train the classifier anew as {named}, and leave the rest of the detector as it is."
    if method.candidate.trains_nothing:
        do = f"Apply {named} to the classifier; nothing is trained."
    why = f"It gives {gains['tail']} AP on tail classes and {gains['head']} on head classes."
    control = control_of(fixes.index)
    if control is not None and name != control:
        longer = f"{100 * fixes.loc[control, 'tail_gain']:+.1f}"
        why += f" Training the same classifier as much longer gives {longer} on tail classes by itself."
    done = exported is not None and exported["method"] == name
    runs = "the files that are exported say whether the framework alone runs them, or with this package"
    if done:
        runs = f"{exported['folder']}/ holds {' and '.join(exported['files'])}; {exported['needs']}"
    command = "" if done else _exporting(diagnosis.summary["called"], name)
    return Advice(
        do,
        why,
        paper(method.source) if method.is_on_arxiv else method.address,
        command,
        runs,
        worth(diagnosis.summary["rule"]),
    )


def _gains(row: pd.Series) -> dict[str, str]:
    """Write what a fix gains over the unchanged detector in each group, with its interval."""
    return {group: interval(*(row[f"{group}_{end}"] for end in OVER["baseline"])) for group in GROUPS}


def _perhaps(fixes: pd.DataFrame) -> str:
    """Name the fix that gains beyond chance if it alone had been tried, of these the one with the largest net gain."""
    name = by_itself(fixes)
    if name is None:
        return ""
    row = fixes.loc[name]
    gains = _gains(row)
    return (
        f" {row['title']} ({row['settings']}) gives {gains['tail']} on tail classes and {gains['head']} on head "
        "classes, which the best of so many may reach by chance: measure it on more validation images."
    )


def _over_all_classes(fixes: pd.DataFrame) -> str:
    """Name the fix with the highest mAP of those that gain beyond chance: what helps, though not the tail."""
    helps = fixes[fixes["mAP_low"] > 0].drop(index="baseline", errors="ignore")
    if helps.empty or (name := helps["mAP_gain"].idxmax()) == by_itself(fixes):
        return ""
    row = helps.loc[name]
    gains = _gains(row)
    return (
        f" Over all classes {row['title']} ({row['settings']}) gains most: mAP {gains['mAP']}, tail {gains['tail']}, "
        f"head {gains['head']}."
    )


def worth(rule: Mapping[str, Any]) -> str:
    """Say in a sentence what the rule that recommends is worth (``recommendation.check_rule``)."""
    tail, head = (interval(*(rule[group][end] for end in ("gain", "low", "high"))) for group in ("tail", "head"))
    name, count = next(iter(rule["chosen"].items()))
    return (
        f"The same rule, choosing on one half of the validation images and measured on the other, {rule['halves']} "
        f"times over, gives {tail} AP on tail classes and {head} on head classes. It chose {name or 'nothing'} in "
        f"{100 * count / rule['halves']:.0f} of 100."
    )


def _exporting(called: str, name: str) -> str:
    """Return the call of a diagnosis, on a command line or in Python, that also exports a method; the runs are kept."""
    if called.startswith("imbalance_bench."):
        return f"{called.removesuffix(')')}, export={name!r})"
    return f"{called} --export {shlex.quote(name)}"
