"""Charts: places on axes, what is drawn of values that are missing or far off, text that is no markup."""

import itertools
import math
import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from imbalance_bench.pages import charts, looks, pictures
from imbalance_bench.pages.charts import Axis, Point, Series

NAN = math.nan


def drawn(marks: str) -> ElementTree.Element:
    """The SVG is well-formed, and so is every name in it."""
    return ElementTree.fromstring("<svg>" + str(marks).replace("\n", "&#10;") + "</svg>")


def of_class(svg: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [element for element in svg.iter() if name in element.get("class", "").split()]


def percent(element: ElementTree.Element, *names: str) -> list[float]:
    return [float(element.get(name, "").rstrip("%")) for name in names]


@pytest.mark.parametrize("values", [[3.0, 8.0], [-4.0, -1.0], [-2.0, 5.0, NAN], [0.0], []])
def test_an_axis_has_zero_and_all_values_and_round_ticks(values: list[float]) -> None:
    axis = Axis.over("label", values)
    known = [value for value in values if not math.isnan(value)]
    assert axis.low <= min([0.0, *known]) and axis.high >= max([0.0, *known]) and axis.low < axis.high
    places = [axis.at(value) for value, _ in axis.ticks]
    assert places == sorted(places) and places[0] >= 0 and places[-1] <= 100
    assert all(float(text) == value for value, text in axis.ticks)
    assert (axis.at(axis.low), axis.at(axis.high)) == (0, 100)
    middle = (axis.low + axis.high) / 2
    assert axis.at(middle) == 50


def test_a_logarithmic_axis() -> None:
    axis = Axis.log("train instances", [3, 5000, 0])
    assert [text for _, text in axis.ticks] == ["10", "100", "1,000"]
    steps = np.diff([axis.at(value) for value, _ in axis.ticks])
    assert steps == pytest.approx([steps[0]] * 2, abs=0.02)
    assert axis.at(0) == axis.at(axis.low) == 0
    assert [text for _, text in Axis.log("x", [1, 2]).ticks] == ["1"]
    assert Axis.log("x", []).low < Axis.log("x", []).high


def test_what_is_far_off_does_not_press_the_rest_together() -> None:
    usual = np.array([-1.0, 0.5, 1.0, 1.5, 2.0])
    assert charts.usual(usual) == (-1.0, 2.0)
    assert charts.usual(np.append(usual, -60.0)) == (-1.0, 2.0)
    axis = Axis.over("x", [*usual, -60.0], clip=True)
    assert axis.low > -3 and not axis.has(-60) and axis.at(-60) == 0
    points = [Point(x, 1.0, f"tip of {x:g}", looks.PLAIN, label=f"m{x:g}") for x in (*usual, -60.0)]
    chart = charts.scatter(points, axis, Axis.over("y", [1.0]), "Caption.")
    assert chart.caption == "Caption. Beyond the axes, drawn at their end: m-60."


def test_points_stand_where_their_values_are() -> None:
    x, y = Axis("x", -10, 10, ()), Axis("y", 0, 4, ())
    points = [
        Point(-10, 0, "corner", looks.PLAIN),
        Point(5, 3, "one", looks.PLAIN, "m", "m", (0, 10), (2, 4), is_strong=True),
        Point(0, 1, "other", looks.PLAIN, "n", x_range=(NAN, NAN)),
    ]
    svg = drawn(charts.scatter(points, x, y, "c", front=[(-10, 0), (5, 3)]).marks)
    found = {
        dot.get("data-tip"): percent(place, "x", "y")
        for place in svg.iter("svg")
        if place.get("x")
        for dot in of_class(place, "dot")
    }
    assert found == {"corner": [0, 100], "one": [75, 25], "other": [50, 75]}
    keys = {group.get("data-key"): group for group in of_class(svg, "mark")}
    assert set(keys) == {None, "m", "n"} and "strong" in keys["m"].get("class", "")
    ranges = [percent(line, "x1", "x2", "y1", "y2") for line in of_class(keys["m"], "range")]
    assert ranges == [[50, 100, 25, 25], [75, 75, 50, 0]]
    assert not of_class(keys["n"], "range"), "an interval that is not known is not drawn"
    (front,) = of_class(svg, "front")
    assert front.get("d") == "M0.00 100.00L75.00 25.00"


def test_bars_begin_at_zero_on_either_side() -> None:
    series = [
        Series("a", [2.0, NAN], ["a1", "a2"], looks.PLAIN, "a", [(1.0, 3.0), (NAN, NAN)]),
        Series("b", [-1.0, 4.0], ["b1", "b2"], looks.PLAIN, "b"),
    ]
    svg = drawn(charts.bars(["bin 1\n[0,9)", "bin 2"], series, Axis("y", -4, 4, ()), "c").marks)
    found = {bar.get("data-tip"): percent(bar, "y", "height") for bar in svg.iter("rect")}
    assert found == {"a1": [25, 25], "b1": [50, 12.5], "b2": [0, 50]}, "no bar without a value"
    assert [percent(line, "y1", "y2") for line in of_class(svg, "whisker")] == [[62.5 - 25, 12.5]]
    lefts = [percent(bar, "x", "width") for bar in svg.iter("rect")]
    ends = sorted((left, left + width) for left, width in lefts)
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(ends)), "no bar on another"
    assert [[span.text for span in tick] for tick in of_class(svg, "x")] == [["bin 1", "[0,9)"], ["bin 2"]]


