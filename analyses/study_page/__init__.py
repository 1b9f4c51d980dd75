"""One HTML page on all runs of a data set and a detector, from their run folders alone."""

from .page import write

__all__ = ["write"]
