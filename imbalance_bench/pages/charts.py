"""Charts as inline SVG, whose points and bars say their name and numbers under the pointer or the finger.

Positions are percentages of the plot, and sizes of text and markers are pixels: text is as large at 400 px as at 1,280.
The script of the page (``page.js``) shows the texts of marks, and places labels where there is room for them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from imbalance_bench.pages.looks import Look

Range = tuple[float, float]
"""The ends of an interval."""


@dataclass(frozen=True)
class Axis:
    """An axis: its label, its ends, and the values that are written.

    Attributes:
        label: what it shows, with the unit.
        low: value at the left or lower end.
        high: value at the other end.
        ticks: values with their texts; lines of a text are separated by newlines.
        is_log: whether the scale is logarithmic.
    """

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    is_log: bool = False

    @classmethod
    def over(cls, label: str, values: Iterable[float], *, clip: bool = False) -> Axis:
        """Return a linear axis over values and zero, with round numbers as ticks.

        Args:
            label: as of the class.
            values: NaN is left out.
            clip: leave out values that are far off (``usual``), so that they do not press the others together.
        """
        numbers = np.array([value for value in values if math.isfinite(value)])
        low, high = usual(numbers) if clip else (numbers.min(initial=0), numbers.max(initial=0))
        low, high = min(float(low), 0.0), max(float(high), 0.0)
        room = 0.04 * (high - low) or 1.0
        low, high = low - room * (low < 0), high + room * (high > 0 or low == 0)
        texts = [f"{tick:g}" for tick in MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]
        return cls(label, low, high, tuple((float(text), text) for text in texts if low <= float(text) <= high))

    @classmethod
    def log(cls, label: str, values: Iterable[float]) -> Axis:
        """Return a logarithmic axis over positive values, with powers of ten as ticks."""
        numbers = [value for value in values if value > 0] or [1.0]
        low, high = min(numbers) / 1.3, max(numbers) * 1.3
        powers = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
        return cls(label, low, high, tuple((10.0**power, f"{10**power:,}") for power in powers if power >= 0), True)

    def at(self, value: float) -> float:
        """Return the place of a value in percent from the low end; values beyond an end are placed there."""
        low, high = self.low, self.high
        if self.is_log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, self.low))
        return round(100 * min(max((value - low) / (high - low), 0.0), 1.0), 2)

    def has(self, value: float) -> bool:
        """Tell whether a value is between the ends."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Point:
    """A point of a scatter plot.

    Attributes:
        x: value on the x axis.
        y: value on the y axis.
        tip: what it says under the pointer; lines are separated by newlines.
        look: its marker.
        key: name of the method that a click marks; empty for none.
        label: text beside it, shown where there is room.
        x_range: interval of x.
        y_range: interval of y.
        is_strong: whether its label and its intervals come before those of others.
    """

    x: float
    y: float
    tip: str
    look: Look
    key: str = ""
    label: str = ""
    x_range: Range | None = None
    y_range: Range | None = None
    is_strong: bool = False


@dataclass(frozen=True)
class Series:
    """Bars or a curve of one name: a value at each place of the x axis.

    Attributes:
        name: in the legend.
        numbers: values; NaN is not drawn.
        tips: what each bar or point says.
        look: its colour and marker.
        key: as of ``Point``.
        ranges: intervals of the values; empty for none.
        is_strong: whether a curve stands out from the others.
    """

    name: str
    numbers: Sequence[float]
    tips: Sequence[str]
    look: Look
    key: str = ""
    ranges: Sequence[Range] = ()
    is_strong: bool = True


@dataclass(frozen=True)
class Chart:
    """A chart for the macro ``chart``.

    Attributes:
        caption: the text below it, and for readers who do not see it.
        x_label: label of the x axis.
        y_label: label of the y axis.
        marks: the content of the SVG.
        legend: looks with their names.
        is_low: whether it is drawn less high.
        shape: CSS class of another shape; empty for none.
    """

    caption: str
    x_label: str
    y_label: str
    marks: Markup
    legend: tuple[tuple[Look, str], ...] = ()
    is_low: bool = False
    shape: str = ""


def usual(values: np.ndarray) -> Range:
    """Return the ends of what is usual among values: all within three quartile ranges of the quartiles."""
    if len(values) == 0:
        return 0.0, 0.0
    lower, upper = np.quantile(values, [0.25, 0.75])
    reach = 3 * (upper - lower)
    kept = values[(values >= lower - reach) & (values <= upper + reach)]
    return float(kept.min()), float(kept.max())


