"""Dense and query detectors of mmdet: cached proposals give mmdet's own detections, labels are its own assigner's."""

import copy
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from little_mmdet import CLASSES, DENSE, KINDS, NAMES, OF_QUERIES, QUERIES, config, make, save
from mmdet.apis import inference_detector, init_detector
from mmdet.models.dense_heads import DeformableDETRHead
from mmdet.structures import DetDataSample
from mmengine.dataset import pseudo_collate
from mmengine.structures import InstanceData
from torch import nn

from imbalance_bench.classifiers import (
    Classifier,
    EQLv2Classifier,
    GroupSoftmaxClassifier,
    GumbelClassifier,
    NCMClassifier,
    SigmoidClassifier,
    SoftmaxClassifier,
)
from imbalance_bench.datasets.generated import generate
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.detectors.mmdet.families import FAMILIES, matched
from imbalance_bench.detectors.mmdet.opening import open_config
from imbalance_bench.detectors.mmdet.single_head import SingleHead
from imbalance_bench.detectors.port import CHOSEN
from imbalance_bench.experiments.benchmark import Benchmark
from imbalance_bench.experiments.proposal_cache import ProposalCache
from imbalance_bench.experiments.run_folder import RunFolder
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.runtime.errors import InputError

IMAGES = 2


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return generate(tmp_path_factory.mktemp("data"), CLASSES, 2, IMAGES, (90, 125))


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def theirs(kind: str) -> Any:
    return make(kind)


@pytest.fixture(scope="module")
def files(kind: str, theirs: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return save(theirs, config(kind), tmp_path_factory.mktemp(kind))


@pytest.fixture(scope="module")
def detector(files: tuple[Path, Path]) -> SingleHead:
    found = open_config(files[0])
    assert isinstance(found, SingleHead)
    return found


@pytest.fixture(scope="module")
def source(detector: SingleHead, files: tuple[Path, Path]) -> Any:
    return detector.adopt(files[1])


def opened(data: DataSet, detector: SingleHead, training: bool = False) -> Any:
    return detector.images(data, data.categories().ids, training=training)


def prepared(model: Any, images: Any) -> tuple[torch.Tensor, list[DetDataSample]]:
    batch = model.data_preprocessor(pseudo_collate(list(images)), training=False)
    return batch["inputs"], batch["data_samples"]


@torch.no_grad()
def predicted(model: Any, images: Any) -> list[InstanceData]:
    return [sample.pred_instances for sample in model.predict(*prepared(model, images))]


def assert_same(found: InstanceData, expected: InstanceData) -> None:
    """The same detections; those of nearly equal scores may be in another order."""
    assert len(found) == len(expected) > 20
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-5, rtol=0)
    near = (found.bboxes[:, None] - expected.bboxes[None]).abs().amax(dim=2) < 1e-2
    assert (near & (found.labels[:, None] == expected.labels[None])).any(dim=1).all()


def run_of(
    data: DataSet, detector: SingleHead, weights: Path, source: Any, folder: Path
) -> tuple[Benchmark, Classifier, Path]:
    """Save a hosted detector as a run; return the benchmark, the classifier and the checkpoint."""
    bench = Benchmark(Setup(data, detector), folder, pretrained=weights, finished=detector.adopt, views=1, fixed=False)
    checkpoint = RunFolder(folder / "run").checkpoint
    (classifier,) = bench.save(source, checkpoint)
    return bench, classifier, checkpoint


def test_predictions_come_out_of_the_cache(
    kind: str, data: DataSet, detector: SingleHead, files: tuple[Path, Path], theirs: Any, source: Any, tmp_path: Path
) -> None:
    bench, classifier, checkpoint = run_of(data, detector, files[1], source, tmp_path)
    (val,) = ProposalCache(bench.setup, checkpoint, tmp_path / "proposals").features("val", [classifier])
    assert val.width == detector.tap_dims["fc"] and val.num_blocks == {"retinanet": 9, "rtmdet": 2}.get(kind, 1)
    assert (val.quality is not None) == (kind in ("atss", "fcos"))
    settings = theirs.bbox_head.test_cfg
    val = replace(val, postprocess=replace(detector.postprocess, max_per_image=settings["max_per_img"]))
    for position, expected in enumerate(predicted(theirs, opened(data, detector))):
        with torch.no_grad():
            features, *_ = val.image(position)
            scores = classifier.scores(classifier(features))
        # mmdet compares with its threshold before it looks at the centerness.
        scores[scores <= settings.get("score_thr", 0)] = 0
        boxes, values, labels = val.detect(position, scores)
        assert_same(InstanceData(bboxes=boxes, scores=values, labels=labels), expected)


