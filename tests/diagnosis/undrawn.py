"""Pages of diagnoses without their figures, which take most of the time that a page takes."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from imbalance_bench.pages import html


@contextmanager
def undrawn() -> Iterator[None]:
    """Leave the places of the figures empty."""

    def empty(figure: Figure, caption: str, kind: str = "") -> dict[str, str]:
        plt.close(figure)
        return {"caption": caption, "source": "data:,"}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(html, "image", empty)
        yield
