"""Methods are fitted on arrays as a benchmark fits them on its cache; an error names what arrays cannot provide."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers import Classifier, GroupSoftmaxClassifier, SoftmaxClassifier
from imbalance_bench.methods import METHODS
from imbalance_bench.proposals.proposal_set import ProposalSet
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.schedule import Schedule
from imbalance_bench.training.fit import fit
from imbalance_bench.training.on_cache import train_classifier

COUNTS = np.array([400, 40, 4])
LABELS = np.repeat([0, 1, 2, 3], [*COUNTS, 500])
FEATURES = 3 * np.eye(4)[LABELS] + np.random.default_rng(0).normal(size=(len(LABELS), 4))
IMAGES = np.random.default_rng(1).integers(60, size=len(LABELS))
CENTRES = torch.eye(4) * 3
QUICK: dict[str, Any] = {"epochs": 2, "lr": 0.1, "batch_size": 64, "device": "cpu"}
FITS = [
    method.name
    for method in METHODS.values()
    if method.name == "baseline" or (method.default.keeps_detector and not method.statistics)
]


def fitted(method: str, **options: Any) -> Classifier:
    return fit(method, FEATURES, LABELS, COUNTS, **(QUICK | options))


@pytest.mark.parametrize("name", FITS)
def test_every_method_that_arrays_are_enough_for(name: str) -> None:
    conv = np.abs(np.random.default_rng(2).normal(size=(len(LABELS), 8)))
    given = {"fc": FEATURES, "conv": conv} if name.endswith("-conv") else FEATURES
    images = None if METHODS[name].sampling == "uniform" else IMAGES
    size = 64 if images is None else 4
    found = fit(name, given, LABELS, COUNTS, image_ids=images, **(QUICK | {"batch_size": size}))
    assert not found.training
    scores = found.scores(found(torch.zeros(5, found.feature_dim)))
    assert scores.shape == (5, 4) and scores.isfinite().all()
    if name in ("bags", "baseline"):
        assert found.scores(found(CENTRES)).argmax(dim=1)[[0, 3]].tolist() == [0, 3]


def test_it_is_the_training_of_a_benchmark() -> None:
    """With images, by the same schedule and from the same start."""
    start = SoftmaxClassifier(3, 4)
    found = fitted("bags", variant="beta=2", start=start, image_ids=IMAGES, batch_size=8, epochs=12, seed=5)
    schedule = Schedule(epochs=12, lr=0.1, batch_size=8, milestones=(8, 11), warmup_iterations=8)
    torch.manual_seed(5)
    expected = GroupSoftmaxClassifier(3, 4, [3, 2, 1], beta=2.0)
    proposals = ProposalSet.from_arrays(FEATURES, LABELS, image_ids=IMAGES)
    train_classifier(expected, proposals, schedule, 5)
    assert found.config() == expected.config()
    for name, value in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], value)


def test_the_same_seed_gives_the_same() -> None:
    state = torch.get_rng_state()
    one, other = fitted("bags", seed=1), fitted("bags", seed=2)
    assert torch.equal(torch.get_rng_state(), state), "the caller's random numbers are left alone"
    assert torch.equal(fitted("bags", seed=1).weight, one.weight)
    assert not torch.equal(one.weight, other.weight)


def test_what_a_method_goes_on_from() -> None:
    start = fitted("baseline")
    found = fitted("tau-norm", variant="tau=0.5", start=start)
    torch.testing.assert_close(found.weight, start.weight / start.weight.norm(dim=1, keepdim=True) ** 0.5)
    assert torch.equal(fitted("tau-norm", variant="tau=0.5").weight, found.weight), "one is trained first"
    assert fitted("logn-cosine").cosine == 20
    relu = fit("ncm-fc", {"fc_pre_relu": FEATURES}, LABELS, COUNTS, **QUICK)
    rectified = fit("ncm-fc", FEATURES.clip(min=0), LABELS, COUNTS, **QUICK)
    torch.testing.assert_close(relu.centres, rectified.centres)
    table = CategoryTable.from_arrays(COUNTS, bin_edges=(100,))
    assert fit("bags", FEATURES, LABELS, table, **QUICK).groups == [2, 1, 1]


def test_tensors_and_small_numbers() -> None:
    found = fit("bags", torch.tensor(FEATURES, requires_grad=True), torch.tensor(LABELS), COUNTS.tolist(), **QUICK)
    assert torch.equal(found.weight, fitted("bags").weight)
    half = fit("bags", FEATURES.astype(np.float16), LABELS.astype(np.uint8), COUNTS, **QUICK)
    torch.testing.assert_close(half.weight, found.weight, atol=0.02, rtol=0.05)


NAN = np.where(np.arange(len(LABELS))[:, None] == 7, np.nan, FEATURES)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "bag"}, "unknown method 'bag', did you mean 'bags'"),
        ({"method": "reweight"}, r"'reweight' trains more of a detector than its classifier \(all but stem\)"),
        ({"method": "rfs"}, "'rfs' trains more of a detector"),
        (
            {"method": "bags", "variant": "trains=all"},
            r"'bags:trains=all' trains more of a detector than its classifier \(all\)",
        ),
        ({"method": "fracal"}, r"'fracal' reads the training annotations \(dimensions\)"),
        ({"method": "crt"}, "image_ids: 'crt' draws images by their classes"),
        ({"method": "ncm-fc", "variant": "released"}, "takes its centres from ground-truth boxes alone"),
        ({"method": "ncm-conv"}, "features: the method reads 'conv'"),
        ({"variant": "gamma=2"}, "unknown option 'gamma'"),
        ({"features": FEATURES[:5]}, r"labels: shape is \(944,\), expected \(5,\)"),
        ({"features": FEATURES[0]}, r"features: shape is \(4,\), expected \(any, any\)"),
        ({"features": NAN}, "features: row 7 holds NaN or infinity"),
        ({"features": {}}, "features: none is given"),
        ({"features": np.zeros((0, 4)), "labels": []}, "features: no rows"),
        ({"labels": LABELS + 0.5}, "labels: values are float64, expected integers"),
        ({"labels": LABELS + 1}, r"labels: 4 is among them, expected 0\.\.2, and 3 for background"),
        ({"labels": LABELS - 1}, "labels: -1 is among them"),
        ({"counts": [[1, 2]]}, r"instance_counts: shape is \(1, 2\)"),
        ({"counts": [4, -1, 2]}, "instance_counts: expected at least one count, and none below 0"),
        ({"start": SoftmaxClassifier(4, 4)}, "start: SoftmaxClassifier of 4 classes and 4 features, expected 3 and 4"),
        ({"epochs": 0}, "epochs, batch_size and lr: 0, 64 and 0.1, expected more than 0"),
        ({"device": "tpu"}, "device: 'tpu', expected auto, cpu, cuda or cuda:N"),
        ({"lr": 1e30}, "training diverged"),
        ({"image_ids": [1, 2]}, r"image_ids: shape is \(2,\), expected \(944,\)"),
    ],
)
def test_what_is_wrong_is_said(given: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"method": "bags", "features": FEATURES, "labels": LABELS, "counts": COUNTS}
    with pytest.raises(InputError, match=message):
        fit(**(arguments | QUICK | given))


def test_mmengine_is_not_needed() -> None:
    script = """
import sys
sys.modules.update(dict.fromkeys(("mmengine", "mmdet", "mmcv")))
import numpy as np, imbalance_bench as ib
labels = np.arange(40) % 3
print(ib.fit("bags", np.eye(3)[labels], labels, [20, 5], epochs=1, device="cpu").groups)
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (found.stdout.strip(), found.returncode) == ("[2, 1]", 0), found.stderr
