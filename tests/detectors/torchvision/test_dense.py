"""RetinaNet and FCOS: cached anchors give the model's own detections; training anchors are its own matcher's."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from little_torchvision import CLASSES, fcos, retinanet, save, spread_dense
from torch import nn

from imbalance_bench.classifiers import (
    EQLv2Classifier,
    GroupSoftmaxClassifier,
    GumbelClassifier,
    NCMClassifier,
    SigmoidClassifier,
    SoftmaxClassifier,
)
from imbalance_bench.datasets.generated import generate
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.detectors import dense_sampling
from imbalance_bench.detectors.patches import patches
from imbalance_bench.detectors.torchvision.dense import Dense
from imbalance_bench.detectors.torchvision.dense_source import DenseSource
from imbalance_bench.experiments.benchmark import Benchmark
from imbalance_bench.experiments.proposal_cache import ProposalCache
from imbalance_bench.experiments.run_folder import RunFolder
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.proposals.blocks import expand
from imbalance_bench.runtime.errors import InputError

IMAGES = 3
KINDS = {"retinanet": retinanet, "fcos": fcos}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return generate(tmp_path_factory.mktemp("data"), CLASSES, 4, IMAGES, (90, 125))


@pytest.fixture(scope="module", params=KINDS)
def theirs(request: pytest.FixtureRequest) -> Any:
    return spread_dense(KINDS[request.param]())


@pytest.fixture(scope="module")
def detector(theirs: Any) -> Dense:
    return Dense.of("little_torchvision:dense", copy.deepcopy(theirs))


@pytest.fixture(scope="module")
def source(detector: Dense, theirs: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> DenseSource:
    return detector.adopt(save(theirs, tmp_path_factory.mktemp("weights") / "model.pth"))


def batch_of(data: DataSet, detector: Dense, training: bool = False) -> tuple[Any, Any]:
    images = detector.images(data, data.categories().ids, training=training)
    (batch,) = images.batches([range(len(images))])
    return images, batch


def test_predictions_come_out_of_the_cache(
    data: DataSet, detector: Dense, theirs: Any, source: DenseSource, tmp_path: Path
) -> None:
    path = save(theirs, tmp_path / "model.pth")
    bench = Benchmark(Setup(data, detector), tmp_path, pretrained=path, finished=detector.adopt, views=1, fixed=False)
    folder = RunFolder(tmp_path / "run")
    (classifier,) = bench.save(source, folder.checkpoint)
    (val,) = ProposalCache(bench.setup, folder.checkpoint, tmp_path / "proposals").features("val", [classifier])
    assert val.width == detector.tap_dims["fc"] == (3 * 73 if detector.num_blocks == 3 else 32 * 9)
    assert (val.quality is not None) == (detector.postprocess.power == 0.5)
    val = replace(val, postprocess=detector.own_postprocess)
    _, batch = batch_of(data, detector)
    with torch.no_grad():
        expected = theirs(batch.images)
        for position, theirs_found in enumerate(expected):
            features, *_ = val.image(position)
            boxes, scores, labels = val.detect(position, classifier.scores(classifier(features)))
            assert len(scores) == len(theirs_found["scores"]) > 20
            torch.testing.assert_close(scores, theirs_found["scores"], atol=1e-5, rtol=0)
            near = (boxes[:, None] - theirs_found["boxes"][None]).abs().amax(dim=2) < 1e-3
            same = (labels[:, None] == theirs_found["labels"][None]) & near
            assert same.any(dim=1).float().mean() > 0.99


def test_a_hosted_model_predicts_as_before(data: DataSet, detector: Dense, theirs: Any, source: DenseSource) -> None:
    _, batch = batch_of(data, detector)
    with torch.no_grad():
        for ours, expected in zip(source.model(batch.images), theirs(batch.images), strict=True):
            for name, value in expected.items():
                torch.testing.assert_close(ours[name], value, atol=1e-4, rtol=1e-4)


def test_patches_are_what_the_last_convolution_reads(data: DataSet, detector: Dense, source: DenseSource) -> None:
    """At every anchor of every level, against torch's own unfolding."""
    images, _ = batch_of(data, detector)
    with torch.no_grad():
        (done,) = source._passes(images, [range(IMAGES)])
        count = done.outputs["cls_logits"].shape[1]
        shapes, rows = detector.num_blocks, torch.arange(count)
        assert sum(done.sizes) == count == len(done.anchors[0])
        unfolded = [nn.functional.unfold(level, 3, padding=1)[1].T.repeat_interleave(shapes, 0) for level in done.maps]
        found = patches([level[1] for level in done.maps], (3, 3), shapes, rows)
        torch.testing.assert_close(found, torch.cat(unfolded))
        # And the classifier on them gives the head's own logits.
        (classifier,) = source.classifiers
        logits = classifier(expand(found, rows % shapes, shapes))
        torch.testing.assert_close(logits, done.outputs["cls_logits"][1], atol=1e-4, rtol=1e-4)


