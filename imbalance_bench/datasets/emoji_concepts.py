"""The emoji that the embedded sets draw, and what each is drawn as: a class, a distractor, or for pretraining alone.

The classes stand in the order in which data sets take them: families of eight that look alike, the densest first
(cosine of Twemoji's pictures at 24 pixels over grey, a family once), then all others. ``apart`` is their order by which
any first classes are well separated. What is told from another by its direction alone, such as a clock face or an arrow
to the left, is no class, for drawings are turned and flipped.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Literal

FAMILY = 8
"""Classes that look alike."""

Kind = Literal["alike", "apart", "pretraining", "distractor"]
"""Classes by family, classes well separated, classes of the pretraining alone, or what is drawn and not annotated."""


@dataclass(frozen=True)
class Concept:
    """An emoji that Twemoji and OpenMoji both draw.

    Attributes:
        key: code points, in hexadecimal, joined by ``-``.
        name: short name; empty for a few distractors.
        twemoji: file of Twemoji's picture.
    """

    key: str
    name: str
    twemoji: str


@lru_cache
def concepts(kind: Kind) -> list[Concept]:
    """Read the concepts of a kind, in order; any first ones of ``alike`` and ``apart`` may be the classes of a set."""
    with (resources.files("imbalance_bench.datasets") / "emoji_concepts.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    chosen = [row for row in rows if row["role"] == ("class" if kind in ("alike", "apart") else kind)]
    if kind == "apart":
        chosen.sort(key=lambda row: int(row["apart"]))
    return [Concept(row["key"], row["name"], row["twemoji"]) for row in chosen]
