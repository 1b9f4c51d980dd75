"""Analysis and benchmark suite for classifier imbalance in object detectors."""

from typing import TYPE_CHECKING, Any

from imbalance_bench.detectors.mmcv_ops import finder as ops_finder
from imbalance_bench.runtime.threads import sleep_when_waiting

if TYPE_CHECKING:
    from imbalance_bench.diagnosis import diagnose as diagnose

__version__ = "0.1.0"

# Read once, when torch loads its OpenMP.
sleep_when_waiting()
# mmcv and mmdet may be imported by any of our modules, so this comes before all of them.
ops_finder.install()


def __getattr__(name: str) -> Any:
    """``imbalance_bench.diagnose``, which imports mmdet when it is first asked for."""
    if name == "diagnose":
        from imbalance_bench.diagnosis import diagnose

        return diagnose
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
