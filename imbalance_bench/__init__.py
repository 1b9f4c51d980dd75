"""Analysis and benchmark suite for classifier imbalance in object detectors."""

from imbalance_bench.detectors import ops_finder

__version__ = "0.1.0"

# mmcv and mmdet may be imported by any of our modules, so this comes before all of them.
ops_finder.install()
