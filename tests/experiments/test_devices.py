"""GPU code paths without a GPU: every classifier of the catalogue on tensors that claim to be on a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import pandas as pd
import pytest
import torch
from pretended_gpu import pretended_gpu
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from imbalance_bench import methods
from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers import Classifier, build
from imbalance_bench.datasets.generated import generate
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.on_proposals import evaluate_classifier
from imbalance_bench.evaluation.oracles import oracle_ap
from imbalance_bench.methods import METHODS
from imbalance_bench.proposals import proposal_set
from imbalance_bench.proposals import store as proposals
from imbalance_bench.proposals.proposal_set import ImageProposals, ProposalSet

C, ROIS = 6, 64
WIDTHS = {"fc": 5, "fc_pre_relu": 5, "conv": 7}
IMAGES = np.array([2000, 400, 150, 60, 9, 0])
IDS = 1 + 2 * np.arange(C)
TABLE = CategoryTable(IDS, tuple(f"class {number}" for number in IDS), IMAGES, 2 * IMAGES, tuple("fffcrr"))
Cached = tuple[dict[str, ProposalSet], GroundTruth]
RUNS = [
    run
    for method in METHODS.values()
    for run in dict.fromkeys(
        [f"{method.name}:{variant}" for variant in method.variants]
        + ([str(method.under_a_cosine)] if method.under_a_cosine else [])
    )
]


def built(run: str) -> Classifier:
    """As a run of the catalogue builds it, on what it starts from."""
    parsed = methods.parse(run)
    method, start = parsed.method, methods.start_of(parsed)
    base = None if start is None else built(str(start))
    statistics = {statistic: np.full(C, 1.2) for statistic in method.statistics}
    return method.build(TABLE, WIDTHS, base, **parsed.arguments, **statistics)


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


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Cached:
    """Proposals of a few images, of every tap; the validation annotations."""
    folder = tmp_path_factory.mktemp("devices")
    generate(folder, classes=C, train_images=4, val_images=5, size=(64, 64))
    truth = GroundTruth.read(folder / "val.json", TABLE, lvis_style=True)
    generator, made = torch.Generator().manual_seed(0), {}
    images = [
        (int(image), torch.randint(C + 1, (9,), generator=generator), 40 * torch.rand(9, 2, generator=generator))
        for image in truth.image_ids
    ]
    for tap in ("fc_pre_relu", "conv"):
        with proposals.Writer(folder / tap, {}, "float16") as writer:
            for image, labels, corner in images:
                features = torch.randn(len(labels), WIDTHS[tap], generator=generator)
                boxes, frame = torch.cat([corner, corner + 20], dim=1), torch.tensor([64.0, 64, 1, 1])
                writer.add(ImageProposals(image, features, labels, boxes, torch.arange(9) < 2, frame))
        proposals.assemble(folder / tap)
        made[tap] = proposals.read(folder / tap)
    return made, truth


@pytest.mark.parametrize("run", [m.name for m in METHODS.values() if m.trains in ("classifier", "nothing")])
def test_what_a_gpu_scores_is_measured_as_what_a_cpu_scores(
    run: str, cached: Cached, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Statistics, detections, accuracy and oracles of cached proposals; training needs a GPU's own gradients."""
    parts, truth = cached
    found = []
    for device, on_device in (("cpu", nullcontext()), ("cuda", pretended_gpu(monkeypatch))):
        torch.manual_seed(0)
        classifier = built(run)
        stored = [parts["conv" if tap == "conv" else "fc_pre_relu"] for tap in classifier.taps]
        read = proposal_set.join(stored, [tap == "fc" for tap in classifier.taps])
        with on_device, torch.no_grad():
            if methods.parse(run).trains_nothing:
                classifier.fit(read.chunks(device="cpu"))
            resident = read.on(device)
            table, metrics, _ = evaluate_classifier([classifier], [resident], truth, fixed=False, device=device)
        found.append((table, pd.Series(metrics)))
    for here, there in zip(*found, strict=True):
        compare = pd.testing.assert_series_equal if isinstance(here, pd.Series) else pd.testing.assert_frame_equal
        compare(here, there, rtol=1e-3, atol=1e-5)  # type: ignore[operator]


def test_oracles_of_what_a_gpu_scores_and_a_stream_of_features(cached: Cached, monkeypatch: pytest.MonkeyPatch) -> None:
    (parts, truth), classifier = cached, built("bags")
    read = proposal_set.join([parts["fc_pre_relu"]], [True])
    expected = oracle_ap([classifier], [read], truth)
    with pretended_gpu(monkeypatch, free=0), torch.no_grad():
        pd.testing.assert_frame_equal(oracle_ap([classifier], [read.on("cuda")], truth, device="cuda"), expected)


def test_the_pretended_gpu_refuses_what_a_gpu_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with pretended_gpu(monkeypatch):
        there, here = torch.ones(3, device="cuda"), torch.ones(3)
        assert there.device.type == "cuda" and here.device.type == there.cpu().device.type == "cpu"
        with pytest.raises(RuntimeError, match="one device"):
            there + here
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        assert float((there + torch.tensor(1.0)).sum()) == 6
