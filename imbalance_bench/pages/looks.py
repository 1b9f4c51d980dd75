"""Colours and markers on pages. A colour has one meaning: the family of a method, or which of two files is better."""

from __future__ import annotations

from dataclasses import dataclass

from imbalance_bench.methods import METHODS

_CIRCLE = "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0Z"
_SQUARE = "M-4.4 -4.4H4.4V4.4H-4.4Z"
_DIAMOND = "M0 -6L6 0L0 6L-6 0Z"
_UP, _DOWN = "M0 -5.8L5.6 4.2H-5.6Z", "M0 5.8L5.6 -4.2H-5.6Z"
_CROSS = "M-5 -2.8L-2.8 -5L0 -2.2L2.8 -5L5 -2.8L2.2 0L5 2.8L2.8 5L0 2.2L-2.8 5L-5 2.8L-2.2 0Z"
_STAR = "M0 -6.6L1.9 -2.4L6.3 -2L3 1L3.9 5.4L0 3.1L-3.9 5.4L-3 1L-6.3 -2L-1.9 -2.4Z"
_DOT = "M-3 0a3 3 0 1 0 6 0a3 3 0 1 0 -6 0Z"
_SMALL_CROSS = "M-3 -2L-2 -3L0 -1L2 -3L3 -2L1 0L3 2L2 3L0 1L-2 3L-3 2L-1 0Z"


@dataclass(frozen=True)
class Look:
    """A colour of Okabe and Ito's and a marker, so that neither is needed to tell two looks apart.

    Attributes:
        colour: of the filling, or of the line around a hollow marker.
        marker: SVG path around (0, 0), about 10 px wide.
        is_hollow: whether the marker and bars are not filled.
    """

    colour: str
    marker: str = _CIRCLE
    is_hollow: bool = False


PLAIN = Look("#000000")
BASELINE = Look("#000000", _CIRCLE, is_hollow=True)
CONTROL = Look("#767676", _SQUARE, is_hollow=True)
FAMILIES: dict[str, Look] = {
    "plain": PLAIN,
    "sampling": Look("#e69f00", _SQUARE),
    "softmax loss": Look("#56b4e9", _UP),
    "sigmoid loss": Look("#009e73", _DIAMOND),
    "group softmax": Look("#d55e00", _STAR),
    "nearest mean": Look("#cc79a7", _CROSS),
    "post hoc": Look("#0072b2", _DOWN),
}
"""The look of each family of methods."""
FIRST, SECOND = Look("#000000", _CIRCLE, is_hollow=True), Look("#5b6675", _SQUARE)
"""Of two files that are compared."""
BETTER, WORSE = Look("#0072b2", _UP), Look("#d55e00", _DOWN)
NO_DIFFERENCE, TOO_FEW = Look("#767676", _DOT, is_hollow=True), Look("#b0b0b0", _SMALL_CROSS)
"""Of classes in which two files differ, by which is better, and of others: no difference beyond chance; not judged."""
RIGHT, LOST = Look("#5b6675", _SQUARE), Look("#b0b0b0", _SQUARE, is_hollow=True)
"""Of the proposals of one detector: named right, taken for background."""


def of_method(name: str, control: str = "") -> Look:
    """Return the look of a method: of its family, or its own if it is what others are compared with."""
    if name in ("baseline", control):
        return BASELINE if name == "baseline" else CONTROL
    return FAMILIES[METHODS[name].family] if name in METHODS else PLAIN


def legend(methods: list[str]) -> tuple[tuple[Look, str], ...]:
    """Return the looks of the families of some methods, with the families' names, in the order of ``FAMILIES``."""
    present = {METHODS[name].family for name in methods if name in METHODS}
    return tuple((look, family) for family, look in FAMILIES.items() if family in present)
