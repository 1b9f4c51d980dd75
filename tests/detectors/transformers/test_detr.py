"""DETRs of transformers: cached queries give the model's own detections, labels are its own matcher's."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

hf = pytest.importorskip("transformers")

from little_transformers import CHOOSING, CLASSES, KINDS, QUERIES, make, save  # noqa: E402
from PIL import Image  # noqa: E402

from imbalance_bench.classifiers import (  # noqa: E402
    GroupSoftmaxClassifier,
    GumbelClassifier,
    SigmoidClassifier,
    SoftmaxClassifier,
)
from imbalance_bench.datasets.generated import generate  # noqa: E402
from imbalance_bench.datasets.registry import DataSet  # noqa: E402
from imbalance_bench.detectors.port import CHOSEN  # noqa: E402
from imbalance_bench.detectors.transformers.detector import Detr, open_folder  # noqa: E402
from imbalance_bench.detectors.transformers.source import QuerySource  # noqa: E402
from imbalance_bench.experiments.benchmark import Benchmark  # noqa: E402
from imbalance_bench.experiments.proposal_cache import ProposalCache  # noqa: E402
from imbalance_bench.experiments.run_folder import RunFolder  # noqa: E402
from imbalance_bench.experiments.setup import Setup  # noqa: E402
from imbalance_bench.proposals.proposal_set import ImageProposals  # noqa: E402

IMAGES = 2


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return generate(tmp_path_factory.mktemp("data"), CLASSES, 4, IMAGES, (90, 125))


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def weights(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(make(kind), tmp_path_factory.mktemp(kind), kind)


@pytest.fixture(scope="module")
def theirs(weights: Path) -> Any:
    return hf.AutoModelForObjectDetection.from_pretrained(weights.parent).eval()


@pytest.fixture(scope="module")
def detector(weights: Path) -> Detr:
    return open_folder(str(weights.parent), weights)


@pytest.fixture(scope="module")
def source(detector: Detr, weights: Path) -> QuerySource:
    return detector.adopt(weights)


def opened(data: DataSet) -> list[Image.Image]:
    listed = json.loads(data.val_annotations.read_text())["images"]
    return [Image.open(data.val_images / image["file_name"]).convert("RGB") for image in listed]


def predicted(model: Any, folder: Path, image: Image.Image, **settings: Any) -> Any:
    processor = hf.AutoImageProcessor.from_pretrained(folder)
    with torch.no_grad():
        outputs = model(**processor(images=image, return_tensors="pt"))
    found = processor.post_process_object_detection(outputs, 0.0, [image.size[::-1]], **settings)
    return outputs, found[0]


def proposals(data: DataSet, detector: Detr, source: Any, tap: str = "fc", one: bool = False) -> list[ImageProposals]:
    images = detector.images(data, data.categories().ids, training=False)
    batches = [[number] for number in range(IMAGES)] if one or detector.images_at_once == 1 else [range(IMAGES)]
    return [image for (image,) in source.inference_proposals(images, batches, tap)]


def test_predictions_come_out_of_the_cache(
    data: DataSet, detector: Detr, weights: Path, theirs: Any, source: QuerySource, tmp_path: Path
) -> None:
    bench = Benchmark(
        Setup(data, detector), tmp_path, pretrained=weights, finished=detector.adopt, views=1, fixed=False
    )
    folder = RunFolder(tmp_path / "run")
    (classifier,) = bench.save(source, folder.checkpoint)
    (val,) = ProposalCache(bench.setup, folder.checkpoint, tmp_path / "proposals").features("val", [classifier])
    most = detector.family.top_k or QUERIES
    val = replace(val, postprocess=replace(detector.postprocess, max_per_image=most))
    with torch.no_grad():
        for position, image in enumerate(opened(data)):
            _, expected = predicted(theirs, weights.parent, image)
            features, *_ = val.image(position)
            boxes, scores, labels = val.detect(position, classifier.scores(classifier(features)))
            order = expected["scores"].argsort(descending=True, stable=True)
            assert len(scores) == len(order) == min(most, len(expected["scores"])) > 10
            torch.testing.assert_close(scores, expected["scores"][order], atol=1e-5, rtol=0)
            near = (boxes[:, None] - expected["boxes"][order][None]).abs().amax(dim=2) < 1e-2
            assert (near & (labels[:, None] == expected["labels"][order][None])).any(dim=1).float().mean() > 0.95


def test_labels_are_those_of_the_models_own_loss(
    data: DataSet, detector: Detr, theirs: Any, source: QuerySource, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first matching that the loss computes is that of the last layer."""
    from transformers.loss import loss_deformable_detr, loss_for_object_detection, loss_lw_detr, loss_rt_detr

    seen: list[Any] = []
    for module in (loss_for_object_detection, loss_deformable_detr, loss_rt_detr, loss_lw_detr):
        own = module.linear_sum_assignment
        monkeypatch.setattr(module, "linear_sum_assignment", lambda cost, own=own: seen.append(own(cost)) or seen[-1])
    ours = proposals(data, detector, source, one=True)
    seen.clear()
    model = copy.deepcopy(theirs)
    model.config.group_detr = 1  # in evaluation there is one group of queries
    processor = hf.AutoImageProcessor.from_pretrained(weights.parent)
    images = detector.images(data, data.categories().ids, training=False)
    for number, image in enumerate(opened(data)):
        (batch,) = images.batches([[number]])
        corners, scale = batch.boxes[0], torch.tensor(image.size * 2)
        centres = torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], dim=1)
        target = {"class_labels": batch.labels[0], "boxes": centres / scale}
        seen.clear()
        with torch.no_grad():
            model(**processor(images=image, return_tensors="pt"), labels=[target])
        query, box = (torch.as_tensor(part) for part in seen[0])
        expected = torch.full((QUERIES,), CLASSES)
        expected[query] = batch.labels[0][box]
        assert torch.equal(ours[number].labels, expected) and len(query) == len(batch.labels[0])