def test_curves_leave_the_axis_and_their_points_do_not() -> None:
    series = [
        Series("a", [1.0, 9.0, NAN, 2.0], ["p1", "p2", "p3", "p4"], looks.PLAIN, "a"),
        Series("b", [1.0, 1.0, 1.0, 1.0], ["q"] * 4, looks.PLAIN, "b", is_strong=False),
    ]
    x, y = Axis("x", 0, 4, ()), Axis("y", 0, 4, ())
    chart = charts.curves(series, x, [0.5, 1.5, 2.5, 3.5], y, "c", [2.0])
    svg = drawn(chart.marks)
    (a,) = [group for group in of_class(svg, "mark") if group.get("data-key") == "a"]
    assert [dot.get("data-tip") for dot in a.iter("circle")] == ["p1", "p4"]
    (path,) = of_class(a, "curve")
    assert path.get("d") == "M12.50 75.00L37.50 -125.00L87.50 50.00"
    assert [name for _, name in chart.legend] == ["a"], "only what stands out is in the legend"
    assert [percent(line, "x1", "x2") for line in of_class(svg, "border")] == [[50, 50]]


def test_names_are_text() -> None:
    bad = "<script>alert(1)</script>\"'&"
    chart = charts.scatter([Point(1, 1, bad, looks.PLAIN, bad, bad)], Axis.over("x", [1]), Axis.over("y", [1]), bad)
    svg = drawn(chart.marks)
    assert "<script" not in chart.marks
    (dot,) = of_class(svg, "dot")
    assert dot.get("data-tip") == bad
    assert [text.text for text in of_class(svg, "label")] == [bad]
    assert (
        "<script" not in charts.bars([bad], [Series(bad, [1.0], [bad], looks.PLAIN, bad)], Axis("", 0, 1, ()), "").marks
    )


def test_an_interval_in_a_cell_is_filled_where_it_leaves_out_zero() -> None:
    axis = Axis("", -2, 2, ())
    kinds = {
        "full": (1.0, 0.5, 1.5), "hollow": (1.0, -0.5, 2.0), "beyond": (5.0, 4.0, 6.0),
    }  # fmt: skip
    for kind, numbers in kinds.items():
        (circle,) = drawn(charts.interval(*numbers, axis)).iter("circle")
        assert circle.get("class") == kind
    assert percent(next(drawn(charts.interval(1.0, 0.5, 1.5, axis)).iter("circle")), "cx") == [75]
    unknown = drawn(charts.interval(1.0, NAN, NAN, axis))
    assert of_class(unknown, "hollow") and not of_class(unknown, "whisker")
    assert 'width="40.0%"' in charts.share(0.4) and 'width="0.0%"' in charts.share(NAN)


def test_pareto_front() -> None:
    """Against a slow version: no other is better in one and as good in the other."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = rng.integers(0, 6, (2, 8)).astype(float)
        slow = {
            (a, b) for a, b in zip(x, y, strict=True)
            if not any((c >= a and d >= b) and (c, d) != (a, b) for c, d in zip(x, y, strict=True))
        }  # fmt: skip
        front = pictures.pareto(x, y)
        assert {(x[i], y[i]) for i in front} == slow
        assert (np.diff(x[front]) > 0).all()


def test_gains_against_the_control() -> None:
    ends = ("gain", "low", "high")
    frame = pd.DataFrame(
        [[0.0] * 9, [0.05, 0.02, 0.08, -0.01, -0.02, 0.0, 0.02, 0.01, 0.03],
         [0.01, NAN, NAN, -0.03, NAN, NAN, 0.0, NAN, NAN]],
        index=["x2-cls", "bags", "my own"],
        columns=[f"{group}_{end}" for group in ("tail", "head", "mAP") for end in ends],
    )  # fmt: skip
    assert pictures.gains(frame.assign(head_gain=NAN), "x2-cls") is None
    chart = pictures.gains(frame, "x2-cls")
    assert chart is not None
    svg = drawn(chart.marks)
    tips = [dot.get("data-tip", "") for dot in of_class(svg, "dot")]
    assert sorted(tips) == [
        "bags\ntail +5.0 [+2.0, +8.0]\nhead -1.0 [-2.0, +0.0]\nmAP +2.0 [+1.0, +3.0]",
        "my own\ntail +1.0\nhead -3.0\nmAP +0.0",
    ]
    assert [group.get("data-key") for group in of_class(svg, "strong")] == ["bags"]
    assert [name for _, name in chart.legend] == ["group softmax"], "a method of one's own has no family"
    assert "Against x2-cls" in chart.caption


def test_looks_differ_in_colour_and_marker() -> None:
    families = list(looks.FAMILIES.values())
    assert len({look.colour for look in families}) == len(families) == len({look.marker for look in families})
    okabe_ito = {"#000000", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"}
    assert {look.colour for look in families} <= okabe_ito - {"#f0e442"}, "yellow is the colour of what is marked"
    assert looks.of_method("baseline", "x2-cls") != looks.of_method("x2-cls", "x2-cls") != looks.of_method("x2-cls")
    assert all(re.fullmatch(r"[-MLHVaZ\d. ]+", look.marker) for look in families)
