"""Every softmax and post-hoc method beyond the paper, from the catalogue, against its authors' definition in loops."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.models.losses import SeesawLoss
from torch import Tensor, nn

from imbalance_bench import methods
from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers import Classifier, LinearClassifier, SoftmaxClassifier, fractal_calibrated
from imbalance_bench.methods import METHODS
from imbalance_bench.runtime.errors import InputError

C, DIM, IMAGES = 4, 6, 900
INSTANCES = np.array([2000, 120, 7, 1])
HOLDING = np.array([600, 90, 7, 1])
CATEGORIES = CategoryTable(np.arange(1, C + 1), tuple("abcd"), HOLDING, INSTANCES, tuple("ffrr"), num_images=IMAGES)
LABELS = torch.tensor([0, 1, 2, 3, 4, 4, 0, 0, 1, 4])


def filled(classifier: LinearClassifier) -> LinearClassifier:
    """With values all over."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.normal_(generator=generator)
    return classifier


@pytest.fixture
def base() -> LinearClassifier:
    return filled(SoftmaxClassifier(C, DIM))


@pytest.fixture
def features() -> Tensor:
    return torch.randn(len(LABELS), DIM, generator=torch.Generator().manual_seed(1)).abs()


def made(run: str, base: LinearClassifier, categories: CategoryTable = CATEGORIES, **statistics: Any) -> Any:
    """The classifier of ``method`` or ``method:variant``."""
    parsed = methods.parse(run)
    assert set(statistics) == set(parsed.method.statistics)
    return parsed.method.build(categories, {"fc": base.feature_dim}, base, **parsed.arguments, **statistics)


def of_logits(*logits: float) -> LinearClassifier:
    """A softmax classifier that gives these to every RoI, background last."""
    classifier = SoftmaxClassifier(len(logits) - 1, 1)
    with torch.no_grad():
        classifier.weight.zero_()
        classifier.bias.copy_(torch.tensor(logits))
    return classifier


def rows(classifier: Classifier, features: Tensor) -> np.ndarray:
    """Logits in double precision."""
    return classifier(features).detach().double().numpy()


def scores(classifier: Classifier, features: Tensor) -> np.ndarray:
    return classifier.scores(classifier(features)).detach().numpy()


def loss(classifier: Classifier, features: Tensor) -> float:
    return sum(float(part.detach()) for part in classifier.loss(classifier(features), LABELS).values())


def softmax(row: np.ndarray) -> np.ndarray:
    return np.exp(row) / np.exp(row).sum()


# NorCal: projects/NorCal of tydpan/NorCal


def test_norcal_by_hand() -> None:
    """N = (10, 1000): e^2 / 10 over that, e^3 / 1000 and the background's e^2."""
    counts = np.array([10, 1000])
    table = CategoryTable(np.array([1, 2]), ("a", "b"), counts, counts * 3, ("r", "f"))
    adjusted = made("logit-adjust:norcal", of_logits(2, 3, 2), table)
    found = scores(adjusted, torch.ones(1, 1))[0]
    np.testing.assert_allclose(found, [0.09069, 0.00247, 0.90685], atol=5e-6)
    relative = made("logit-adjust:mean-count", of_logits(2, 3, 2), table)
    assert scores(relative, torch.ones(1, 1))[0, 0] == pytest.approx(0.955, abs=5e-4)


@pytest.mark.parametrize(
    ("variant", "factors"),
    [
        ("norcal", 1 / HOLDING),
        ("gamma=0.25", 1 / HOLDING**0.25),
        ("gamma=0", np.ones(C)),
        ("instances", 1 / INSTANCES),
        ("class-balanced", (1 - 0.999) / (1 - 0.999**HOLDING)),
        ("mean-count", HOLDING.mean() / HOLDING),
    ],
)
def test_logit_adjustment(variant: str, factors: np.ndarray, base: LinearClassifier, features: Tensor) -> None:
    found = scores(made(f"logit-adjust:{variant}", base), features)
    for row, logits in zip(found, rows(base, features), strict=True):
        exponentials = np.append(np.exp(logits[:-1]) * factors, np.exp(logits[-1]))
        np.testing.assert_allclose(row, exponentials / exponentials.sum(), rtol=1e-4)
    assert METHODS["logit-adjust"].default.variant == "norcal"


# FRACAL: mmdet/models/roi_heads/bbox_heads/fracal_bbox_head.py and stat_files of kostas1515/FRACAL


