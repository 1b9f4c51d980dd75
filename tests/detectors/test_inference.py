"""Passes of the frozen detector: what mmdet predicts is what comes out of its cached proposals."""

from collections import Counter

import pytest
import torch
from mmdet.structures.bbox import bbox_overlaps

from imbalance_bench.benchmark import Benchmark
from imbalance_bench.classifiers import GroupSoftmaxClassifier, SoftmaxClassifier
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.detectors import catalogue
from imbalance_bench.detectors.inference import check_cacheable, test_proposals, training_proposals
from imbalance_bench.errors import InputError
from imbalance_bench.evaluation.postprocess import detect
from imbalance_bench.training.detector import build_detector

test_proposals.__test__ = False  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def bench(mini: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    return Benchmark(mini, catalogue.get("tiny"), tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module", params=["softmax", "bags"])
def detector(bench: Benchmark, request: pytest.FixtureRequest) -> torch.nn.Module:
    """Untrained but for scores that are far from uniform, and boxes that move."""
    torch.manual_seed(0)
    if request.param == "softmax":
        classifier = SoftmaxClassifier(12, 256)
    else:
        classifier = GroupSoftmaxClassifier(12, 256, bench.categories.bins.tolist())  # type: ignore[assignment]
    torch.nn.init.normal_(classifier.weight, std=2)
    model = build_detector(bench.detector, classifier).eval()
    torch.nn.init.normal_(model.roi_head.bbox_head.fc_reg.weight, std=0.3)
    return model


def batches(bench: Benchmark, count: int, training: bool = False) -> list[dict]:
    dataset = bench.training_set(flip=0.0) if training else bench.validation_set()
    return [batch for batch, _ in zip(bench.loader(dataset), range(count), strict=False)]


def test_predictions_come_out_of_cached_proposals(bench: Benchmark, detector: torch.nn.Module) -> None:
    data = batches(bench, 1)
    with torch.no_grad():
        predicted = detector.test_step(data[0])
    classifier = detector.roi_head.bbox_head.fc_cls
    for sample, image in zip(predicted, test_proposals(detector, data, "fc"), strict=True):
        boxes, scores, labels = detect(classifier.scores(classifier(image.features)), image.boxes)
        expected = sample.pred_instances
        assert int(sample.img_id) == image.image_id
        assert len(boxes) == len(expected.bboxes) > 0
        assert torch.allclose(scores, expected.scores, atol=1e-5)
        # Scores that are equal to float precision may change places; so each box is looked for.
        overlap = bbox_overlaps(boxes, expected.bboxes)
        overlap[labels[:, None] != expected.labels[None, :]] = 0
        overlap[(scores[:, None] - expected.scores[None, :]).abs() > 1e-5] = 0
        # Of boxes that tie at the cut after 300, either may be the last.
        clear = scores > scores[-1] + 1e-5
        assert clear.sum() > 100
        assert (overlap.max(dim=1).values > 0.999)[clear].all()


def test_labels_of_test_proposals(bench: Benchmark, detector: torch.nn.Module) -> None:
    data = batches(bench, 1)
    for sample, image in zip(data[0]["data_samples"], test_proposals(detector, data, "conv"), strict=True):
        assert image.features.shape == (len(image.labels), 64 * 49)
        assert not image.ground_truth.any()
        truth = sample.gt_instances
        proposals = detector.roi_head and image.labels
        assert set(proposals[proposals != 12].tolist()) <= set(truth.labels.tolist())
        assert len(set(truth.labels.tolist()) & set(proposals.tolist())) > 0


def test_training_proposals_are_what_training_samples(bench: Benchmark, detector: torch.nn.Module) -> None:
    data = batches(bench, 1, training=True)
    first = list(training_proposals(detector, data, "fc", seed=0))
    for sample, image in zip(data[0]["data_samples"], first, strict=True):
        truth = sample.gt_instances
        assert len(image.labels) == 128
        positives = int((image.labels < 12).sum())
        added, objects = Counter(image.labels[image.ground_truth].tolist()), Counter(truth.labels.tolist())
        # Ground truth is added, each object once; a quarter of the RoIs are positive at most.
        assert added <= objects
        assert positives == 32 or added == objects
    again = list(training_proposals(detector, data, "fc", seed=0))
    other = list(training_proposals(detector, data, "fc", seed=1))
    assert all(torch.equal(a.features, b.features) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a.features, b.features) for a, b in zip(first, other, strict=True))


def test_sampling_does_not_depend_on_the_batch(bench: Benchmark, detector: torch.nn.Module) -> None:
    dataset = bench.training_set(flip=0.0)
    data = batches(bench, 1, training=True)
    alone = bench.loader(torch.utils.data.Subset(dataset, [3]))  # type: ignore[arg-type]
    together = list(training_proposals(detector, data, "fc", seed=0))[3]
    (single,) = training_proposals(detector, alone, "fc", seed=0)
    assert torch.equal(together.labels, single.labels)
    assert torch.allclose(together.features, single.features, atol=1e-4)


def test_what_cannot_be_cached(bench: Benchmark, detector: torch.nn.Module) -> None:
    check_cacheable(detector)
    with pytest.raises(InputError, match="two-stage"):
        check_cacheable(torch.nn.Linear(1, 1))  # type: ignore[arg-type]
    detector.roi_head.bbox_head.reg_class_agnostic = False
    try:
        with pytest.raises(InputError, match="reg_class_agnostic"):
            check_cacheable(detector)
    finally:
        detector.roi_head.bbox_head.reg_class_agnostic = True


def test_all_detectors_build() -> None:
    for record in catalogue.DETECTORS.values():
        model = build_detector(record, SoftmaxClassifier(7, record.tap_dims["fc"]))
        head = model.roi_head.bbox_head
        assert head.fc_cls.weight.shape == (8, record.tap_dims["fc"])
        assert head.shared_fcs[0].in_features == record.tap_dims["conv"]
        check_cacheable(model)
    with pytest.raises(InputError, match="did you mean 'tiny'"):
        catalogue.get("tyni")
