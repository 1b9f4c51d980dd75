"""Cells of the tables of pages: one unit and one number of digits for each kind of value. ``-`` stands for no value."""

from __future__ import annotations

import math
from typing import Any

from imbalance_bench.pages import charts
from imbalance_bench.pages.html import Cell


def text(value: Any) -> Cell:
    """Return a cell of words."""
    return str(value), str(value)


def count(value: float) -> Cell:
    """Return a cell with a whole number."""
    return ("-" if math.isnan(value) else f"{value:,.0f}"), value


def number(value: float, digits: int = 2) -> Cell:
    """Return a cell with a number that is no share."""
    return ("-" if math.isnan(value) else f"{value:.{digits}f}"), value


def percent(value: float, deviation: float = math.nan) -> Cell:
    """Return a cell with a fraction in percent, and its deviation if there is one."""
    return shown_percent(value, deviation), value


def share(value: float) -> Cell:
    """Return a cell with a fraction in percent, and a bar below it."""
    return shown_percent(value), value, charts.share(value)


def gain(value: float, low: float, high: float, axis: charts.Axis | None = None) -> Cell:
    """Return a cell with a difference of fractions in points, its interval, and their picture on an axis of points."""
    if axis is None or math.isnan(value):
        return shown_gain(value, low, high), value
    return shown_gain(value, low, high), value, charts.interval(100 * value, 100 * low, 100 * high, axis)


def shown_percent(value: float, deviation: float = math.nan) -> str:
    """Format a fraction in percent: ``12.3``, or ``12.3 ± 0.4``."""
    if math.isnan(value):
        return "-"
    return _points(value, "") + ("" if math.isnan(deviation) else f" ± {_points(deviation, '')}")


def shown_gain(value: float, low: float = math.nan, high: float = math.nan) -> str:
    """Format a difference of fractions in points: ``+1.2``, or ``+1.2 [+0.3, +2.0]``."""
    if math.isnan(value):
        return "-"
    return _points(value, "+") + ("" if math.isnan(low) else f" [{_points(low, '+')}, {_points(high, '+')}]")


def _points(value: float, sign: str) -> str:
    return f"{round(100 * value, 1) + 0.0:{sign}.1f}"  # never -0.0