def scatter(
    points: Sequence[Point],
    x: Axis,
    y: Axis,
    caption: str,
    legend: tuple[tuple[Look, str], ...] = (),
    front: Sequence[Range] = (),
) -> Chart:
    """Draw points with their intervals; points beyond an axis stand at its end, and the caption names them.

    Args:
        points: what is drawn.
        x: axis of ``Point.x``.
        y: axis of ``Point.y``.
        caption: as of ``Chart``.
        legend: as of ``Chart``.
        front: corners of a dashed line.
    """
    parts = [_frame(x, y), _zero(x, y)]
    if len(front) > 1:
        corners = [(x.at(a), 100 - y.at(b)) for a, b in front]
        parts.append(_stretched(Markup('<path class="front" d="{}"/>').format(_path(corners))))
    for point in sorted(points, key=lambda point: point.is_strong):
        across, down = x.at(point.x), round(100 - y.at(point.y), 2)
        inside = [_line("range", x.at(low), down, x.at(high), down) for low, high in _known(point.x_range)]
        inside += [
            _line("range", across, 100 - y.at(low), across, 100 - y.at(high)) for low, high in _known(point.y_range)
        ]
        label = Markup('<text class="label">{}</text>').format(point.label) if point.label else ""
        inside.append(
            Markup('<svg x="{}%" y="{}%"><path class="dot" d="{}" {} data-tip="{}"/>{}</svg>').format(
                across, down, point.look.marker, _painted(point.look), point.tip, label
            )
        )
        parts.append(_group("mark strong" if point.is_strong else "mark", point.key, inside))
    off = [p.label or p.tip.partition("\n")[0] for p in points if not (x.has(p.x) and y.has(p.y))]
    if off:
        caption = f"{caption} Beyond the axes, drawn at their end: {', '.join(off)}."
    return Chart(caption, x.label, y.label, Markup("").join(parts), legend)


def bars(groups: Sequence[str], series: Sequence[Series], y: Axis, caption: str) -> Chart:
    """Draw bars in groups, with their intervals.

    Args:
        groups: text below each group; lines are separated by newlines.
        series: one bar of each group.
        y: axis of the values; bars begin at zero.
        caption: as of ``Chart``.
    """
    ticks = tuple((number + 0.5, text) for number, text in enumerate(groups))
    x = Axis("", 0, len(groups), ticks)
    parts, width = [_frame(x, y, lines=False), _zero(None, y)], 0.8 / max(len(series), 3)
    start = 0.5 - width * len(series) / 2
    for place, one in enumerate(series):
        inside = []
        for number, value in enumerate(one.numbers):
            if math.isnan(value):
                continue
            left, zero, end = x.at(number + start + place * width), 100 - y.at(0), 100 - y.at(value)
            inside.append(
                Markup('<rect class="dot" x="{}%" y="{}%" width="{}%" height="{}%" {} data-tip="{}"/>').format(
                    left, round(min(zero, end), 2), round(x.at(0.92 * width), 2), round(abs(zero - end), 2),
                    _painted(one.look), one.tips[number],
                )
            )  # fmt: skip
            middle = left + x.at(0.46 * width)
            for low, high in _known(one.ranges[number] if one.ranges else None):
                inside.append(_line("whisker", middle, 100 - y.at(low), middle, 100 - y.at(high)))
        parts.append(_group("mark strong", one.key, inside))
    legend = tuple((one.look, one.name) for one in series)
    return Chart(caption, "", y.label, Markup("").join(parts), legend, is_low=True)


def stacked(groups: Sequence[str], series: Sequence[Series], y: Axis, caption: str) -> Chart:
    """Draw bars in one pile for each group; arguments as for ``bars``, without intervals."""
    ticks = tuple((number + 0.5, text) for number, text in enumerate(groups))
    x, heights = Axis("", 0, len(groups), ticks), np.zeros(len(groups))
    parts = [_frame(x, y, lines=False)]
    for one in series:
        inside = []
        for number, value in enumerate(one.numbers):
            if math.isnan(value) or value <= 0:
                continue
            top, low = 100 - y.at(heights[number] + value), 100 - y.at(heights[number])
            heights[number] += value
            inside.append(
                Markup('<rect class="dot" x="{}%" y="{}%" width="{}%" height="{}%" {} data-tip="{}"/>').format(
                    x.at(number + 0.15), round(top, 2), round(x.at(0.7), 2), round(low - top, 2), _painted(one.look),
                    one.tips[number],
                )
            )  # fmt: skip
        parts.append(_group("mark strong", one.key, inside))
    legend = tuple((one.look, one.name) for one in series)
    return Chart(caption, "", y.label, Markup("").join(parts), legend, is_low=True)


