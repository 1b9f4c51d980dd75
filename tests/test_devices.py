"""The GPU's paths without a GPU: every classifier of the catalogue on tensors that say they are on one."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from imbalance_bench import methods
from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers import Classifier, build
from imbalance_bench.methods import METHODS

C, ROIS = 6, 64
WIDTHS = {"fc": 5, "fc_pre_relu": 5, "conv": 7}
IMAGES = np.array([2000, 400, 150, 60, 9, 0])
TABLE = CategoryTable(np.arange(1, C + 1), tuple("abcdef"), IMAGES, 2 * IMAGES, tuple("fffcrr"))
RUNS = [
    run
    for method in METHODS.values()
    for run in dict.fromkeys(
        [f"{method.name}:{variant}" for variant in method.variants]
        + ([f"{method.name}:{method.under_a_cosine}"] if method.under_a_cosine else [])
    )
]


def built(run: str) -> Classifier:
    """As a run of the catalogue builds it, on what it starts from."""
    name, variant = methods.parse(run)
    method = METHODS[name]
    base = None if method.starts_from == "scratch" else built(method.starts_from)
    statistics = {statistic: np.full(C, 1.2) for statistic in method.statistics}
    return method.build(TABLE, WIDTHS, base, **method.arguments(variant), **statistics)


def placed(classifier: Classifier, device: str) -> tuple[Classifier, Tensor, Tensor]:
    """Its twin, features and labels there."""
    with torch.device(device):
        twin = build(classifier.config())
        features = torch.rand(ROIS, sum(WIDTHS[tap] for tap in twin.taps))
        return twin, features, torch.arange(ROIS) % (C + 1)


@contextmanager
def autocast(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Mixed precision as on a GPU, which torch leaves off where it finds none."""
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *args, **kwargs: True)
    with torch.autocast("cuda", dtype) if dtype != torch.float32 else nullcontext():
        yield


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("run", RUNS)
def test_no_classifier_leaves_its_gpu_or_waits_for_it(
    run: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fake tensor has a device and no values: where they are asked for, as by ``if`` or a mask, it raises."""
    classifier = built(run)
    with FakeTensorMode(), torch.no_grad():
        twin, features, labels = placed(classifier, "cuda")
        for training in (True, False):
            twin.train(training).begin_epoch(0.9)
            with autocast(dtype, monkeypatch):
                logits = twin(features)
                losses = twin.loss(logits, labels)
                scores = twin.scores(logits)
            assert logits.dtype in (dtype, torch.float32)  # where a vector in single precision comes after W
            assert scores.shape == (ROIS, C + 1)
            assert {part.device.type for part in (logits, scores, twin.class_weights(), *losses.values())} == {"cuda"}
            assert all(value.shape == () for value in losses.values())


def test_mixed_precision_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = built("baseline")
    with FakeTensorMode(), autocast(torch.float16, monkeypatch):
        twin, features, _ = placed(classifier, "cuda")
        assert twin(features).dtype == torch.float16


@pytest.mark.parametrize("run", RUNS)
def test_no_gradient_waits_for_its_device(run: str) -> None:
    """Fake tensors on a GPU have no backward without one; those of torch's device ``meta`` have no values either."""
    classifier = built(run)
    parameters = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
    twin, features, labels = placed(classifier, "meta")
    loss = torch.stack(list(twin.train().loss(twin(features), labels).values())).sum()
    if not parameters:
        assert not loss.requires_grad
        return
    loss.backward()
    assert all(p.grad is not None and p.grad.device.type == "meta" for p in twin.parameters() if p.requires_grad)
