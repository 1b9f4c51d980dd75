"""Analysis and benchmark suite for classifier imbalance in object detectors."""

__version__ = "0.1.0"