def curves(
    series: Sequence[Series], x: Axis, places: Sequence[float], y: Axis, caption: str, borders: Sequence[float] = ()
) -> Chart:
    """Draw curves; those that are not strong are faint until they are pointed at or marked.

    Args:
        series: a value at each of the places.
        x: axis of the places.
        places: values on the x axis.
        y: axis of the values; a curve ends where it leaves the axis.
        caption: as of ``Chart``.
        borders: values on the x axis with a dashed line.
    """
    parts = [_frame(x, y, lines=False), *(_line("border", x.at(border), 0, x.at(border), 100) for border in borders)]
    for one in sorted(series, key=lambda one: one.is_strong):
        points = zip(places, one.numbers, one.tips, strict=True)
        known = [(x.at(place), value, tip) for place, value, tip in points if not math.isnan(value)]
        corners = [(across, 100 - 100 * (value - y.low) / (y.high - y.low)) for across, value, _ in known]
        inside = [
            _stretched(Markup('<path class="curve" d="{}" stroke="{}"/>').format(_path(corners), one.look.colour))
        ]
        inside += [
            Markup('<circle class="dot" cx="{}%" cy="{}%" r="2.5" {} data-tip="{}"/>').format(
                across, round(100 - y.at(value), 2), _painted(one.look), tip
            )
            for across, value, tip in known
            if y.has(value)
        ]
        parts.append(_group("mark strong" if one.is_strong else "mark faint", one.key, inside))
    legend = tuple((one.look, one.name) for one in series if one.is_strong)
    return Chart(caption, x.label, y.label, Markup("").join(parts), legend)


def interval(value: float, low: float, high: float, axis: Axis) -> Markup:
    """Draw a value and its interval in the cell of a table; hollow if the interval has zero inside, or is not known."""
    parts = [_line("zero", axis.at(0), 0, axis.at(0), 100)]
    if not math.isnan(low):
        parts.append(_line("whisker", axis.at(low), 50, axis.at(high), 50))
    is_hollow = math.isnan(low) or low <= 0 <= high
    kind = "beyond" if not axis.has(value) else "hollow" if is_hollow else "full"
    parts.append(Markup('<circle class="{}" cx="{}%" cy="50%" r="3.5"/>').format(kind, axis.at(value)))
    return Markup('<svg class="cell" aria-hidden="true">{}</svg>').format(Markup("").join(parts))


def share(value: float) -> Markup:
    """Draw a share (0 to 1) as a bar in the cell of a table."""
    width = 0.0 if math.isnan(value) else round(100 * min(max(value, 0.0), 1.0), 1)
    return Markup('<svg class="cell share" aria-hidden="true"><rect width="{}%" height="100%"/></svg>').format(width)


def _known(interval: Range | None) -> list[Range]:
    return [] if interval is None or math.isnan(interval[0]) else [interval]


def _frame(x: Axis, y: Axis, lines: bool = True) -> Markup:
    """Draw lines and texts at the ticks of both axes; ``lines``: also for the x axis."""
    parts = []
    for value, text in y.ticks:
        down = round(100 - y.at(value), 2)
        parts.append(_line("grid", 0, down, 100, down))
        parts.append(Markup('<text class="tick y" x="-8" y="{}%" dy=".35em">{}</text>').format(down, text))
    for value, text in x.ticks:
        across = x.at(value)
        if lines:
            parts.append(_line("grid", across, 0, across, 100))
        rows = Markup("").join(
            Markup('<tspan x="{}%" dy="{}em">{}</tspan>').format(across, 1.2, line) for line in text.split("\n")
        )
        parts.append(Markup('<text class="tick x" y="100%" dy="3">{}</text>').format(rows))
    return Markup('<g class="frame">{}</g>').format(Markup("").join(parts))


def _zero(x: Axis | None, y: Axis | None) -> Markup:
    across = [] if x is None else [_line("zero", x.at(0), 0, x.at(0), 100)]
    down = [] if y is None else [_line("zero", 0, 100 - y.at(0), 100, 100 - y.at(0))]
    return Markup("").join([*across, *down])


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    ends = (round(end, 2) for end in (x1, y1, x2, y2))
    return Markup('<line class="{}" x1="{}%" y1="{}%" x2="{}%" y2="{}%"/>').format(kind, *ends)


def _path(corners: Iterable[Range]) -> str:
    return "M" + "L".join(f"{across:.2f} {down:.2f}" for across, down in corners)


def _stretched(content: Markup) -> Markup:
    """Return paths, which know no percentages, in a frame of 100 by 100 that is stretched to the plot."""
    return Markup('<svg class="stretched" viewBox="0 0 100 100" preserveAspectRatio="none">{}</svg>').format(content)


def _painted(look: Look) -> Markup:
    fill = "#ffffff" if look.is_hollow else look.colour
    return Markup('fill="{}" stroke="{}"').format(fill, look.colour)


def _group(kind: str, key: str, content: Iterable[Markup]) -> Markup:
    name = Markup(' data-key="{}"').format(key) if key else ""
    return Markup('<g class="{}"{}>{}</g>').format(kind, name, Markup("").join(content))
