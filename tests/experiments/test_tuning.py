"""Settings are chosen on held-out training images; the table of all methods."""

import json

import numpy as np
import pandas as pd
import pytest

from analyses import beyond
from imbalance_bench.categories import read_json
from imbalance_bench.classifiers import SoftmaxClassifier
from imbalance_bench.datasets.generated import generate
from imbalance_bench.datasets.held_out import hold_out
from imbalance_bench.detectors.mmdet import catalogue
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.uncertainty import paired
from imbalance_bench.experiments.benchmark import Benchmark
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.experiments.tuning import run_tuned, tune, tuning_folder
from imbalance_bench.methods import METHODS, candidates
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.schedule import Schedule

SHORT = Schedule(epochs=1, lr=0.02, batch_size=4, warmup_iterations=2)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    folder = tmp_path_factory.mktemp("tuning")
    data = generate(folder / "data", classes=6, train_images=12, val_images=3, size=(96, 128))
    return Benchmark(Setup(data, catalogue.get("tiny")), folder / "work_dirs", schedule=SHORT, views=1)


def test_the_best_on_held_out_images_is_chosen(bench: Benchmark) -> None:
    chosen = tune(bench, METHODS["logit-adjust"])
    kept = read_json(tuning_folder(bench) / "logit-adjust.json")
    assert kept["chosen"] == chosen.variant
    assert list(kept["held_out"]) == [run.variant for run in METHODS["logit-adjust"].settings_to_try]
    assert kept["held_out"][chosen.variant] == max(kept["held_out"].values())
    assert "norcal" in kept["held_out"], "the default is among them"
    train = read_json(bench.setup.dataset.train_annotations)
    parts = [read_json(tuning_folder(bench) / f"{name}.json") for name in ("fitting", "held_out")]
    held = {image["id"] for image in parts[1]["images"]}
    assert {image["id"] for image in parts[0]["images"]} == {image["id"] for image in train["images"]} - held
    files = {image["file_name"] for image in parts[1]["images"]}
    assert files <= {image["file_name"] for image in train["images"]}
    for path in tuning_folder(bench).glob("*/*/*/*/detections.npz"):
        assert set(np.load(path)["image_ids"].tolist()) <= held


def test_a_tuned_run_says_what_was_tried(bench: Benchmark) -> None:
    folder = run_tuned(bench, METHODS["logit-adjust"])
    assert read_json(folder.path / "tuning.json") == read_json(tuning_folder(bench) / "logit-adjust.json")
    assert folder.record()["settings"]["variant"] == tune(bench, METHODS["logit-adjust"]).variant


def test_what_was_tried_is_not_tried_again(bench: Benchmark) -> None:
    chosen = tune(bench, METHODS["logit-adjust"])
    times = {path: path.stat().st_mtime_ns for path in tuning_folder(bench).rglob("record.json")}
    assert times
    assert tune(bench, METHODS["logit-adjust"]) == chosen
    assert {path: path.stat().st_mtime_ns for path in tuning_folder(bench).rglob("record.json")} == times


def test_bins_are_those_of_all_training_images(bench: Benchmark) -> None:
    tune(bench, METHODS["logit-adjust"])
    record = json.loads(next(tuning_folder(bench).glob("*/*/*/baseline/record.json")).read_text())
    assert record["settings"]["bin_edges"] == list(bench.setup.categories.bin_edges)
    table = pd.read_csv(next(tuning_folder(bench).glob("*/*/*/baseline/per_category.csv")))
    assert table["instance_count"].iloc[:-1].tolist() == bench.setup.categories.instance_counts.tolist()


def test_methods_without_settings_and_beyond_the_classifier(bench: Benchmark) -> None:
    assert tune(bench, METHODS["logn"]) == METHODS["logn"].default
    with pytest.raises(InputError, match="'rfs' trains more"):
        candidates(("rfs",))


def test_hold_out() -> None:
    images = [{"id": n} for n in range(40)]
    annotations = [{"image_id": n, "category_id": 1 + (n == 7)} for n in range(40)]
    for seed in range(20):
        fitting, held = hold_out({"images": images, "annotations": annotations}, np.random.default_rng(seed))
        assert 7 in {a["image_id"] for a in fitting["annotations"]}, "the one image of a class is fitted to"
        assert len(held["images"]) in (7, 8)
        assert len(fitting["images"]) + len(held["images"]) == 40
    with pytest.raises(InputError, match="too few"):
        hold_out({"images": images[:1], "annotations": annotations[:1]}, np.random.default_rng(0))


def test_the_table_of_all_methods(bench: Benchmark) -> None:
    for run in ("x2-cls", "logit-adjust", "eqlv2"):
        bench.run(run)
    bench.run(tune(bench, METHODS["logit-adjust"]))
    bench.run("cosine")
    bench.run("eqlv2:cosine=20")
    runs = beyond.collect(bench.root.parent)
    assert set(runs["method"]) == {"baseline", "x2-cls", "logit-adjust", "eqlv2", "cosine"}
    tuned = runs[runs["kind"] == "tuned"]
    assert tuned["method"].tolist() == ["logit-adjust"]
    frame = beyond.summary(runs)
    row, cosine = frame[frame["method"] == "eqlv2"].to_dict("records")
    by_method = runs[runs["kind"] == "default"].set_index("method")
    assert row["mAP_gain"] == pytest.approx(by_method.loc["eqlv2", "mAP"] - by_method.loc["baseline", "mAP"])
    assert row["mAP_over_control"] == pytest.approx(by_method.loc["eqlv2", "mAP"] - by_method.loc["x2-cls", "mAP"])
    assert cosine["kind"] == "cosine"
    own = runs[(runs["method"] == "eqlv2") & (runs["kind"] == "cosine")].iloc[0]
    control = by_method.loc["cosine"]
    assert cosine["mAP_fixed_over_control"] == pytest.approx(own["mAP_fixed"] - control["mAP_fixed"])
    assert 0 <= own["mAP_fixed"] <= 1
    assert set(frame["over"]) == {"-"}
    drawn = beyond.over_images(frame, runs, bench.root.parent, bench.setup.ground_truth)
    assert set(drawn["over"]) == {"images"} and drawn["mAP_gain"].equals(frame["mAP_gain"])
    limits = paired(*(Detections.load(bench.root / name / "detections.npz") for name in ("x2-cls", "eqlv2")),
                    bench.setup.ground_truth)  # fmt: skip
    found = drawn.set_index(["method", "kind"]).loc[("eqlv2", "default")]
    ends = found[["mAP_over_control_low", "mAP_over_control_high"]].tolist()
    assert ends == pytest.approx(limits.loc["mAP", ["images_low", "images_high"]].tolist())
    assert len(beyond.shown(frame)) == len(frame)
    assert len(beyond.points(frame)) == runs["method"].nunique()


def test_the_cosine_option_reaches_the_classifier(bench: Benchmark) -> None:
    names = [name for name, method in METHODS.items() if method.under_a_cosine]
    assert {"bags", "reweight-cls", "focal-cls", "balanced-softmax", "acsl", "loce", "crt"} <= set(names)
    base = SoftmaxClassifier(bench.setup.categories.num_classes, 8)
    for name in names:
        train = bench.setup.dataset.train_annotations
        built = METHODS[name].run("cosine=20").build(bench.setup.categories, {"fc": 8}, base, train)
        assert built.cosine == 20, name


def test_intervals_over_seeds() -> None:
    assert beyond.half_width(1.0, 3) == pytest.approx(4.302653 / np.sqrt(3))
    assert np.isnan(beyond.half_width(np.nan, 1))
