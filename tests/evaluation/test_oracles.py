"""Oracles of the classifier by hand, and the order of their AP on a trained one."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.datasets.generated import generate
from imbalance_bench.detectors.mmdet import catalogue
from imbalance_bench.evaluation.oracles import ORACLES, no_background, oracle_ap, right_class, right_label
from imbalance_bench.experiments.benchmark import Benchmark
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.proposals.postprocess import BoxesOfPairs
from imbalance_bench.schedule import Schedule

SCORES = torch.tensor([[0.6, 0.1, 0.3], [0.2, 0.1, 0.7], [0.5, 0.4, 0.1]])
LABELS = torch.tensor([1, 2, 0])  # of two classes; the second is background


def test_scores_by_hand() -> None:
    torch.testing.assert_close(no_background(SCORES, LABELS)[:, :2], torch.tensor([[0.6, 0.1], [0, 0], [0.5, 0.4]]))
    torch.testing.assert_close(right_class(SCORES, LABELS)[:, :2], torch.tensor([[0, 0.7], [0.2, 0.1], [0.9, 0]]))
    torch.testing.assert_close(right_label(SCORES, LABELS)[:, :2], torch.tensor([[0, 0.7], [0, 0], [0.9, 0]]))
    torch.testing.assert_close(SCORES, torch.tensor([[0.6, 0.1, 0.3], [0.2, 0.1, 0.7], [0.5, 0.4, 0.1]]))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    folder = tmp_path_factory.mktemp("oracles")
    data = generate(folder / "data", classes=3, train_images=24, val_images=6, size=(96, 128))
    schedule = Schedule(epochs=3, lr=0.02, batch_size=4, warmup_iterations=2)
    return Benchmark(Setup(data, catalogue.get("tiny")), folder / "work_dirs", schedule=schedule, views=1)


def test_on_a_trained_classifier(bench: Benchmark) -> None:
    frame = bench.oracles("baseline")
    assert frame.index.tolist() == list(ORACLES)
    ap = frame["mAP"]
    assert ap["as it is"] == pytest.approx(bench.run("baseline").record()["metrics"]["mAP"])
    assert ap["class and background known"] > ap["as it is"]
    assert ap["all known"] >= ap["class and background known"]
    # With boxes and labels known, what is missed is what no proposal is labelled with.
    val = bench.cache(bench.run("baseline")).proposals("val", "fc_pre_relu")[-1]
    truth, covered = bench.setup.ground_truth, 0
    for position, image_id in enumerate(val.image_ids.tolist()):
        own = val.labels[val.rows(position)]
        here = truth.image_ids[truth.images] == image_id
        covered += int(pd.Series(truth.labels[here]).isin(own.tolist()).sum())
    assert ap["all known"] <= 1
    assert (ap["all known"] > 0) == (covered > 0)


def test_class_specific_boxes_are_as_they_are(bench: Benchmark) -> None:
    run = bench.run("baseline")
    classifiers = list(checkpoints.classifiers_of(checkpoints.load(run.checkpoint), run.checkpoint).values())
    val = bench.cache(run).features("val", classifiers)

    def boxes_of_pairs(position: int) -> BoxesOfPairs:
        boxes = val[-1].stored_boxes.tensor([val[-1].rows(position)])
        return lambda proposals, labels: boxes[proposals]

    frame = oracle_ap(classifiers, [replace(val[-1], boxes_of_pairs=boxes_of_pairs)], bench.setup.ground_truth)
    assert frame.index.tolist() == [name for name, oracle in ORACLES.items() if not oracle.boxes]
    pd.testing.assert_frame_equal(frame, bench.oracles("baseline").loc[frame.index])
