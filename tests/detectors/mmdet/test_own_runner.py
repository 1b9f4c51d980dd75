"""A plain configuration of mmdet, trained by mmdet's own Runner: the losses are those of our own training."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from imbalance_bench.classifiers import Classifier, SoftmaxClassifier, build
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.datasets.sampling import class_balanced_factors, repeat_factors
from imbalance_bench.detectors.mmdet import catalogue, hosting, pipelines, tiny
from imbalance_bench.detectors.mmdet.annotation_dataset import AnnotationDataset, build_dataset, image_labels
from imbalance_bench.detectors.mmdet.building import build_detector
from imbalance_bench.detectors.mmdet.passes import box_heads
from imbalance_bench.runtime.progress import logged_to
from imbalance_bench.schedule import Schedule
from imbalance_bench.training import end_to_end
from imbalance_bench.training.end_to_end import EpochSeedHook, train_detector

EXAMPLE = Path(__file__).parents[3] / "docs" / "bags_in_mmdet.py"
SCHEDULE = Schedule(epochs=3, lr=0.02, batch_size=4, warmup_iterations=2)
IMAGES, SEED = 8, 3
CLASSIFIERS: dict[str, dict[str, Any]] = {
    "bags": {"type": "GroupSoftmaxClassifier"},
    "seesaw": {"type": "SeesawClassifier"},
    "eqlv2": {"type": "EQLv2Classifier"},
    "ldam-drw": {"type": "ShiftedSoftmaxClassifier", "margin": True, "cosine": 30.0, "deferred_weights": "counts"},
}
DETECTOR = replace(catalogue.get("tiny"), change=tiny.shrink(width=8))


class Losses(Hook):
    """Keeps the loss of every iteration."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.values.append(float(outputs["loss"]))