def test_training_anchors_are_the_matchers(
    data: DataSet, detector: Dense, theirs: Any, source: DenseSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense_sampling, "HARD", 20)
    monkeypatch.setattr(dense_sampling, "EASY", 30)
    images, batch = batch_of(data, detector, training=True)
    positions = [range(len(images))]
    seen: list[torch.Tensor] = []
    model = copy.deepcopy(theirs)
    # The targets of the model's own loss, whose one-hot rows are the positive anchors.
    focal = f"torchvision.models.detection.{type(theirs).__name__.lower()}.sigmoid_focal_loss"
    monkeypatch.setattr(focal, lambda logits, target, reduction: seen.append(target) or logits.sum())
    targets = [{"boxes": b, "labels": label} for b, label in zip(batch.boxes, batch.labels, strict=True)]
    model.transform.min_size = (96,)
    model.train()(batch.images, targets)
    found = [image for (image,) in source.training_proposals(images, positions, "fc", seed=0)]
    own = torch.cat([target.flatten(0, -2) for target in seen])
    positives = own.sum(dim=0)
    # All positives are kept where they are few, with their labels.
    kept = torch.cat([image.labels for image in found])
    assert torch.equal(torch.bincount(kept, minlength=CLASSES + 1)[:CLASSES], positives.long())
    assert int(positives.sum()) > 0
    for image in found:
        assert (image.labels == CLASSES).sum() == 20 + 30
        assert (image.block is None) == (detector.num_blocks == 1)
    again = [image for (image,) in source.training_proposals(images, positions, "fc", seed=0)]
    other = [image for (image,) in source.training_proposals(images, positions, "fc", seed=1)]
    assert all(torch.equal(a.boxes, b.boxes) for a, b in zip(found, again, strict=True))
    assert not all(torch.equal(a.boxes, b.boxes) for a, b in zip(found, other, strict=True))
    assert "compute_loss" not in vars(source.model.head), "the loss is the model's own again"


@torch.no_grad()
def test_the_best_scored_anchors_are_kept(
    data: DataSet, detector: Dense, source: DenseSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense_sampling, "KEPT", 100)
    images, _ = batch_of(data, detector)
    (done,) = source._passes(images, [[0]])
    scores = source._scores(done, 0)
    best, threshold = scores.amax(dim=1), detector.own_postprocess.score_threshold
    few = dense_sampling.candidates(scores / 1000, best / 1000, done.sizes, threshold, 1000)
    assert len(few) == 100, "without a candidate, as many as are kept at least"
    assert best[few].min() >= best.sort(descending=True).values[99]
    kept = dense_sampling.candidates(scores, best, done.sizes, threshold, 1000)
    own = (scores > threshold).any(dim=1).nonzero()[:, 0]
    assert set(own.tolist()) <= set(kept.tolist()) and kept.tolist() == sorted(kept.tolist())
    left = torch.ones(len(scores), dtype=torch.bool)
    left[kept] = False
    assert 100 <= len(kept) < len(scores) and best[left].max() <= best[kept].min()


def test_which_classifiers_are_hosted(detector: Dense, source: DenseSource) -> None:
    width, state = detector.tap_dims["fc"], source.state_dict()
    bags = GroupSoftmaxClassifier(CLASSES, width, groups=[1 + label % 2 for label in range(CLASSES)])
    for classifier in (GumbelClassifier(CLASSES, width), SigmoidClassifier(CLASSES, width), bags):
        assert detector.refusal(classifier) is None
        hosted = detector.host([classifier], state)
        (own,) = hosted.classifiers
        with torch.no_grad():
            maps = torch.randn(2, hosted.model.backbone.out_channels, 5, 6)
            logits = hosted.model.head.classification_head.cls_logits(maps)
            rows = nn.functional.unfold(maps, 3, padding=1).movedim(1, -1)  # (N, H W, d)
            for shape in range(detector.num_blocks):
                block = torch.full((60,), shape)
                scores = own.scores(own(expand(rows.flatten(0, 1), block, detector.num_blocks)))[:, :-1]
                found = logits.unflatten(1, (detector.num_blocks, CLASSES))[:, shape].flatten(2).movedim(1, -1)
                torch.testing.assert_close(found.flatten(0, 1).sigmoid(), scores, atol=1e-5, rtol=1e-4)
    refused = {
        "scores background by a row of its own": SoftmaxClassifier(CLASSES, width),
        "scores background by a row": EQLv2Classifier(CLASSES, width),
        "it is no linear layer": NCMClassifier.from_base(SoftmaxClassifier(CLASSES, width), width, 1.0, ("fc",)),
        "its cosine divides": SigmoidClassifier(CLASSES, width, cosine=20.0),
        "its cosine divides by": GroupSoftmaxClassifier(CLASSES, width, [1] * CLASSES, cosine=20.0),
    }
    for message, classifier in refused.items():
        assert message in str(detector.refusal(classifier))
        with pytest.raises(InputError, match=message):
            detector.host([classifier], state)


def test_what_cannot_be_hosted(tmp_path: Path, theirs: Any) -> None:
    detector = Dense.of("little_torchvision:dense", copy.deepcopy(theirs))
    weight = "head.classification_head.cls_logits.weight"
    for change, message in (
        ({weight: torch.zeros(5, 8, 3, 3)}, r"has shape \(5, 8, 3, 3\), expected"),
        ({weight: torch.full_like(theirs.state_dict()[weight], torch.nan)}, "NaN or infinite"),
        ({"backbone.first.weight": torch.zeros(1)}, "its tensors are not of the model .*backbone.first.weight"),
    ):
        torch.save({**theirs.state_dict(), **change}, tmp_path / "bad.pth")
        with pytest.raises(InputError, match=message):
            detector.adopt(tmp_path / "bad.pth")
    model = copy.deepcopy(theirs)
    model.head.classification_head.cls_logits.stride = (2, 2)
    with pytest.raises(InputError, match="expected a plain convolution with a bias"):
        Dense.of("little_torchvision:dense", model)
