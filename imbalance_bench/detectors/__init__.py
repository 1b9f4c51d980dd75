"""Detectors: mmdet configurations and the box head that hosts a Classifier."""

from imbalance_bench.detectors import ops

ops.install()