def test_labels_of_dense_heads_are_those_of_their_own_loss(
    kind: str, data: DataSet, detector: SingleHead, source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind not in DENSE:
        return
    images = opened(data, detector, training=True)
    head = source._head
    seen: list[tuple[Any, Any]] = []
    monkeypatch.setattr(head.loss_cls, "forward", lambda scores, targets, weight=None, **_: (
        seen.append((targets[0] if isinstance(targets, tuple) else targets, weight)), scores.sum())[1])  # fmt: skip
    with torch.no_grad():
        (done,) = source._passes(images, [[1]])
        head.loss(source.model.extract_feat(prepared(source.model, [images[1]])[0]), done.samples)
        found = matched(FAMILIES[type(head)], head, done.outputs, done.samples)[0]
    labels = torch.cat([label for label, _ in seen])
    trained = torch.cat([torch.ones(len(label)) if weight is None else weight for label, weight in seen]) > 0
    assert torch.equal(torch.where(found < 0, CLASSES, found), labels)
    assert torch.equal(found > -2, trained | (labels < CLASSES))
    assert 0 < int((found >= 0).sum()) <= 256
    own = [image for (image,) in source.training_proposals(images, [[0], [1]], "fc", seed=0)]
    counts = torch.bincount(labels, minlength=CLASSES + 1)[:CLASSES]
    assert torch.equal(torch.bincount(own[1].labels, minlength=CLASSES + 1)[:CLASSES], counts)
    again, other = (
        [image.boxes for (image,) in source.training_proposals(images, [[0], [1]], "fc", seed=seed)] for seed in (0, 1)
    )
    same = [all(torch.equal(a.boxes, b) for a, b in zip(own, boxes, strict=True)) for boxes in (again, other)]
    assert same == [True, kind != "retinanet"], "of few anchors all are kept, whatever the seed"


def test_labels_of_queries_are_those_of_their_own_loss(
    kind: str, data: DataSet, detector: SingleHead, source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind not in OF_QUERIES:
        return
    images = opened(data, detector, training=True)
    model = source.model
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(
        model.bbox_head.loss_cls, "forward", lambda scores, labels, *_, **__: (seen.append(labels), scores.sum())[1]
    )
    with torch.no_grad():
        inputs, (sample,) = prepared(model, [images[1]])
        outputs = model.bbox_head(**model.forward_transformer(model.extract_feat(inputs), [sample]))
        # DINO's own splits off the queries of denoising first, which are of training alone.
        given = [sample.gt_instances], [sample.metainfo]
        DeformableDETRHead.loss_by_feat(model.bbox_head, *outputs, None, None, *given)
    (own,) = next(iter(source.training_proposals(images, [[1]], "fc", seed=0)))
    # The loss goes through the decoder layers, the last one at the end.
    assert torch.equal(own.labels, seen[-1]) and (own.labels < CLASSES).sum() == len(sample.gt_instances)
    assert source.training_rows == len(own.labels) == QUERIES
    # At test time boxes are in the original image, and labels come out alike.
    val = opened(data, detector)
    (measured,) = next(iter(source.inference_proposals(val, [[0]], "fc")))
    assert (measured.labels < CLASSES).sum() == len(val[0]["data_samples"].gt_instances)


def test_the_boxes_that_the_encoder_chose(
    kind: str, data: DataSet, detector: SingleHead, theirs: Any, source: Any
) -> None:
    assert (CHOSEN in detector.tap_dims) == (kind in ("two_stage", "dino"))
    if CHOSEN not in detector.tap_dims:
        return
    images = opened(data, detector)
    (chosen,) = next(iter(source.inference_proposals(images, [[0]], CHOSEN)))
    with torch.no_grad():
        inputs, samples = prepared(theirs, [images[0]])
        start = theirs.forward_transformer(theirs.extract_feat(inputs), samples)["references"][0][0]
    centres, sides = start[:, :2], start[:, 2:]
    corners = torch.cat([centres - sides / 2, centres + sides / 2], dim=1).clamp(0, 1)
    size = torch.tensor([125, 90, 125, 90])
    torch.testing.assert_close(chosen.boxes, corners * size, atol=1e-3, rtol=1e-4)
    assert chosen.features.shape == (QUERIES, 1)


CHANGED: dict[str, Callable[[int], Any]] = {
    "linear": lambda width: SigmoidClassifier(CLASSES, width),
    "gumbel": lambda width: GumbelClassifier(CLASSES, width),
    "bags": lambda width: GroupSoftmaxClassifier(CLASSES, width, [1 + label % 2 for label in range(CLASSES)]),
}


@pytest.mark.parametrize("change", CHANGED)
def test_an_export_predicts_as_the_hosted_detector(
    change: str, kind: str, data: DataSet, detector: SingleHead, files: tuple[Path, Path], source: Any, tmp_path: Path
) -> None:
    if change != "linear" and kind not in ("retinanet", "rtmdet", "dino"):
        return
    torch.manual_seed(1)
    classifier = CHANGED[change](detector.tap_dims["fc"])
    torch.nn.init.normal_(classifier.weight, std=0.2)
    run = detector.host([classifier], source.state_dict())
    _, _, checkpoint = run_of(data, detector, files[1], run, tmp_path)
    done = detector.export(checkpoint, NAMES, tmp_path / "out")
    assert done.files == ("config.py", "checkpoint.pth")
    # By the layer that the decoder shares with the encoder, another one would choose the queries.
    assert done.plain == (change == "linear" and kind != "two_stage")
    assert ("imbalance_bench" not in (tmp_path / "out" / "config.py").read_text()) == done.plain
    model = init_detector(tmp_path / "out" / "config.py", str(tmp_path / "out" / "checkpoint.pth"), device="cpu")
    assert tuple(model.dataset_meta["classes"]) == NAMES
    images = opened(data, detector)
    hosted = copy.deepcopy(run.model)
    hosted.bbox_head.test_cfg = model.bbox_head.test_cfg
    (expected,) = predicted(hosted, [images[0]])
    found = inference_detector(model, images.get_data_info(0)["img_path"]).pred_instances
    assert len(found) > 100
    assert_same(found, expected)
    if done.plain:
        before, after = source.model.state_dict(), model.state_dict()
        changed = {name for name in after if name in before and not torch.equal(before[name], after[name])}
        assert changed <= {
            f"bbox_head.cls_branches.{number}.{part}" for number in (0, 1) for part in ("weight", "bias")
        }
        assert bool(changed) == (kind == "deformable")


def test_which_classifiers_are_hosted(kind: str, detector: SingleHead, source: Any) -> None:
    width, state = detector.tap_dims["fc"], source.state_dict()
    assert all(detector.refusal(make(width)) is None for make in CHANGED.values())
    refused = {
        "scores background by a row of its own": SoftmaxClassifier(CLASSES, width),
        "scores background by a row": EQLv2Classifier(CLASSES, width),
        "it is no linear layer": NCMClassifier.from_base(SoftmaxClassifier(CLASSES, width), width, 1.0, ("fc",)),
        "its cosine divides": SigmoidClassifier(CLASSES, width, cosine=20.0),
    }
    for message, classifier in refused.items():
        if message == "its cosine divides" and kind in OF_QUERIES:
            assert detector.refusal(classifier) is None
            continue
        assert message in str(detector.refusal(classifier))
        with pytest.raises(InputError, match=message):
            detector.host([classifier], state)


class Hostile:
    """What a pickle may call."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_checkpoints_that_do_not_fit(kind: str, detector: SingleHead, theirs: Any, tmp_path: Path) -> None:
    state, bad = theirs.state_dict(), tmp_path / "bad.pth"
    name = next(iter(detector.layers)) + ".weight"
    for content, message in (
        ({"state_dict": {**state, name: state[name][:5]}}, r"has shape \(5, .*field 'num_classes' of"),
        ({"state_dict": {**state, name: torch.full_like(state[name], torch.nan)}}, "NaN or infinite"),
        ({"state_dict": {**state, "backbone.conv1.weight": torch.zeros(1)}}, "is not of the model of .*conv1.weight"),
        ({"state_dict": {"a": torch.zeros(1)}}, f"has no '{name}'"),
        ({"state_dict": state, "more": Hostile(tmp_path / "executed")}, "mkdir"),
    ):
        torch.save(content, bad)
        with pytest.raises(InputError, match=message):
            detector.adopt(bad)
    assert not (tmp_path / "executed").exists()


def test_configurations_that_are_not_served(tmp_path: Path) -> None:
    def changed(name: str, **fields: Any) -> Callable[[Any], None]:
        def change(model: Any) -> None:
            part = model.get(name) if name else model
            for field, value in fields.items():
                part[field] = value

        return change

    cases = {
        "field 'model.bbox_head.loss_cls' is CrossEntropyLoss, expected a sigmoid": (
            "retinanet", changed("bbox_head", loss_cls={"type": "CrossEntropyLoss"})),
        "field 'model.bbox_head.with_objectness' is True": ("rtmdet", changed("bbox_head", with_objectness=True)),
        "field 'model.bbox_head.conv_cls' is NormedConv2d": (
            "fcos", changed("bbox_head", cls_predictor_cfg={"type": "NormedConv2d"})),
        "field 'model.train_cfg' is missing, expected the settings of the assigner": (
            "atss", changed("", train_cfg=None)),
        "field 'model.train_cfg.sampler' is RandomSampler": ("retinanet", changed("train_cfg", sampler={
            "type": "RandomSampler", "num": 9, "pos_fraction": 0.5})),
        "field 'model.test_cfg.nms' is {'type': 'soft_nms'": ("atss", changed("test_cfg", nms={"type": "soft_nms"})),
        "field 'model.bbox_head' is FSAFHead in FSAF, expected a two-stage detector": (
            "retinanet", lambda model: (model.update(type="FSAF"), model.bbox_head.update(type="FSAFHead"))),
        "field 'model' cannot be built": ("atss", changed("bbox_head", nothing=1)),
        "field 'model.bbox_head.loss_cls' is CrossEntropyLoss with a softmax": (
            "deformable", changed("bbox_head", loss_cls={"type": "CrossEntropyLoss"})),
    }  # fmt: skip
    for message, (kind, change) in cases.items():
        path = tmp_path / "config.py"
        path.write_text(config(kind, change).pretty_text)
        with pytest.raises(InputError) as error:
            open_config(path)
        assert message in str(error.value)
