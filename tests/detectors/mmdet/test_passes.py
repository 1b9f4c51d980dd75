"""Passes of the frozen detector: cached proposals give the same predictions as mmdet."""

import copy
from collections import Counter
from dataclasses import replace

import pytest
import torch
from mmdet.structures.bbox import bbox_overlaps
from mmengine.config import ConfigDict

from imbalance_bench.classifiers import Classifier, GroupSoftmaxClassifier, SoftmaxClassifier
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.detectors.mmdet import catalogue
from imbalance_bench.detectors.mmdet.building import build_detector
from imbalance_bench.detectors.mmdet.class_boxes import ClassBoxes
from imbalance_bench.detectors.mmdet.hosting import heads
from imbalance_bench.detectors.mmdet.masks import predict_masks
from imbalance_bench.detectors.mmdet.passes import box_heads, check_cacheable, inference_proposals, training_proposals
from imbalance_bench.detectors.mmdet.source import loader
from imbalance_bench.detectors.mmdet.tiny import shrink
from imbalance_bench.experiments.benchmark import Benchmark
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.proposals.postprocess import detect
from imbalance_bench.runtime.errors import InputError

Built = tuple[Benchmark, torch.nn.Module]
IMAGES = 4


def class_specific(model: ConfigDict) -> None:
    """A tiny detector with a box regressor for each class."""
    shrink()(model)
    for head in heads(model.roi_head.bbox_head):
        head.reg_class_agnostic = False


CLASS_BOXES = replace(catalogue.get("tiny"), name="tiny-class-boxes", change=class_specific)


