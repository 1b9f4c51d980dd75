"""Every framework trains, caches, evaluates and hosts the methods: cascades, masks, stuff maps, boxes per class."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.hub import get_config
from PIL import Image

from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.classifiers import SoftmaxClassifier
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.detectors.mmdet import catalogue
from imbalance_bench.detectors.mmdet.building import build_detector, load_pretrained
from imbalance_bench.detectors.mmdet.hosting import heads, host, shipped
from imbalance_bench.detectors.mmdet.source import loader
from imbalance_bench.evaluation import per_category
from imbalance_bench.evaluation.average_precision import evaluate
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.experiments.benchmark import Benchmark
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.methods import METHODS, parse, start_of
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.schedule import Schedule

SHORT = Schedule(epochs=1, lr=0.01, batch_size=4, warmup_iterations=3)


@pytest.fixture(scope="module")
def with_stuff(few: DataSet, tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """The small set with a stuff map for each training image."""
    folder = tmp_path_factory.mktemp("stuff")
    rng = np.random.default_rng(0)
    for path in few.train_images.iterdir():
        with Image.open(path) as image:
            size = image.size
        Image.fromarray(rng.integers(0, 183, size[::-1], dtype=np.uint8)).save(folder / f"{path.stem}.png")
    return replace(few, stuff_maps=folder)


@pytest.fixture(
    scope="module",
    params=["tiny-cascade", "tiny-mask", "tiny-htc", "tiny-htc-dcn", "tiny-boxes=own", "tiny-boxes=shared"],
)
def bench(
    few: DataSet, with_stuff: DataSet, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Benchmark:
    record = catalogue.get(request.param)
    dataset = with_stuff if request.param == "tiny-htc" else few
    return Benchmark(Setup(dataset, record), tmp_path_factory.mktemp("work"), schedule=SHORT, views=1)


def test_a_framework_hosts_the_methods(bench: Benchmark) -> None:
    baseline = bench.run("baseline")
    assert bench.setup.has_stuff == (bench.setup.detector.name == "tiny-htc")
    # The classifier is the same object everywhere; masks, which take longest, are measured for one method.
    few = bench.setup.detector.has_masks or bench.setup.detector.name == "tiny-boxes=shared"
    for method in ["bags"] if few else one_of_each_kind(bench.setup):
        run = bench.run(method)
        content = checkpoints.load(run.checkpoint)
        classifiers = checkpoints.classifiers_of(content, run.checkpoint)
        assert len(classifiers) == bench.setup.detector.num_stages
        table, metrics = per_category.read(run.per_category), run.record()["metrics"]
        assert metrics["mAP"] == pytest.approx(table["ap"].iloc[:-1].mean())
        norms = torch.stack([c.class_weights().norm(dim=1) for c in classifiers.values()]).mean(dim=0).numpy()
        assert np.allclose(norms, table["weight_norm"], equal_nan=True, rtol=1e-5)
        assert ("mAP^m" in metrics) == bench.setup.detector.has_masks
        assert (Detections.load(run.detections).masks is not None) == bench.setup.detector.has_masks
        # All but the classifiers is the baseline's, to the last bit.
        before = checkpoints.load(baseline.checkpoint)["state_dict"]
        same = [name for name in before if ".fc_cls." not in name]
        assert len(same) > 100
        assert all(torch.equal(before[name], content["state_dict"][name]) for name in same)
    # Stages are trained each on its own proposals.
    if bench.setup.detector.num_stages > 1:
        first, *_, last = (c.state_dict()["weight"] for c in bags_of(bench).values())
        assert not torch.equal(first, last)


def one_of_each_kind(setup: Setup) -> list[str]:
    """Methods that differ in the classifier or in what is trained; a framework sees no more of a method."""
    kinds = dict[tuple[object, ...], str]()
    dims = setup.detector.tap_dims
    for method in METHODS.values():
        if method.trains in ("classifier", "nothing"):
            run, base = method.default, parse("baseline").build(setup.categories, dims, None)
            if (start := start_of(run)) is not None:
                base = start.build(setup.categories, dims, base)
            classifier = run.build(setup.categories, dims, base, setup.dataset.train_annotations)
            kinds.setdefault((type(classifier), classifier.taps, method.trains), method.name)
    assert "bags" in kinds.values()
    return list(kinds.values())


def bags_of(bench: Benchmark) -> dict[str, SoftmaxClassifier]:
    path = bench.run("bags").checkpoint
    return checkpoints.classifiers_of(checkpoints.load(path), path)  # type: ignore[return-value]


def test_evaluation_of_the_cache_is_mmdets_own(bench: Benchmark) -> None:
    run = bench.run("bags")
    model = bench.setup.load_detector(run.checkpoint).model  # type: ignore[attr-defined]
    image_ids, images = [], []
    with torch.no_grad():
        for batch in loader(bench.setup.detector, bench.setup.validation_set()):
            for sample in model.test_step(batch):
                found = sample.pred_instances
                image_ids.append(int(sample.img_id))
                images.append((found.bboxes, found.scores, found.labels))
    precision = evaluate(Detections.from_images(image_ids, images), bench.setup.ground_truth)
    ours = per_category.read(run.per_category)["ap"].iloc[:-1]
    assert np.allclose(precision["ap"], ours, atol=2e-3)
    assert precision["ap"].mean() == pytest.approx(ours.mean(), abs=2e-4)


def test_a_trained_detector_of_other_classes_is_the_start(bench: Benchmark, tmp_path: Path) -> None:
    run, stages = bench.run("baseline"), bench.setup.detector.num_stages
    others = [SoftmaxClassifier(5, 256) for _ in range(stages)]
    model = build_detector(bench.setup.detector, others, seed=3, stuff=bench.setup.has_stuff)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    said = load_pretrained(model, run.checkpoint)
    theirs = checkpoints.load(run.checkpoint)["state_dict"]
    new = [name for name in before if ".fc_cls." in name or ".fc_reg." in name or ".conv_logits." in name]
    assert f"{len(before) - len(new)} of {len(before) - len(new)} tensors loaded, {len(new)} new" in said
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name] if name in new else theirs[name])
    # What is missing or of another shape is listed.
    state = {name: value for name, value in theirs.items() if not name.startswith("rpn_head.rpn_cls")}
    state["neck.lateral_convs.0.conv.weight"] = torch.zeros(1)
    torch.save({"state_dict": state | {"extra.weight": torch.zeros(1)}}, tmp_path / "part.pth")
    said = load_pretrained(model, tmp_path / "part.pth")
    assert "not found or of another shape: neck.lateral_convs.0.conv.weight, rpn_head.rpn_cls.bias" in said
    assert "not used: extra.weight" in said
    torch.save({"state_dict": {"backbone.other": torch.zeros(1)}}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"other\.pth.*backbone"):
        load_pretrained(model, tmp_path / "other.pth")


def test_a_pretrained_detector_keeps_its_first_stages_frozen() -> None:
    record = catalogue.get("mask-rcnn-r50")
    shipped_as, thawed = (record.model(5, {"type": "SoftmaxClassifier"}, pretrained=p) for p in (True, False))
    assert (shipped_as.backbone.frozen_stages, shipped_as.backbone.norm_eval) == (1, True)
    assert (thawed.backbone.frozen_stages, thawed.backbone.norm_eval) == (-1, False)
    assert "init_cfg" not in shipped_as.backbone
    assert "init_cfg" not in thawed.backbone


def test_a_checkpoint_that_is_not_there(few: DataSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.pth: no such file"):
        Benchmark(Setup(few, catalogue.get("tiny")), tmp_path, pretrained=tmp_path / "absent.pth")


def test_what_cannot_host() -> None:
    model = shipped("faster_rcnn/faster-rcnn_r50_fpn_1x_coco")
    model.roi_head.bbox_head.type = "DoubleConvFCBBoxHead"
    with pytest.raises(ValueError, match="DoubleConvFCBBoxHead cannot host"):
        host(model, 5, {"type": "SoftmaxClassifier"})


@pytest.mark.parametrize("name", [d.name for d in catalogue.DETECTORS.values() if d.scale == "paper"])
def test_paper_scale_models_are_mmdets_but_for_the_head(name: str) -> None:
    record = catalogue.get(name)
    theirs = get_config(f"mmdet::{record.config}.py").model
    ours = record.model(1230, {"type": "SoftmaxClassifier"}, stuff=True, pretrained=True)
    assert {k: v for k, v in theirs.backbone.items() if k != "init_cfg"} == dict(ours.backbone)
    assert theirs.neck == ours.neck
    quick = {"loss_bbox": 0, "type": "AllImagesRPNHead"}
    assert {**theirs.rpn_head, **quick} == {**ours.rpn_head, "loss_bbox": 0}
    assert ours.test_cfg.rcnn.score_thr == 0
    assert ours.test_cfg.rcnn.max_per_img == 300
    for head in heads(ours.roi_head.bbox_head):
        assert (head.type, head.num_classes, head.num_shared_fcs) == ("ClassifierBBoxHead", 1230, 2)
    assert ours.train_cfg.rpn_proposal.max_per_img == 2000
    assert (
        len(heads(ours.roi_head.bbox_head))
        == record.num_stages
        == (3 if "Cascade" in record.framework or "HTC" in record.framework else 1)
    )
    assert record.has_class_boxes == (record.num_stages == 1)


@pytest.mark.parametrize("name", [d.name for d in catalogue.DETECTORS.values() if d.scale == "paper"])
def test_paper_scale_models_train_as_the_study_did(name: str) -> None:
    """As configured for mmdet 1.0rc0: smooth L1, anchors inside the image, each box's best proposal taken for it."""
    model = catalogue.get(name).model(5, {"type": "SoftmaxClassifier"}, stuff=True)
    assert MODELS.build(model.rpn_head.loss_bbox).beta == pytest.approx(1 / 9)
    losses = [model.rpn_head.loss_bbox, *(head.loss_bbox for head in heads(model.roi_head.bbox_head))]
    assert [loss.type for loss in losses] == ["SmoothL1Loss"] * len(losses)
    assert [loss.beta for loss in losses[1:]] == [1.0] * catalogue.get(name).num_stages
    # Half a unit off costs .5 * .5 ** 2 / beta in the quadratic part.
    off = MODELS.build(losses[1])(torch.full((1, 4), 0.5), torch.zeros(1, 4))
    assert off.item() == pytest.approx(0.125)
    assert model.train_cfg.rpn.allowed_border == 0
    stages = [TASK_UTILS.build(stage.assigner) for stage in heads(model.train_cfg.rcnn)]
    assert [stage.pos_iou_thr for stage in stages] == [0.5, 0.6, 0.7][: len(stages)]
    assert all(stage.match_low_quality and stage.min_pos_iou == stage.pos_iou_thr for stage in stages)


def test_heads_of_a_cascade(bench: Benchmark) -> None:
    source = bench.setup.load_detector(bench.run("baseline").checkpoint)
    assert len(source.classifiers) == bench.setup.detector.num_stages
