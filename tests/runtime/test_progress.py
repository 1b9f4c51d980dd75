"""Progress of a training: a bar on a terminal, one line per epoch elsewhere."""

import io
import time

import pytest
import torch
from rich.console import Console

from imbalance_bench.runtime.progress import Reporter


def said(terminal: bool) -> tuple[Reporter, io.StringIO]:
    out = io.StringIO()
    return Reporter(Console(file=out, width=200, force_terminal=terminal)), out


def test_a_line_an_epoch_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    reporter, out = said(terminal=False)
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    end = reporter.epochs(4, begun=0.5)  # it goes on from the middle of the first
    for epoch, now, loss in ((1, 105.0, 2.5), (2, 115.0, 1.25), (4, 135.0, 0.5)):
        monkeypatch.setattr(time, "monotonic", lambda now=now: now)
        end(epoch, loss)
    assert out.getvalue().splitlines() == [
        "  epoch 1 of 4, loss 2.500, 30.0 s left",
        "  epoch 2 of 4, loss 1.250, 20.0 s left",
        "  epoch 4 of 4, loss 0.500",
    ]


def test_a_bar_on_a_terminal() -> None:
    reporter, out = said(terminal=True)
    reporter.epochs(4)(1, 2.5)
    assert not out.getvalue()
    Reporter().epochs(4)(1, torch.nan)
