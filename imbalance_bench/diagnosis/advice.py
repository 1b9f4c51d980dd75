"""What to do next: one recommendation, with its source, the command that makes it, and what runs the result."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Advice:
    """A recommendation.

    Attributes:
        do: what to do, in one or two sentences.
        why: the measurement that it follows from.
        paper: where the method was published; empty if it is no method.
        command: the command that makes it; empty if none does.
        runs: what runs the result; empty if nothing new runs.
        holds: what following the advice gains on images that did not choose it; empty if that was not measured.
    """

    do: str
    why: str
    paper: str = ""
    command: str = ""
    runs: str = ""
    holds: str = ""


def paper(number: str) -> str:
    """Return the reference of an arXiv number."""
    return f"arXiv {number}"