def their_config(data: DataSet, folder: Path, classifier: dict[str, Any]) -> Config:
    """The example on the mini set, with a smaller model, fewer images and our schedule."""
    text = EXAMPLE.read_text().replace("data/emoji-lt-mini/", f"{data.train_annotations.parents[1]}/")
    path = folder / "config.py"
    path.write_text(text)
    config = Config.fromfile(path)
    config.model.backbone.pop("init_cfg", None)
    tiny.shrink(width=8)(config.model)
    hosting.thaw(config.model)  # as ours from random weights
    hosting.quicken(config.model)  # rounded as ours is: a difference in the last bit grows with every iteration
    head = config.model.roi_head.bbox_head
    head.classifier = classifier | {"categories": head.classifier.categories}
    loader = config.train_dataloader
    loader.update(batch_size=SCHEDULE.batch_size, num_workers=0, persistent_workers=False)
    loader.dataset.update(indices=IMAGES, pipeline=pipelines.train_pipeline(pipelines.OWN_SIZE, 0.5, False, False))
    config.update(
        val_dataloader=None,
        val_cfg=None,
        val_evaluator=None,
        test_dataloader=None,
        test_cfg=None,
        test_evaluator=None,
        work_dir=str(folder / "theirs"),
        optim_wrapper=SCHEDULE.optim_wrapper(),
        param_scheduler=SCHEDULE.param_scheduler(IMAGES // SCHEDULE.batch_size),
        randomness={"seed": SEED},
    )
    config.train_cfg.max_epochs = SCHEDULE.epochs
    return config


def trained(config: Config, *hooks: Hook) -> Runner:
    """What mmdet's Runner makes of a configuration."""
    with logged_to(None):
        runner = Runner.from_cfg(config)
        runner.model.to(memory_format=torch.channels_last)
        for hook in hooks:
            runner.register_hook(hook)
        runner.train()
    return runner


def our_images(data: DataSet) -> AnnotationDataset:
    """The training images as our own training reads them."""
    ids, pipeline = data.categories().ids, DETECTOR.train_pipeline(0.5)
    return build_dataset(data.train_annotations, data.train_images, ids, pipeline, training=True)


def our_losses(data: DataSet, folder: Path, classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Of our own training on the same images."""
    losses, dataset = Losses(), our_images(data)
    dataset.get_subset_(IMAGES)
    model = build_detector(DETECTOR, [classifier], SEED)
    torch.save({"state_dict": model.state_dict()}, folder / "start.pth")
    monkeypatch.setattr(end_to_end, "MeanLossHook", lambda: losses)
    train_detector(DETECTOR, model, dataset, SCHEDULE, folder / "ours", SEED, precision="fp32")
    return losses.values


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_losses_are_those_of_our_own_training(
    name: str, mini: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = their_config(mini, tmp_path, CLASSIFIERS[name])
    given = CLASSIFIERS[name] | {"feature_dim": DETECTOR.tap_dims["fc"], "categories": mini.categories()}
    expected = our_losses(mini, tmp_path, build({"num_classes": 12} | given), monkeypatch)
    config.load_from = str(tmp_path / "start.pth")
    losses = Losses()
    runner = trained(config, EpochSeedHook(SEED), losses)
    assert losses.values == pytest.approx(expected, rel=1e-5)
    assert len(losses.values) == SCHEDULE.epochs * IMAGES // SCHEDULE.batch_size
    if name == "ldam-drw":
        (head,) = box_heads(runner.model)
        assert head.fc_cls._weighted, "the weights of the last third"


@pytest.mark.parametrize("kind", ["LogNClassifier", "NCMClassifier"])
def test_what_must_be_fitted_is_fitted_at_the_end(kind: str, mini: DataSet, tmp_path: Path) -> None:
    config = their_config(mini, tmp_path, {"type": kind} | ({"base_dim": 256} if kind == "NCMClassifier" else {}))
    stock = build_detector(DETECTOR, [SoftmaxClassifier(12, 256)], SEED)
    torch.save({"state_dict": stock.state_dict()}, tmp_path / "start.pth")
    config.update(load_from=str(tmp_path / "start.pth"), train_cfg={"max_epochs": 1})
    runner = trained(config)
    (head,) = box_heads(runner.model)
    saved = torch.load(tmp_path / "theirs" / "epoch_1.pth", weights_only=False)["state_dict"]
    if kind == "NCMClassifier":
        assert torch.equal(head.fc_cls.base_weight, stock.state_dict()["roi_head.bbox_head.fc_cls.weight"])
        fitted = head.fc_cls.centres.any(dim=1).sum()
        assert 2 <= fitted <= 12
    else:
        assert head.fc_cls.logit_mean.any()
        assert not torch.equal(head.fc_cls.logit_variance, torch.ones(12))
    name = "centres" if kind == "NCMClassifier" else "logit_mean"
    assert torch.equal(saved[f"roi_head.bbox_head.fc_cls.{name}"], getattr(head.fc_cls, name))
    assert runner.model.training


def test_a_classifier_without_what_it_stands_on(mini: DataSet, tmp_path: Path) -> None:
    config = their_config(mini, tmp_path, {"type": "NCMClassifier", "base_dim": 256})
    with pytest.raises(ValueError, match="load_from: NCMClassifier stands on a trained softmax classifier"):
        trained(config)


def test_without_the_hook_it_is_said_once(mini: DataSet, tmp_path: Path) -> None:
    config = their_config(mini, tmp_path, CLASSIFIERS["ldam-drw"])
    config.custom_hooks = []
    config.train_cfg.max_epochs = 1
    trained(config)
    (log,) = (tmp_path / "theirs").glob("*/*.log")
    said = log.read_text().count("ShiftedSoftmaxClassifier: its loss changes over the epochs, which nothing here does")
    assert said == 1


@pytest.mark.parametrize(
    "sampler", [{"type": "RepeatFactorSampler", "threshold": 0.3}, {"type": "ClassBalancedSampler"}]
)
def test_samplers(sampler: dict[str, Any], mini: DataSet, tmp_path: Path) -> None:
    config = their_config(mini, tmp_path, CLASSIFIERS["bags"])
    config.train_dataloader.sampler = sampler
    config.train_dataloader.dataset.indices = None
    init_default_scope("mmdet")
    with logged_to(None):
        loader = Runner.build_dataloader(config.train_dataloader, seed=0)
    labels = image_labels(our_images(mini))
    expected = repeat_factors(labels, 12, 0.3) if "threshold" in sampler else class_balanced_factors(labels, 12)
    np.testing.assert_allclose(loader.batch_sampler.sampler.factors, expected)
    assert expected.max() > 1 and len(list(loader.batch_sampler.sampler)) == round(expected.sum())
