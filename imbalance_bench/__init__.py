"""Analysis and benchmark suite for classifier imbalance in object detectors.

Importing it costs next to nothing: a name is imported, with what it needs, when it is first asked for.

Example:
    >>> import imbalance_bench as ib
    >>> ib.CategoryTable.from_arrays([4, 120, 2500]).bins.tolist()
    [1, 3, 4]
    >>> ib.METHODS["bags"].title, ib.METHODS["bags"].trains
    ('BAGS', 'classifier')
"""

import importlib
from typing import TYPE_CHECKING, Any

from imbalance_bench.detectors.mmcv_ops import finder as ops_finder
from imbalance_bench.detectors.mmdet import registration
from imbalance_bench.runtime.threads import sleep_when_waiting

if TYPE_CHECKING:
    from imbalance_bench.categories import CategoryTable
    from imbalance_bench.classifiers import (
        ACSLClassifier,
        BACLClassifier,
        BalancedSigmoidClassifier,
        Classifier,
        ClassWeightedSigmoidClassifier,
        DropLossClassifier,
        DualHeadClassifier,
        ECMClassifier,
        EQLClassifier,
        EQLv2Classifier,
        EquilibriumClassifier,
        FCBLClassifier,
        FederatedClassifier,
        GroupSoftmaxClassifier,
        GumbelClassifier,
        H2TClassifier,
        IIFClassifier,
        IsotonicClassifier,
        LinearClassifier,
        LOCEClassifier,
        LogitTransformClassifier,
        LogNClassifier,
        LOSClassifier,
        NCMClassifier,
        ReleasedFocalClassifier,
        RepairClassifier,
        SeesawClassifier,
        ShiftedSoftmaxClassifier,
        SigmoidClassifier,
        SigmoidFocalClassifier,
        SoftmaxClassifier,
        TauNormSelectClassifier,
    )
    from imbalance_bench.diagnosis.call import diagnose
    from imbalance_bench.diagnosis.predictions.example import example_files
    from imbalance_bench.diagnosis.predictions.result import PredictionDiagnosis
    from imbalance_bench.diagnosis.result import Diagnosis
    from imbalance_bench.evaluation.average_precision import evaluate
    from imbalance_bench.evaluation.detections import Detections
    from imbalance_bench.evaluation.error_analysis import analyse as analyse_errors
    from imbalance_bench.evaluation.fixed_ap import fixed_ap
    from imbalance_bench.evaluation.ground_truth import GroundTruth
    from imbalance_bench.evaluation.uncertainty import compare
    from imbalance_bench.evaluation.weight_norms import weight_norms
    from imbalance_bench.experiments.benchmark import Benchmark
    from imbalance_bench.experiments.run_folder import RunFolder
    from imbalance_bench.methods import METHODS
    from imbalance_bench.proposals.proposal_set import ProposalSet
    from imbalance_bench.runtime.errors import InputError
    from imbalance_bench.training.fit import fit

__version__ = "0.2.0"

__all__ = [
    "METHODS",
    "ACSLClassifier",
    "BACLClassifier",
    "BalancedSigmoidClassifier",
    "Benchmark",
    "CategoryTable",
    "ClassWeightedSigmoidClassifier",
    "Classifier",
    "Detections",
    "Diagnosis",
    "DropLossClassifier",
    "DualHeadClassifier",
    "ECMClassifier",
    "EQLClassifier",
    "EQLv2Classifier",
    "EquilibriumClassifier",
    "FCBLClassifier",
    "FederatedClassifier",
    "GroundTruth",
    "GroupSoftmaxClassifier",
    "GumbelClassifier",
    "H2TClassifier",
    "IIFClassifier",
    "InputError",
    "IsotonicClassifier",
    "LOCEClassifier",
    "LOSClassifier",
    "LinearClassifier",
    "LogNClassifier",
    "LogitTransformClassifier",
    "NCMClassifier",
    "PredictionDiagnosis",
    "ProposalSet",
    "ReleasedFocalClassifier",
    "RepairClassifier",
    "RunFolder",
    "SeesawClassifier",
    "ShiftedSoftmaxClassifier",
    "SigmoidClassifier",
    "SigmoidFocalClassifier",
    "SoftmaxClassifier",
    "TauNormSelectClassifier",
    "__version__",
    "analyse_errors",
    "compare",
    "diagnose",
    "evaluate",
    "example_files",
    "fit",
    "fixed_ap",
    "weight_norms",
]

_HOMES = {
    "Benchmark": "experiments.benchmark",
    "CategoryTable": "categories",
    "Detections": "evaluation.detections",
    "Diagnosis": "diagnosis.result",
    "GroundTruth": "evaluation.ground_truth",
    "InputError": "runtime.errors",
    "METHODS": "methods",
    "PredictionDiagnosis": "diagnosis.predictions.result",
    "ProposalSet": "proposals.proposal_set",
    "RunFolder": "experiments.run_folder",
    "analyse_errors": "evaluation.error_analysis:analyse",
    "compare": "evaluation.uncertainty",
    "diagnose": "diagnosis.call",
    "evaluate": "evaluation.average_precision",
    "example_files": "diagnosis.predictions.example",
    "fit": "training.fit",
    "fixed_ap": "evaluation.fixed_ap",
    "weight_norms": "evaluation.weight_norms",
} | {name: "classifiers" for name in __all__ if name.endswith("Classifier")}
"""The module of each public name, and after a colon what it is called there."""

# Read once, when torch loads its OpenMP.
sleep_when_waiting()
# mmcv and mmdet may be imported by any of our modules, and by whoever imports us, so these come before.
ops_finder.install()
registration.install()


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, own_name = _HOMES[name].partition(":")
    value = getattr(importlib.import_module(f"{__name__}.{module}"), own_name or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, and the modules that are imported."""
    return sorted({*globals(), *__all__})