@pytest.mark.parametrize(("variant", "power", "strength"), [("paper", 2, 1), ("power=1,strength=0.5", 1, 0.5)])
def test_fracal(variant: str, power: float, strength: float, base: LinearClassifier, features: Tensor) -> None:
    dimensions = np.array([1.9, 1.5, 1.2, 1.0])
    found = scores(made(f"fracal:{variant}", base, dimensions=dimensions), features)
    for row, logits in zip(found, rows(base, features), strict=True):
        adjusted = logits.copy()
        for label in range(C):
            adjusted[label] += strength * (-np.log10(HOLDING[label] / IMAGES) - np.log10(C))
        probabilities = softmax(adjusted) / np.append(dimensions, 1) ** power
        np.testing.assert_allclose(row, probabilities / probabilities.sum(), rtol=1e-4)


def test_fracal_divides_by_images() -> None:
    """LVIS v1: 360,952 pairs of a class and an image, 100,170 images; by those foreground is higher by .56."""
    counts = np.array([360_952 - 64, 64])
    by_images, by_pairs = (
        fractal_calibrated(of_logits(0, 0, 0), counts, number, np.ones(2)).bias.detach()
        for number in (100_170, 360_952)
    )
    torch.testing.assert_close(by_pairs - by_images, torch.tensor([0.5567, 0.5567, 0]), atol=1e-4, rtol=0)


def test_images_are_counted_in_the_training_file(tmp_path: Path) -> None:
    """FRACAL counts all of them, balanced softmax those with a box."""
    boxes = [(1, 1), (1, 1), (1, 2), (3, 1)]
    content = {
        "images": [{"id": number, "width": 10, "height": 10} for number in (1, 2, 3)],
        "categories": [{"id": number, "name": str(number)} for number in (1, 2)],
        "annotations": [
            {"id": n, "image_id": image, "category_id": category, "bbox": [0, 0, 2, 2], "area": 4}
            for n, (image, category) in enumerate(boxes)
        ],
    }
    path = tmp_path / "train.json"
    path.write_text(json.dumps(content))
    table = CategoryTable.from_annotations(path)
    found = METHODS["fracal"].statistics["dimensions"](path, table)
    assert table.total_images == 3
    assert found.tolist() == [1, 1]


# LogN: mmdet/models/roi_heads/bbox_heads/logit_norm_head.py of MCG-NJU/LogN


