"""Diagnosis of a trained detector: whether its classifier is imbalanced, and which fixes help."""

from imbalance_bench.diagnosis.diagnose import diagnose
from imbalance_bench.diagnosis.result import Diagnosis

__all__ = ["Diagnosis", "diagnose"]
