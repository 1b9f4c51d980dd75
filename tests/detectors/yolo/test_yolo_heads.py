"""YOLOs: cached anchor points give ultralytics' own detections; training points are its own assigner's."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("imbalance_bench.detectors.ultralytics.library", exc_type=ImportError)
from little_ultralytics import CLASSES, HEADS, NAMES, SIZE, make, save
from ultralytics import YOLO
from ultralytics.utils.nms import non_max_suppression

from imbalance_bench.classifiers import GroupSoftmaxClassifier, GumbelClassifier, SigmoidClassifier, SoftmaxClassifier
from imbalance_bench.datasets.generated import generate
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.detectors import dense_sampling
from imbalance_bench.detectors.ultralytics.detector import Yolo, open_file
from imbalance_bench.detectors.ultralytics.hosting import levels
from imbalance_bench.detectors.ultralytics.source import PointSource, place
from imbalance_bench.experiments.benchmark import Benchmark
from imbalance_bench.experiments.proposal_cache import ProposalCache
from imbalance_bench.experiments.run_folder import RunFolder
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.proposals.blocks import expand
from imbalance_bench.proposals.proposal_set import ProposalSet
from imbalance_bench.runtime.errors import InputError

IMAGES = 3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return generate(tmp_path_factory.mktemp("data"), CLASSES, 4, IMAGES, (90, 125))


@pytest.fixture(scope="module", params=HEADS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def theirs(kind: str) -> Any:
    return make(kind)


@pytest.fixture(scope="module")
def weights(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(theirs, tmp_path_factory.mktemp("weights") / "my best.pt")


@pytest.fixture(scope="module")
def detector(kind: str, weights: Path) -> Yolo:
    return open_file(HEADS[kind], weights)


@pytest.fixture(scope="module")
def source(detector: Yolo, weights: Path) -> PointSource:
    return detector.adopt(weights)


@pytest.fixture(scope="module")
def cached(
    data: DataSet, detector: Yolo, weights: Path, source: PointSource, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ProposalSet, Any]:
    """Proposals of the validation images, and the detector's own classifier."""
    folder = tmp_path_factory.mktemp("cached")
    bench = Benchmark(Setup(data, detector), folder, pretrained=weights, finished=detector.adopt, views=1, fixed=False)
    run = RunFolder(folder / "run")
    (classifier,) = bench.save(source, run.checkpoint)
    (val,) = ProposalCache(bench.setup, run.checkpoint, folder / "proposals").features("val", [classifier])
    return val, classifier


def batch_of(data: DataSet, detector: Yolo, training: bool = False) -> tuple[Any, Any]:
    images = detector.images(data, data.categories().ids, training=training)
    (batch,) = images.batches([range(len(images))])
    return images, batch


def same(ours: tuple[torch.Tensor, ...], theirs: torch.Tensor) -> None:
    """Detections are the (D, 6) of ultralytics, but for a few whose overlap is .7 within float tolerance."""
    boxes, scores, labels = ours
    assert min(len(scores), len(theirs)) > 20 and abs(len(scores) - len(theirs)) <= 0.01 * len(theirs)
    near = (boxes[:, None] - theirs[None, :, :4]).abs().amax(dim=2) < 1e-2
    near &= (scores[:, None] - theirs[None, :, 4]).abs() < 1e-5
    near &= labels[:, None] == theirs[None, :, 5]
    assert near.any(dim=1).float().mean() > 0.99 and near.any(dim=0).float().mean() > 0.99


@torch.no_grad()
def test_predictions_come_out_of_the_cache(
    data: DataSet, detector: Yolo, weights: Path, cached: tuple[ProposalSet, Any]
) -> None:
    """``YOLO(path).predict``, which takes one class for each anchor point where it suppresses."""
    val, classifier = cached
    assert val.width == detector.tap_dims["fc"] and val.num_blocks == 3 and val.block is not None
    one2one = detector.head == "one2one"
    val = replace(val, postprocess=replace(val.postprocess, score_threshold=0.001, best_class=not one2one))
    _, batch = batch_of(data, detector)
    model = YOLO(weights)
    for position, image in enumerate(batch.images):
        pixels = image.movedim(0, -1).numpy()[..., ::-1]
        (found,) = model.predict(pixels, conf=0.001, max_det=300, verbose=False, **({"nms": False} if one2one else {}))
        features, *_ = val.image(position)
        ours = val.detect(position, classifier.scores(classifier(features)))
        # Without suppression, ultralytics has at most as many detections as anchor points.
        most = len(features) if one2one else len(ours[0])
        same(tuple(part[:most] for part in ours), found.boxes.data)
        assert found.boxes.xyxy.min() == 0, "boxes are clipped"


@torch.no_grad()
def test_what_is_measured_is_what_their_validation_suppresses(
    data: DataSet, detector: Yolo, theirs: Any, cached: tuple[ProposalSet, Any]
) -> None:
    """``non_max_suppression`` with several classes for each anchor point, in the network's image."""
    if detector.head == "one2one":
        pytest.skip("nothing is suppressed")
    val, classifier = cached
    _, batch = batch_of(data, detector)
    for position, image in enumerate(batch.images):
        placed = place(image, (SIZE, SIZE), 32)
        (found,) = non_max_suppression(theirs(placed.pixels)[0], 0.0, 0.7, multi_label=True, max_det=300)
        found[:, :4] = placed.to_original(found[:, :4])
        found[:, 0:4:2].clamp_(0, image.shape[2])
        found[:, 1:4:2].clamp_(0, image.shape[1])
        features, *_ = val.image(position)
        same(val.detect(position, classifier.scores(classifier(features))), found)


