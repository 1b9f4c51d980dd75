"""The picture beside the table of all methods has the table's numbers."""

from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt

from analyses import beyond

RESULTS = Path(__file__).resolve().parents[2] / "results" / "measured" / "emoji-lt-small"


def test_the_points_are_the_rows_of_the_table() -> None:
    frame = pd.read_csv(RESULTS / "beyond.csv")
    table, points = beyond.brief(frame).set_index("method"), beyond.points(frame)
    assert set(points.index) == set(table.index)
    for method, row in points.iterrows():
        for group in ("tail", "head"):
            half = row[f"{group}_high"] - row[f"{group}_gain"]
            assert table.loc[method, f"{group} over control"] == f"{100 * row[f'{group}_gain']:+.1f}±{100 * half:.1f}"
    assert f"{100 * points.loc['bags', 'tail_gain']:+.1f}" == "+0.6", "as the README prints it"
    figure = beyond.figure(frame, "data")
    (axis,) = figure.axes
    names = {text.get_text() for text in axis.texts}
    assert names == set(table.index) - {"x2-cls"} and "over x2-cls" in axis.get_title()
    plt.close(figure)
