"""Every loss trains a detector end to end in mmdet too, from the baseline."""

import logging
from pathlib import Path

import pytest
import torch
import torchvision
from mmengine.logging import MMLogger
from torch import nn

from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.datasets.generated import generate
from imbalance_bench.detectors.mmdet import catalogue
from imbalance_bench.experiments.benchmark import Benchmark
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.methods import METHODS, needs, parse
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.schedule import Schedule
from imbalance_bench.training import end_to_end

SHORT = Schedule(epochs=1, lr=0.02, batch_size=4, warmup_iterations=2)
TRAINED = [method.name for method in METHODS.values() if "trains" in method.training_options]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    folder = tmp_path_factory.mktemp("end-to-end")
    data = generate(folder / "data", classes=6, train_images=12, val_images=3, size=(96, 128))
    return Benchmark(Setup(data, catalogue.get("tiny")), folder / "work_dirs", schedule=SHORT, views=1)


@pytest.mark.parametrize("name", TRAINED)
def test_a_loss_trains_the_detector(bench: Benchmark, name: str) -> None:
    start = checkpoints.load(bench.run("baseline").checkpoint)["state_dict"]
    run = bench.run(f"{name}:trains=all")
    assert run.path.name == f"{name}-trains=all"
    record = run.record()
    assert record["settings"]["options"]["trains"] == "all"
    assert record["settings"]["schedule"]["policy"] == SHORT.policy, "the detector's schedule, not the classifier's"
    assert 0 <= record["metrics"]["mAP"] <= 1
    content = checkpoints.load(run.checkpoint)
    for part in ("backbone.layer3.0.conv1.weight", "roi_head.bbox_head.shared_fcs.0.weight"):
        weights = content["state_dict"][part]
        assert weights.isfinite().all()
        assert not torch.equal(weights, start[part])
    (classifier,) = checkpoints.classifiers_of(content, run.checkpoint).values()
    assert all(value.isfinite().all() for value in classifier.state_dict().values())


def test_the_head_alone(bench: Benchmark) -> None:
    start = checkpoints.load(bench.run("baseline").checkpoint)["state_dict"]
    weights = checkpoints.load(bench.run("seesaw:trains=head").checkpoint)["state_dict"]
    assert torch.equal(weights["backbone.layer3.0.conv1.weight"], start["backbone.layer3.0.conv1.weight"])
    head = "roi_head.bbox_head.shared_fcs.0.weight"
    assert not torch.equal(weights[head], start[head])


def test_scopes() -> None:
    seesaw = METHODS["seesaw"]
    assert seesaw.default.keeps_detector
    assert seesaw.run("p=0.4,trains=all").options["p"] == 0.4
    run = parse("seesaw:trains=all")
    assert (run.trains, run.keeps_detector, run.variant) == ("all", False, "trains=all")
    assert needs(run) == (parse("baseline"),)
    with pytest.raises(InputError, match="option 'trains' of 'seesaw': 'nothing', expected one of all, all but stem"):
        seesaw.run("trains=nothing")
    with pytest.raises(InputError, match="unknown option 'trains'"):
        METHODS["tau-norm"].run("trains=all")
    with pytest.raises(InputError, match="unknown option 'trains'"):
        METHODS["simcal"].run("trains=all")


def test_a_log_that_was_closed_is_not_written_to(bench: Benchmark) -> None:
    """Whoever sets up logging anew, as Ray does, closes the log files of earlier trainings."""
    bench.run("baseline")
    logger = MMLogger.get_current_instance()
    files = [handler for handler in logger.handlers if isinstance(handler, logging.FileHandler)]
    assert files
    for handler in files:
        handler.close()
    assert bench.setup.load_detector(bench.folder("baseline").checkpoint)
    assert not set(files) & set(logger.handlers)


def test_processes_share_what_is_trained_and_nothing_else(
    bench: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mmdet's MobileNetV2 freezes its first stages when it is set to training, and processes agree before that."""

    def stop(model: nn.Module, **_: object) -> None:
        trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        model.train()
        again = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        raise InputError(f"{trained == again} {'backbone.conv1.conv.weight' in trained}")

    monkeypatch.setattr(end_to_end, "Runner", stop)
    weights = tmp_path / "mobilenet_v2.pth"
    torch.save(torchvision.models.mobilenet_v2().state_dict(), weights)
    setup = Setup(bench.setup.dataset, catalogue.get("small"))
    other = Benchmark(setup, tmp_path, schedule=SHORT, backbone_weights=weights)
    with pytest.raises(InputError, match="True False"):
        other.run("baseline")
