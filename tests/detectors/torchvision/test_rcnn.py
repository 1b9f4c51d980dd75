"""torchvision's R-CNNs: cached proposals give the model's own detections; training proposals are its own samples."""

import copy
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from little_torchvision import CLASSES, rcnn, save, spread
from torch import Tensor
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.ops import box_iou

from imbalance_bench.classifiers import GroupSoftmaxClassifier, SigmoidClassifier, SoftmaxClassifier
from imbalance_bench.datasets.generated import generate
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.detectors.torchvision import models
from imbalance_bench.detectors.torchvision.rcnn import RCNN
from imbalance_bench.detectors.torchvision.rcnn_source import RCNNSource, _as_in_training
from imbalance_bench.experiments.benchmark import Benchmark
from imbalance_bench.experiments.proposal_cache import ProposalCache
from imbalance_bench.experiments.run_folder import RunFolder
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.proposals.postprocess import Postprocess
from imbalance_bench.runtime.errors import InputError

IMAGES = 3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """Images of 90 by 125 pixels, which the detector enlarges by other factors in x and y."""
    return generate(tmp_path_factory.mktemp("data"), CLASSES, 4, IMAGES, (90, 125))


@pytest.fixture(scope="module", params=[FasterRCNN, MaskRCNN])
def theirs(request: pytest.FixtureRequest) -> FasterRCNN:
    return spread(rcnn(request.param))


@pytest.fixture(scope="module")
def detector(theirs: FasterRCNN) -> RCNN:
    return RCNN.of("little_torchvision:faster", copy.deepcopy(theirs))


@pytest.fixture(scope="module")
def source(detector: RCNN, theirs: FasterRCNN, tmp_path_factory: pytest.TempPathFactory) -> RCNNSource:
    return detector.adopt(save(theirs, tmp_path_factory.mktemp("weights") / "model.pth"))


def batches(data: DataSet, detector: RCNN, training: bool = False) -> tuple:
    images = detector.images(data, data.categories().ids, training=training)
    return images, [range(len(images))]