def test_a_hosted_model_predicts_as_before(
    data: DataSet, detector: Detr, theirs: Any, source: QuerySource, weights: Path
) -> None:
    hosted = detector.host(source.classifiers, source.state_dict())
    for model in (source.model, hosted.model):
        for image in opened(data):
            outputs, found = predicted(model, weights.parent, image)
            before, expected = predicted(theirs, weights.parent, image)
            for name in ("logits", "pred_boxes"):
                torch.testing.assert_close(outputs[name], before[name], atol=1e-4, rtol=1e-4)
            assert found.keys() == expected.keys()


def test_images_are_prepared_as_their_processor_does(data: DataSet, detector: Detr, source: QuerySource) -> None:
    images = detector.images(data, data.categories().ids, training=False)
    processor = hf.AutoImageProcessor.from_pretrained(detector.source)
    for number, (image, (done,)) in enumerate(
        zip(opened(data), ([*source._passes(images, [[number]])] for number in range(IMAGES)), strict=True)
    ):
        expected = processor(images=image, return_tensors="pt")["pixel_values"]
        assert torch.equal(done.pixels, expected) and done.batch.ids == [images.records[number]["img_id"]]


def test_the_boxes_that_the_encoder_chose(
    kind: str, data: DataSet, detector: Detr, source: QuerySource, weights: Path, theirs: Any
) -> None:
    assert (CHOSEN in detector.tap_dims) == (kind in CHOOSING)
    if kind not in CHOOSING:
        return
    found = proposals(data, detector, source, CHOSEN, one=True)
    for image, own in zip(opened(data), found, strict=True):
        outputs, _ = predicted(theirs, weights.parent, image)
        # They are where the decoder starts from.
        start = outputs.init_reference_points[0]
        start = start.sigmoid() if kind in ("rt", "rt_v2", "d_fine") else start
        if kind not in ("lw", "rf"):  # which move them by a learned offset first
            width, height = image.size
            centres = start * torch.tensor([width, height, width, height])
            sizes = own.boxes[:, 2:] - own.boxes[:, :2]
            torch.testing.assert_close(sizes, centres[:, 2:], atol=1e-3, rtol=1e-3)
        assert own.boxes.shape == (QUERIES, 4) and np.isfinite(own.boxes.numpy()).all()


def test_which_classifiers_are_hosted(kind: str, detector: Detr, source: QuerySource) -> None:
    width, state = detector.tap_dims["fc"], source.state_dict()
    hidden = torch.randn(2, 5, width)
    softmax = kind == "detr"
    bags = GroupSoftmaxClassifier(CLASSES, width, groups=[1 + label % 2 for label in range(CLASSES)])
    for classifier in (GumbelClassifier(CLASSES, width), SigmoidClassifier(CLASSES, width), bags):
        assert detector.refusal(classifier) is None
        if softmax:
            continue
        layer = detector.host([classifier], state)._layer
        with torch.no_grad():
            scores = classifier.scores(classifier(hidden.flatten(0, 1)))[:, :-1]
            torch.testing.assert_close(layer(hidden).sigmoid().flatten(0, 1), scores, atol=1e-5, rtol=1e-4)
    plain = SoftmaxClassifier(CLASSES, width)
    if softmax:
        assert detector.refusal(plain) is None and isinstance(source.classifiers[0], SoftmaxClassifier)
    else:
        assert "scores background by a row of its own" in str(detector.refusal(plain))