@torch.no_grad()
def test_a_hosted_model_predicts_as_before(data: DataSet, detector: Yolo, theirs: Any, source: PointSource) -> None:
    _, batch = batch_of(data, detector)
    pixels = place(batch.images[0], (SIZE, SIZE), 32).pixels
    hosted = detector.host(source.classifiers, source.state_dict())
    expected, raw = theirs(pixels)
    for one in (source, hosted):
        found: Any = one.model(pixels)
        torch.testing.assert_close(found[0], expected, atol=1e-3, rtol=1e-4)
        for head in ("one2many", "one2one") if "one2one" in raw else ():
            torch.testing.assert_close(found[1][head]["scores"], raw[head]["scores"], atol=1e-3, rtol=1e-4)
    assert sum("fc_cls" in name for name in source.state_dict()) == 2, "the classifier is there once"


@torch.no_grad()
def test_features_are_what_the_last_convolutions_read(data: DataSet, detector: Yolo, source: PointSource) -> None:
    """In the order of their levels: the classifier on them gives the head's own scores."""
    images, _ = batch_of(data, detector)
    done = next(source._passes(images, [range(IMAGES)], source._criterion()))
    (classifier,) = source.classifiers
    scores = classifier.scores(classifier(expand(done.features, done.level, 3)))[:, :-1]
    torch.testing.assert_close(scores, done.scores, atol=1e-5, rtol=1e-4)
    assert done.level.bincount().tolist() == [12 * 12, 6 * 6, 3 * 3], "90 x 125 fits into 96 x 96 as 69 x 96"
    inside = done.placed.to_network(done.placed.to_original(done.boxes))
    torch.testing.assert_close(inside, done.boxes, atol=1e-3, rtol=1e-5)


def test_training_points_are_the_assigners(
    data: DataSet, detector: Yolo, theirs: Any, source: PointSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the targets that the model's own loss makes of its outputs."""
    monkeypatch.setattr(dense_sampling, "HARD", 10)
    monkeypatch.setattr(dense_sampling, "EASY", 15)
    images, batch = batch_of(data, detector, training=True)
    positions = [range(len(images))]
    found = [image for (image,) in source.training_proposals(images, positions, "fc", seed=0)]
    model = copy.deepcopy(theirs)
    model.args = source.model.args
    criterion = model.init_criterion()
    criterion = getattr(criterion, detector.head, criterion)
    some = 0
    for image, boxes, labels, ours in zip(batch.images, batch.boxes, batch.labels, found, strict=True):
        placed = place(image, (SIZE, SIZE), 32)
        height, width = placed.pixels.shape[2:]
        corners = placed.to_network(boxes) / torch.tensor([width, height, width, height])
        centred = torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], dim=1)
        given = {"batch_idx": torch.zeros(len(boxes)), "cls": labels.float(), "bboxes": centred}
        with torch.no_grad():
            outputs = model(placed.pixels)[1]
            outputs = outputs.get(detector.head, outputs)
            (has_box, box, *_), *_ = criterion.get_assigned_targets_and_loss(outputs, given)
        expected = labels[box[0][has_box[0]]].bincount(minlength=CLASSES)
        assert torch.equal(ours.labels.bincount(minlength=CLASSES + 1)[:CLASSES], expected)
        assert (ours.labels == CLASSES).sum() == 10 + 15
        some += int(expected.sum())
    assert some > 0
    again = [image for (image,) in source.training_proposals(images, positions, "fc", seed=0)]
    other = [image for (image,) in source.training_proposals(images, positions, "fc", seed=1)]
    assert all(torch.equal(a.boxes, b.boxes) for a, b in zip(found, again, strict=True))
    assert not all(torch.equal(a.boxes, b.boxes) for a, b in zip(found, other, strict=True))


def test_which_classifiers_are_hosted(detector: Yolo, source: PointSource) -> None:
    width, state = detector.tap_dims["fc"], source.state_dict()
    bags = GroupSoftmaxClassifier(CLASSES, width, groups=[1 + label % 2 for label in range(CLASSES)])
    for classifier in (GumbelClassifier(CLASSES, width), SigmoidClassifier(CLASSES, width), bags):
        assert detector.refusal(classifier) is None
        hosted = detector.host([classifier], state)
        (own,) = hosted.classifiers
        for level, layers in enumerate(levels(hosted.model, detector.head)):
            with torch.no_grad():
                maps = torch.randn(2, width // 3 - 1, 5, 6)
                rows = maps.flatten(2).movedim(1, -1).flatten(0, 1)
                scores = own.scores(own(expand(rows, torch.full((60,), level), 3)))[:, :-1]
                found = layers[-1](maps).flatten(2).movedim(1, -1).flatten(0, 1)
                torch.testing.assert_close(found.sigmoid(), scores, atol=1e-5, rtol=1e-4)
    for message, classifier in {
        "scores background by a row of its own": SoftmaxClassifier(CLASSES, width),
        "its cosine divides": SigmoidClassifier(CLASSES, width, cosine=20.0),
    }.items():
        assert message in str(detector.refusal(classifier))
        with pytest.raises(InputError, match=message):
            detector.host([classifier], state)


def test_what_it_says(detector: Yolo, weights: Path) -> None:
    assert detector.check_weights(weights) == {"CLASSES": NAMES}
    assert detector.name == "my-best" and detector.num_classes == CLASSES and detector.first_label == 0
    assert f"in images of at most {SIZE} x {SIZE}" in detector.notes[0]
    assert detector.postprocess.iou_threshold == (None if detector.head == "one2one" else 0.7)