@pytest.fixture(
    scope="module",
    params=["tiny softmax", "tiny bags", "class-boxes bags", "tiny-cascade bags", "tiny-mask softmax", "tiny-htc bags"],
)
def built(mini: DataSet, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Built:
    """Untrained but for scores that are far from uniform, and boxes that move."""
    name, kind = request.param.split()
    record = CLASS_BOXES if name == "class-boxes" else catalogue.get(name)
    bench = Benchmark(Setup(mini, record), tmp_path_factory.mktemp("work"))
    torch.manual_seed(0)
    classifiers: list[Classifier] = []
    for _ in range(record.num_stages):
        classifier = SoftmaxClassifier(12, 256) if kind == "softmax" else bags(bench.setup.categories.bins.tolist())
        torch.nn.init.normal_(classifier.weight, std=2)
        classifiers.append(classifier)
    model = build_detector(bench.setup.detector, classifiers).eval()
    for head in box_heads(model):
        torch.nn.init.normal_(head.fc_reg.weight, std=0.3)
    return bench, model


def bags(bins: list[int]) -> GroupSoftmaxClassifier:
    return GroupSoftmaxClassifier(12, 256, bins)


def batches(bench: Benchmark, training: bool = False) -> list[dict]:
    """A single batch of a few images."""
    dataset = bench.setup.training_set(flip=0.0) if training else bench.setup.validation_set()
    few = torch.utils.data.Subset(dataset, range(IMAGES))  # type: ignore[arg-type]
    return list(loader(bench.setup.detector, few))


def test_predictions_come_out_of_cached_proposals(built: Built) -> None:
    bench, detector = built
    data = batches(bench)
    with torch.no_grad():
        predicted = detector.test_step(copy.deepcopy(data[0]))
    hosted = [head.fc_cls for head in box_heads(detector)]
    for sample, stages in zip(predicted, inference_proposals(detector, data, "fc"), strict=True):
        logits = torch.stack([c(image.features) for c, image in zip(hosted, stages, strict=True)]).mean(dim=0)
        last = stages[-1]
        of_boxes = last.boxes
        if bench.setup.detector.has_class_boxes:
            of_boxes = ClassBoxes(box_heads(detector)[0]).of_image(last.features, last.boxes, last.frame)
        boxes, scores, labels = detect(hosted[-1].scores(logits), of_boxes)
        expected = sample.pred_instances
        assert int(sample.img_id) == last.image_id
        assert len(boxes) == len(expected.bboxes) > 0
        # Scores that are equal to float precision may change places; so each box is looked for.
        overlap = bbox_overlaps(boxes, expected.bboxes)
        overlap[labels[:, None] != expected.labels[None, :]] = 0
        overlap[(scores[:, None] - expected.scores[None, :]).abs() > 1e-5] = 0
        # Of boxes that tie at the cut after 300, either may be the last; and mmdet suppresses in single precision,
        # where an overlap of just .5 may fall on the other side.
        clear = scores > scores[-1] + 1e-5
        assert clear.sum() > 30
        assert ((overlap.max(dim=1).values > 0.999)[clear]).float().mean() >= 0.99


def test_masks_are_mmdets_own(built: Built) -> None:
    bench, detector = built
    if not bench.setup.detector.has_masks:
        pytest.skip("no mask branch")
    data = batches(bench)
    with torch.no_grad():
        predicted = {int(s.img_id): s.pred_instances for s in detector.test_step(copy.deepcopy(data[0]))}
    masks = dict(predict_masks(detector, data, lambda i: (predicted[i].bboxes, predicted[i].labels)))
    for image_id, expected in predicted.items():
        assert masks[image_id].shape == expected.masks.shape
        # Boxes go to the original image and back, so a pixel at a mask's border may differ.
        assert (masks[image_id] != expected.masks.numpy()).mean() < 1e-4


def test_labels_of_inference_proposals(built: Built) -> None:
    bench, detector = built
    data = batches(bench)
    for sample, stages in zip(data[0]["data_samples"], inference_proposals(detector, data, "conv"), strict=True):
        truth = set(sample.gt_instances.labels.tolist())
        for image in stages:
            assert image.features.shape == (len(image.labels), 64 * 49)
            assert not image.ground_truth.any()
            assert torch.equal(image.labels, stages[0].labels)
            assert set(image.labels[image.labels != 12].tolist()) <= truth
    assert any((stages[0].labels < 12).any() for stages in inference_proposals(detector, data, "conv"))


def test_training_proposals_are_what_training_samples(built: Built) -> None:
    bench, detector = built
    data = batches(bench, training=True)
    first = list(training_proposals(detector, data, "fc", seed=0))
    for sample, stages in zip(data[0]["data_samples"], first, strict=True):
        objects = Counter(sample.gt_instances.labels.tolist())
        for image in stages:
            # A later stage finds fewer that overlap enough, and no others than were sampled before.
            assert len(image.labels) == 128 if image is stages[0] else len(image.labels) <= 128
            positives = int((image.labels < 12).sum())
            added = Counter(image.labels[image.ground_truth].tolist())
            # Ground truth is added, each object once; a quarter of the RoIs are positive at most.
            assert added <= objects
            assert positives == 32 or added == objects
    again = list(training_proposals(detector, data, "fc", seed=0))
    other = list(training_proposals(detector, data, "fc", seed=1))
    assert all(torch.equal(a[-1].features, b[-1].features) for a, b in zip(first, again, strict=True))
    assert not all(
        a[-1].features.shape == b[-1].features.shape and torch.equal(a[-1].features, b[-1].features)
        for a, b in zip(first, other, strict=True)
    )


def test_a_stage_starts_from_the_boxes_of_the_one_before(built: Built) -> None:
    bench, detector = built
    if bench.setup.detector.num_stages == 1:
        pytest.skip("a single stage")
    roi_head = detector.roi_head
    seen: list[torch.Tensor] = []
    forward = roi_head._bbox_forward
    roi_head._bbox_forward = lambda **kwargs: seen.append(kwargs["rois"]) or forward(**kwargs)
    data = batches(bench)
    try:
        with torch.no_grad():
            detector.test_step(copy.deepcopy(data[0]))
    finally:
        del roi_head._bbox_forward
    images = list(inference_proposals(detector, data, "fc"))
    # Images of the embedded set are seen at their own size, so both frames are one.
    for stage in range(1, 3):
        ours = torch.cat([stages[stage - 1].boxes for stages in images])
        assert torch.allclose(ours, seen[stage][:, 1:], atol=1e-3)


def test_sampling_does_not_depend_on_the_batch(built: Built) -> None:
    bench, detector = built
    dataset = bench.setup.training_set(flip=0.0)
    data = batches(bench, training=True)
    alone = loader(bench.setup.detector, torch.utils.data.Subset(dataset, [3]))  # type: ignore[arg-type]
    together = list(training_proposals(detector, data, "fc", seed=0))[3][0]
    ((single, *_),) = training_proposals(detector, alone, "fc", seed=0)
    assert torch.equal(together.labels, single.labels)
    # Convolutions of one image and of several round differently, which may tip a proposal at NMS' threshold.
    other = ~torch.isclose(together.features, single.features, atol=1e-4).all(dim=1)
    assert other.sum() <= 1


def test_what_cannot_be_cached(built: Built) -> None:
    _, detector = built
    check_cacheable(detector)
    with pytest.raises(InputError, match="two-stage"):
        check_cacheable(torch.nn.Linear(1, 1))
    head = box_heads(detector)[0]
    agnostic, head.reg_class_agnostic = head.reg_class_agnostic, False
    head.reg_fcs.append(torch.nn.Linear(1, 1))
    try:
        with pytest.raises(InputError, match="reg_class_agnostic"):
            check_cacheable(detector)
    finally:
        head.reg_class_agnostic = agnostic
        del head.reg_fcs[0]


# The ResNeXts take long to build; ``detectors check`` does that.
SMALL = [name for name, record in catalogue.DETECTORS.items() if record.scale == "tiny" or "R50" in record.framework]


@pytest.mark.parametrize("name", SMALL)
def test_detectors_build(name: str) -> None:
    record = catalogue.get(name)
    classifiers = [SoftmaxClassifier(7, record.tap_dims["fc"]) for _ in range(record.num_stages)]
    model = build_detector(record, classifiers)
    for head in box_heads(model):
        assert head.fc_cls.weight.shape == (8, record.tap_dims["fc"])
        assert head.shared_fcs[0].in_features == record.tap_dims["conv"]
        assert head.reg_class_agnostic is not record.has_class_boxes
    assert record.has_masks == model.roi_head.with_mask
    check_cacheable(model)


def test_a_scale_has_every_framework() -> None:
    for record in catalogue.DETECTORS.values():
        assert catalogue.of(record.framework, record.scale) is record
    frameworks = {record.framework for record in catalogue.DETECTORS.values()}
    for scale in ("tiny", "paper"):
        assert {record.framework for record in catalogue.DETECTORS.values() if record.scale == scale} == frameworks
    with pytest.raises(InputError, match="no detector at the scale 'small', expected that of tiny-htc, htc-x101"):
        catalogue.of("HTC X101", "small")
    assert catalogue.for_photographs("Faster R50").name == "small"
    assert catalogue.for_photographs("HTC X101").name == "htc-x101"


def test_other_boxes() -> None:
    own, shared, one = (catalogue.get(f"faster-rcnn-r50-boxes={boxes}") for boxes in ("own", "shared", "agnostic"))
    assert [record.has_class_boxes for record in (own, shared, one)] == [True, True, False]
    assert catalogue.get("tiny-boxes=own").has_class_boxes and not catalogue.get("tiny").has_class_boxes
    assert shared.name == "faster-rcnn-r50-boxes=shared" and "shared one" in shared.description
    with pytest.raises(InputError, match="unknown kind of boxes 'shard', did you mean 'shared'"):
        catalogue.get("tiny-boxes=shard")
    with pytest.raises(InputError, match="stages of a cascade"):
        catalogue.get("tiny-cascade-boxes=own")


def test_an_unknown_detector() -> None:
    with pytest.raises(InputError, match="did you mean 'tiny'"):
        catalogue.get("tinny")
    with pytest.raises(InputError, match=r"unknown detector 'yolo' \(known: tiny, ") as error:
        catalogue.get("yolo")
    assert "did you mean" not in str(error.value)
