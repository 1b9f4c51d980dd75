"""The picture beside the table of all methods has the table's numbers."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.text import Text

from analyses import beyond
from imbalance_bench.diagnosis.figures import gains

RESULTS = Path(__file__).resolve().parents[2] / "results" / "measured" / "emoji-lt-small"


def test_the_points_are_the_rows_of_the_table() -> None:
    frame = pd.read_csv(RESULTS / "beyond.csv")
    table, points = beyond.brief(frame).set_index("method"), beyond.points(frame)
    assert set(points.index) == set(table.index)
    for method, row in points.iterrows():
        for group in ("tail", "head"):
            half = row[f"{group}_high"] - row[f"{group}_gain"]
            assert table.loc[method, f"{group} over control"] == f"{100 * row[f'{group}_gain']:+.1f}±{100 * half:.1f}"
    assert f"{100 * points.loc['bags', 'tail_gain']:+.1f}" == "+3.9", "as the README prints it"
    figure = beyond.figure(frame, "data")
    (axis,) = figure.axes
    names = {text.get_text() for text in axis.texts}
    assert names == set(table.index) - {"x2-cls"} and "over x2-cls" in axis.get_title()
    plt.close(figure)


def test_names_stand_apart_and_what_is_far_off_says_where() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0, 0.01, (40, 2))
    values[0], values[1], values[2] = (0.0, 0.0), (-0.3, -0.01), (0.02, 0.03)
    names = ["control", "far", "best", *(f"method-{number}" for number in range(37))]
    columns = {f"{group}_{end}": values[:, place] + shift for place, group in enumerate(("head", "tail"))
               for end, shift in (("gain", 0), ("low", -0.01), ("high", 0.01))}  # fmt: skip
    figure = gains(pd.DataFrame(columns, index=names), "best", over="control")
    (axis,) = figure.axes
    figure.canvas.draw()
    labels = [text for text in axis.texts if not text.get_text().startswith("without a name")]
    shown = {text.get_text() for text in labels}
    assert {"best", "far (-30, -1)"} <= shown and axis.get_xlim()[0] > -10
    left = [text.get_text() for text in axis.texts if text not in labels]
    named = {name.strip() for text in left for name in text.partition(": ")[2].split(",")}
    assert shown | named == {"far (-30, -1)", *names[2:]} and not shown & named
    boxes = [Text.get_window_extent(text) for text in labels]
    assert not [1 for one, two in combinations(boxes, 2) if one.overlaps(two)]
    plt.close(figure)