def assert_same(found: tuple[Tensor, Tensor, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-3) -> None:
    boxes, scores, labels = found
    assert len(scores) == len(expected["scores"]) > 5
    torch.testing.assert_close(scores, expected["scores"], atol=1e-5, rtol=0)
    near = (boxes[:, None] - expected["boxes"][None]).abs().amax(dim=2) < tolerance
    same = (labels[:, None] + 1 == expected["labels"][None]) & near
    assert same.any(dim=1).float().mean() > 0.99


@pytest.mark.parametrize("own", [True, False])
def test_predictions_come_out_of_the_cache(
    own: bool, data: DataSet, detector: RCNN, theirs: FasterRCNN, source: RCNNSource, tmp_path: Path
) -> None:
    """By the model's own thresholds, and by those that it is measured with."""
    path = save(theirs, tmp_path / "model.pth")
    bench = Benchmark(Setup(data, detector), tmp_path, pretrained=path, finished=detector.adopt, views=1, fixed=False)
    folder = RunFolder(tmp_path / "run")
    (classifier,) = bench.save(source, folder.checkpoint)
    (val,) = ProposalCache(bench.setup, folder.checkpoint, tmp_path / "proposals").features("val", [classifier])
    after = detector.own_postprocess if own else detector.postprocess
    assert (after.score_threshold, after.max_per_image) == ((0.05, 100) if own else (0, 300))
    val, model = replace(val, postprocess=after), copy.deepcopy(theirs)
    model.roi_heads.score_thresh, model.roi_heads.detections_per_img = after.score_threshold, after.max_per_image
    images, (positions,) = batches(data, detector)
    (batch,) = images.batches([positions])
    with torch.no_grad():
        expected = model(batch.images)
        for position in range(IMAGES):
            features, *_ = val.image(position)
            assert_same(val.detect(position, classifier.scores(classifier(features))), expected[position])


def test_a_hosted_model_predicts_as_before(
    data: DataSet, detector: RCNN, theirs: FasterRCNN, source: RCNNSource
) -> None:
    images, (positions,) = batches(data, detector)
    (batch,) = images.batches([positions])
    model = copy.deepcopy(theirs)
    model.roi_heads.score_thresh, model.roi_heads.detections_per_img = 0.0, 300
    with torch.no_grad():
        for ours, expected in zip(source.model(batch.images), model(batch.images), strict=True):
            assert_same((ours["boxes"], ours["scores"], ours["labels"] - 1), expected)
            assert ours.keys() == expected.keys(), "masks too"


def test_training_proposals_are_its_own_samples(
    data: DataSet, detector: RCNN, theirs: FasterRCNN, source: RCNNSource
) -> None:
    images, positions = batches(data, detector, training=True)
    first = list(source.training_proposals(images, positions, "fc", seed=0))
    (batch,) = images.batches(positions)
    _, targets = source.model.transform(
        batch.images, [{"boxes": b, "labels": label + 1} for b, label in zip(batch.boxes, batch.labels, strict=True)]
    )
    for (image,), target in zip(first, targets, strict=True):
        objects = Counter((target["labels"] - 1).tolist())
        assert len(image.labels) == 48 == source.training_rows
        positives = int((image.labels < CLASSES).sum())
        added = Counter(image.labels[image.ground_truth].tolist())
        assert added <= objects and (positives == 12 or added == objects)
        assert 0 < positives <= 12
        # Every positive overlaps a box of its label by half at least.
        overlap = box_iou(image.boxes, target["boxes"])
        own = image.labels[:, None] == (target["labels"] - 1)[None]
        assert ((overlap * own).amax(dim=1)[image.labels < CLASSES] >= 0.5).all()
        assert (overlap.amax(dim=1)[image.labels == CLASSES] < 0.5).all()
        assert image.frame.tolist() == pytest.approx([92, 128, 128 / 125, 92 / 90], abs=1e-6)
    again = list(source.training_proposals(images, positions, "fc", seed=0))
    other = list(source.training_proposals(images, positions, "fc", seed=1))
    assert all(torch.equal(a.boxes, b.boxes) for (a,), (b,) in zip(first, again, strict=True))
    assert not all(torch.equal(a.boxes, b.boxes) for (a,), (b,) in zip(first, other, strict=True))
    # The sample of an image is its own: another batch does not change it.
    (alone,) = next(iter(source.training_proposals(images, [[2]], "fc", seed=0)))
    assert torch.equal(alone.labels, first[2][0].labels)


def test_the_rpn_keeps_as_many_as_in_training(data: DataSet, detector: RCNN, source: RCNNSource) -> None:
    images, positions = batches(data, detector, training=True)
    (batch,) = images.batches(positions)
    inputs, _ = source.model.transform(batch.images)
    pyramid = {"0": source.model.backbone(inputs.tensors)}
    rpn = source.model.rpn
    with torch.no_grad():
        rpn.train()
        targets = [{"boxes": boxes} for boxes in batch.boxes]
        expected, losses = rpn(inputs, pyramid, targets)
        rpn.eval()
        with _as_in_training(rpn):
            found, nothing = rpn(inputs, pyramid)
    assert losses and not nothing
    assert all(map(torch.equal, found, expected)) and max(map(len, found)) > 60
    assert max(len(boxes) for boxes in rpn(inputs, pyramid)[0]) <= 60


def test_labels_at_test_time(data: DataSet, detector: RCNN, source: RCNNSource) -> None:
    images, positions = batches(data, detector)
    found = [image for (image,) in source.inference_proposals(images, positions, "conv")]
    for image, record in zip(found, images.records, strict=True):
        truth = {instance["bbox_label"] for instance in record["instances"]}
        assert image.features.shape == (len(image.labels), detector.tap_dims["conv"])
        assert set(image.labels[image.labels < CLASSES].tolist()) <= truth
        assert not image.ground_truth.any()
    assert any((image.labels < CLASSES).any() for image in found)


def test_a_flipped_view(data: DataSet, detector: RCNN) -> None:
    ids = data.categories().ids
    (plain,), (flipped,) = (detector.images(data, ids, training=True, flip=flip).batches([[0]]) for flip in (0.0, 1.0))
    assert torch.equal(flipped.images[0].flip(-1), plain.images[0])
    assert torch.equal(125 - flipped.boxes[0][:, [2, 0]], plain.boxes[0][:, [0, 2]])


def test_what_cannot_be_hosted(tmp_path: Path, theirs: FasterRCNN) -> None:
    model = copy.deepcopy(theirs)
    model.roi_heads.box_predictor.bbox_pred = torch.nn.Linear(32, 4)
    with pytest.raises(InputError, match=r"little_torchvision:other': its bbox_pred has 4 rows, expected 4 of each"):
        RCNN.of("little_torchvision:other", model)
    model.roi_heads.box_predictor = torch.nn.Linear(32, 9)  # type: ignore[assignment]
    with pytest.raises(InputError, match="its box_predictor is Linear, expected one with the linear layers cls_score"):
        RCNN.of("little_torchvision:other", model)
    detector = RCNN.of("little_torchvision:faster", copy.deepcopy(theirs))
    state = theirs.state_dict()
    for change, message in (
        ({"roi_heads.box_predictor.cls_score.weight": torch.zeros(5, 32)}, r"has shape \(5, 32\), expected \(9, 32\)"),
        ({"roi_heads.box_predictor.cls_score.bias": torch.full((9,), torch.nan)}, "NaN or infinite"),
        (
            {"backbone.0.weight": torch.zeros(1)},
            "its tensors are not of the model little_torchvision:faster: .*backbone.0.weight",
        ),
    ):
        torch.save({**state, **change}, tmp_path / "bad.pth")
        with pytest.raises(InputError, match=message):
            detector.adopt(tmp_path / "bad.pth")
    torch.save({"a": torch.zeros(1)}, tmp_path / "bad.pth")
    with pytest.raises(InputError, match=r"has no .roi_heads\.box_predictor\.cls_score\.weight"):
        detector.check_weights(tmp_path / "bad.pth")


def test_models_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for source, message in (
        ("fasterrcnn_resnet50", "unknown model of torchvision .*did you mean 'fasterrcnn_resnet50_fpn'"),
        ("no_such_module_here:f", "failed \\(ModuleNotFoundError"),
        ("little_torchvision:nothing", "failed \\(AttributeError"),
        ("little_torchvision:CLASSES", "failed \\(TypeError"),
        ("builtins:dict", "returned dict, expected a model"),
        ("little_torchvision:a-b", "expected the name of a model, or module:function"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            models.build(source, 9)
        assert "\n" not in str(caught.value)
    (tmp_path / "of_the_user.py").write_text("from little_torchvision import faster as mine\n")
    monkeypatch.chdir(tmp_path)
    assert isinstance(models.build("of_the_user:mine", 0), FasterRCNN)
    built = models.build("fasterrcnn_mobilenet_v3_large_320_fpn", 4)
    assert RCNN.of("fasterrcnn_mobilenet_v3_large_320_fpn", built).num_classes == 3  # type: ignore[arg-type]


def test_identity_changes_with_the_settings(theirs: FasterRCNN) -> None:
    first, changed, thresholds, coder = (copy.deepcopy(theirs) for _ in range(4))
    changed.transform.max_size = 129
    thresholds.roi_heads.nms_thresh = 0.6
    coder.roi_heads.box_coder.weights = (1.0, 1.0, 1.0, 1.0)
    found = {models.identity(model) for model in (theirs, first, changed, thresholds, coder)}
    assert len(found) == 4


def test_which_classifiers_are_hosted(detector: RCNN, source: RCNNSource) -> None:
    state, after = source.state_dict(), Postprocess()
    for classifier in (
        GroupSoftmaxClassifier(CLASSES, 32, [1, 1, 2, 2, 3, 3, 4, 4]), SigmoidClassifier(CLASSES, 32),
        SoftmaxClassifier(CLASSES, 32),
    ):  # fmt: skip
        hosted = detector.host([classifier], state)
        (own,) = hosted.classifiers
        assert type(own) is type(classifier) and after.max_per_image == 300
        assert all(torch.equal(a, b) for a, b in zip(own.parameters(), classifier.parameters(), strict=True))
        with torch.no_grad():
            (found,) = hosted.model([torch.rand(3, 60, 80)])
        assert set(found["labels"].tolist()) <= set(range(1, CLASSES + 1))
