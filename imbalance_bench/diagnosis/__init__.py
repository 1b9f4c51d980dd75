"""What is wrong with a detector that somebody trained, and what helps."""

from imbalance_bench.diagnosis.diagnose import diagnose
from imbalance_bench.diagnosis.result import Diagnosis

__all__ = ["Diagnosis", "diagnose"]