def normalised(logits: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Background, the last, is left alone."""
    found = logits.copy()
    for label in range(C):
        found[:, label] = (logits[:, label] - (mean[label] - mean[:C].min())) / np.sqrt(variance[label])
    return found


@pytest.mark.parametrize("cosine", [None, 20.0])
@pytest.mark.parametrize("variant", ["exact", "released"])
def test_logn(variant: str, cosine: float | None, features: Tensor) -> None:
    base = filled(SoftmaxClassifier(C, DIM, cosine=cosine))
    seen = torch.randn(1300, DIM, generator=torch.Generator().manual_seed(2)) + 1
    parts = [(part, torch.zeros(len(part), dtype=torch.long)) for part in (seen[:1024], seen[1024:])]
    logn = made(f"logn:{variant}", base)
    logn.fit(parts)
    if variant == "released":
        statistics = nn.BatchNorm1d(C + 1, momentum=5e-5, affine=False).double()
        for batch in (seen[:512], seen[512:1024], seen[1024:]):
            statistics(base(batch).detach().double())
        mean, variance = statistics.running_mean.numpy(), statistics.running_var.numpy()
        assert abs(mean).max() < 0.01 and abs(variance - 1).max() < 0.2, "after so few they are near 0 and 1"
    else:
        mean, variance = rows(base, seen).mean(axis=0), rows(base, seen).var(axis=0)
    expected = normalised(rows(base, features), mean, variance)
    np.testing.assert_allclose(rows(logn, features), expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(scores(logn, features), [softmax(row) for row in expected], rtol=2e-3, atol=1e-6)

    state = {name: value.clone() for name, value in logn.state_dict().items()}
    logn.fit(parts)
    assert all(torch.equal(value, logn.state_dict()[name]) for name, value in state.items()), "fit twice is fit once"
    used = features if cosine is None else nn.functional.normalize(features, dim=1)
    linear = used @ logn.class_weights().T + logn.class_biases()
    np.testing.assert_allclose(linear, expected, rtol=1e-3, atol=1e-3)


def test_logn_where_it_was_published() -> None:
    published = METHODS["logn-cosine"]
    assert (published.starts_from, published.build) == ("cosine", METHODS["logn"].build)
    assert [str(run) for run in methods.needs(published.default)] == ["cosine", "baseline"]
    assert 1 - (1 - METHODS["logn"].run("released").options["momentum"]) ** (99_388 // 4) == pytest.approx(
        0.71, abs=0.005
    )


# DisAlign: cvpods' disalign_fast_rcnn.py, and fast_rcnn.py beside the configurations of Megvii-BaseDetection/DisAlign


def test_disalign(base: LinearClassifier, features: Tensor) -> None:
    classifier = made("disalign", base)
    torch.testing.assert_close(classifier(features), base(features))
    trained = dict(classifier.named_parameters())
    assert {name: value.numel() for name, value in trained.items()} == {
        "scale": C, "offset": C, "gate_weight": DIM, "gate_bias": 1
    }  # fmt: skip
    assert all(value.requires_grad for value in trained.values())
    a, c, v, u = (value.detach().double().numpy() for value in filled(classifier).parameters())
    before = rows(base, features)
    share = INSTANCES / INSTANCES.sum()
    inverse = share**-0.8
    weights = np.append(C * inverse / inverse.sum(), 1)
    total = divisor = 0.0
    for row, logits, feature, label in zip(
        rows(classifier, features), before, features.double().numpy(), LABELS.tolist(), strict=True
    ):
        confidence = 1 / (1 + np.exp(-(v[0] @ feature + u[0])))
        expected = logits.copy()
        for k in range(C):
            expected[k] = confidence * (a[k] * logits[k] + c[k]) + (1 - confidence) * logits[k]
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-4)
        total -= weights[label] * np.log(softmax(expected)[label])
        divisor += weights[label]
    assert loss(classifier, features) == pytest.approx(total / divisor, rel=1e-4)


# LDAM: losses.py, models/resnet_cifar.py and cifar_train.py of kaidic/LDAM-DRW


@pytest.mark.parametrize(("run", "beta"), [("ldam", 0.0), ("ldam-drw", 0.0), ("ldam-drw", 0.9999)])
def test_ldam(run: str, beta: float, base: LinearClassifier, features: Tensor) -> None:
    classifier = made(run, base).train()
    classifier.begin_epoch(0.7 if beta else 0.6)
    margins = INSTANCES**-0.25
    margins = np.append(margins * 0.5 / margins.max(), 0)
    effective = (1 - beta) / (1 - beta ** INSTANCES.astype(float))
    weights = np.append(effective / effective.sum() * C, 1)
    w = classifier.weight.detach().double().numpy()
    total = divisor = 0.0
    for feature, label in zip(features.double().numpy(), LABELS.tolist(), strict=True):
        cosines = np.array([row @ feature / np.linalg.norm(row) / np.linalg.norm(feature) for row in w])
        cosines[label] -= margins[label]
        total -= weights[label] * np.log(softmax(30 * cosines)[label])
        divisor += weights[label]
    assert loss(classifier, features) == pytest.approx(total / divisor, rel=1e-4)
    assert not classifier.bias.requires_grad and not classifier.bias.any(), "no bias"
    step = torch.optim.SGD(classifier.parameters(), 0.1, weight_decay=0.1)
    classifier.loss(classifier(features), LABELS)["loss_cls"].backward()
    step.step()
    assert not classifier.bias.any()


# Balanced softmax: its paper, and projects/BALMS of Majiker/BalancedMetaSoftmax-InstanceSeg


def test_balanced_softmax(base: LinearClassifier, features: Tensor) -> None:
    """Equation 3 over instances; background, which it does not know, as a class of mean size."""
    classifier = made("balanced-softmax", base)
    sizes = np.append(INSTANCES, INSTANCES.mean())
    total = 0.0
    for logits, label in zip(rows(base, features), LABELS.tolist(), strict=True):
        total -= np.log(sizes[label] * np.exp(logits[label]) / (sizes * np.exp(logits)).sum())
    assert loss(classifier, features) == pytest.approx(total / len(LABELS), rel=1e-4)
    np.testing.assert_allclose(scores(classifier, features), scores(base, features), rtol=1e-5)


def test_balanced_softmax_as_released(base: LinearClassifier, features: Tensor) -> None:
    classifier = made("balanced-softmax:released", base)
    total = 0.0
    logits = rows(classifier, features)
    assert logits.shape == (len(LABELS), C), "no column of background"
    for row, label in zip(logits, LABELS.tolist(), strict=True):
        for c in range(C):
            share = HOLDING[c] / IMAGES
            shifted = row[c] - np.log((1 - share) / share) if label < C else row[c]
            probability = 1 / (1 + np.exp(-shifted))
            total -= np.log(probability if c == label else 1 - probability)
    assert loss(classifier, features) == pytest.approx(total / len(LABELS), rel=1e-4)
    np.testing.assert_allclose(scores(classifier, features)[:, :C], 1 / (1 + np.exp(-logits)), rtol=1e-4)


def test_a_class_in_every_image_has_a_loss(base: LinearClassifier, features: Tensor) -> None:
    assert np.isfinite(loss(made("balanced-softmax:released", base, replace(CATEGORIES, num_images=600)), features))


# LOCE's loss (mmdet/models/losses/equilibrium_loss.py of fcjian/LOCE); its moving average is test_feature_sampling's


def test_equilibrium_loss(base: LinearClassifier, features: Tensor) -> None:
    classifier = made("ebl", base).eval()
    means = np.array([0.8, 0.3, 0.05, 0.01, 0.01])
    classifier.mean_scores.copy_(torch.tensor(means))
    total = 0.0
    for logits, label in zip(rows(base, features), LABELS.tolist(), strict=True):
        weighted = means * np.exp(logits - logits.max())
        total -= np.log(weighted[label] / weighted.sum())
    assert loss(classifier, features) == pytest.approx(total / len(LABELS), rel=1e-4)
    np.testing.assert_allclose(scores(classifier, features), scores(base, features), rtol=1e-5)


# Seesaw: its authors gave it to mmdet


def test_seesaw(base: LinearClassifier) -> None:
    ours = made("seesaw", base).train()
    theirs = SeesawLoss(num_classes=C, p=0.8, q=2.0)
    generator = torch.Generator().manual_seed(3)
    for _ in range(4):
        logits = 3 * torch.randn(9, C + 2, generator=generator)
        labels = torch.randint(C + 1, (9,), generator=generator)
        expected = theirs(logits, labels, torch.ones(9), avg_factor=9)
        found = ours.loss(logits, labels)
        torch.testing.assert_close(found["loss_cls"], expected["loss_cls_classes"])
        torch.testing.assert_close(found["loss_objectness"], expected["loss_cls_objectness"])
    torch.testing.assert_close(ours.scores(logits), theirs.get_activation(logits))
    assert ours.counts.tolist() == theirs.cum_samples.tolist()
    assert ours.cosine == 20


# Decoupling (models of facebookresearch/classifier-balancing), SimCal (bbox_head.py of twangnh/SimCal), cosine


def test_lws(base: LinearClassifier, features: Tensor) -> None:
    """W and b as they were, under one scale a class; background is a class, too."""
    classifier = made("lws", base)
    assert [name for name, value in classifier.named_parameters() if value.requires_grad] == ["scale"]
    scales = torch.tensor([2.0, 0.5, 3.0, 1.0, 0.7])
    with torch.no_grad():
        classifier.scale.copy_(scales)
    expected = rows(base, features) * scales.numpy()
    np.testing.assert_allclose(rows(classifier, features), expected, rtol=1e-4, atol=1e-5)
    total = -sum(np.log(softmax(row)[label]) for row, label in zip(expected, LABELS.tolist(), strict=True))
    assert loss(classifier, features) == pytest.approx(total / len(LABELS), rel=1e-4)
    assert METHODS["lws"].sampling == "class-balanced"


@pytest.mark.parametrize(("run", "scale"), [("crt", None), ("cosine", 20.0)])
def test_fresh_classifiers(run: str, scale: float | None, base: LinearClassifier, features: Tensor) -> None:
    classifier = made(run, base)
    assert not torch.equal(classifier.weight, base.weight)
    expected = features @ classifier.weight.T
    if scale is not None:
        expected = scale * expected / classifier.weight.norm(dim=1) / features.norm(dim=1, keepdim=True)
    np.testing.assert_allclose(rows(classifier, features), expected.detach(), rtol=1e-4, atol=1e-5)
    assert METHODS[run].sampling == ("class-balanced" if run == "crt" else "uniform")


def test_simcal(base: LinearClassifier, features: Tensor) -> None:
    """Below 100 train instances the new head's softmax, which alone is trained."""
    classifier = made("simcal", base)
    new = features @ classifier.weight.T + classifier.bias
    found, calibrated, original = scores(classifier, features), new.softmax(dim=1).detach(), scores(base, features)
    for label in range(C + 1):
        tail = label < C and INSTANCES[label] < 100
        np.testing.assert_allclose(found[:, label], (calibrated if tail else original)[:, label], rtol=1e-4)
    assert loss(classifier, features) == pytest.approx(
        float(nn.functional.cross_entropy(new.detach(), LABELS)), rel=1e-4
    )
    assert METHODS["simcal"].sampling == "bi-level"


@pytest.mark.parametrize("run", ["logit-adjust:counts=boxes", "balanced-softmax:form=tanh"])
def test_words_that_an_option_does_not_know(run: str, base: LinearClassifier) -> None:
    with pytest.raises(InputError, match=r"option '\w+' of '[\w-]+': '\w+', expected \w+ or \w+"):
        made(run, base)
