"""What is said of a method in words: its idea, formula, published numbers and limits (``descriptions.yml``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from imbalance_bench.methods.record import Method

PATH = Path(__file__).with_name("descriptions.yml")
Counts = Literal["none", "instances", "images", "online"]
"""Which counts of a class a method uses: none, training instances, training images, or what it counts in training."""


@dataclass(frozen=True)
class Published:
    """A published number, in percent.

    Attributes:
        data: data set.
        measure: e.g. ``box AP``.
        model: detector, schedule and what else was used.
        after: with the method, as printed.
        source: arXiv number of the paper that prints it.
        before: without the method; empty where it is not known.
        note: what else the number includes.
    """

    data: str
    measure: str
    model: str
    after: str
    source: str
    before: str = ""
    note: str = ""


@dataclass(frozen=True)
class Source:
    """A paper: its title, and where it was published."""

    title: str
    venue: str


@dataclass(frozen=True)
class Description:
    """What a method's record does not say.

    Attributes:
        idea: two sentences.
        formula: lines of plain text.
        classifier: name of the class that is built for its ``candidate``.
        counts: which counts of a class it uses.
        options: what each option of its record does.
        limits: sentences: when it hurts, and what differs from how it was published.
        published: numbers beside those of the paper's own tables.
        features: taps that the classifier reads.
        documented: class or function whose docstring says how it is implemented, of ``classifiers`` or with its module.
    """

    idea: str
    formula: str
    classifier: str
    counts: Counts
    options: Mapping[str, str]
    limits: tuple[str, ...]
    documented: str
    published: tuple[Published, ...] = ()
    features: str = "fc"


@cache
def _read() -> dict[str, dict[str, Any]]:
    content: dict[str, dict[str, Any]] = yaml.safe_load(PATH.read_text(encoding="utf-8"))
    return content


def describe(method: Method) -> Description:
    """Return the description of a method of the catalogue.

    Raises:
        KeyError: an option has no description.
        TypeError: a field is missing, or is no field of a description.
        ValueError: an unknown value of ``counts``.

    Example:
        >>> from imbalance_bench.methods import get
        >>> describe(get("bags")).classifier
        'GroupSoftmaxClassifier'
    """
    fields = dict(_read()["methods"][method.name])
    options = _read()["options"] | fields.get("options", {})
    numbers = [{key: str(value) for key, value in number.items()} for number in fields.get("published", ())]
    made = {
        "options": {name: options[name] for name in method.options},
        "limits": tuple(fields["limits"]),
        "documented": fields.get("documented", fields["classifier"]),
        "published": tuple(Published(**number) for number in numbers),
    }
    description = Description(**fields | made)
    if description.counts not in get_args(Counts):
        raise ValueError(f"{PATH.name}: field 'counts' of '{method.name}' is {description.counts!r}")
    return description


def source(number: str) -> Source:
    """Return the paper with an arXiv number.

    Raises:
        KeyError: none of the catalogue's sources.
    """
    return Source(**_read()["sources"][number])
