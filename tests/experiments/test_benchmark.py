"""The graph of runs on a small set: runs finish, are reused, resume to the same result, and refuse clearly."""

import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from analyses import outputs, tables
from analyses.studies import STUDIES
from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.detectors.mmdet import catalogue
from imbalance_bench.detectors.mmdet.source import loader
from imbalance_bench.evaluation import examples as detections
from imbalance_bench.evaluation import per_category
from imbalance_bench.evaluation.average_precision import evaluate
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.experiments.benchmark import Benchmark
from imbalance_bench.experiments.run_folder import RunFolder
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.methods import METHODS
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.progress import Reporter
from imbalance_bench.schedule import Schedule

SHORT = Schedule(epochs=2, lr=0.02, batch_size=16, warmup_iterations=3)


@pytest.fixture(scope="module")
def bench(mini: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    return Benchmark(Setup(mini, catalogue.get("tiny")), tmp_path_factory.mktemp("work"), schedule=SHORT, views=1)


@pytest.fixture(scope="module")
def baseline(bench: Benchmark) -> RunFolder:
    return bench.run("baseline")


CLASSIFIER_LEVEL = [
    (method.name, variant)
    for method in METHODS.values()
    if method.default.keeps_detector
    for variant in (*method.variants, *({"bags": ("beta=n,groups=2", "others=false")}.get(method.name, ())))
]
END_TO_END = [m.name for m in METHODS.values() if not m.default.keeps_detector and m.name != "baseline"]


@pytest.mark.parametrize(("method", "variant"), CLASSIFIER_LEVEL)
def test_classifier_level_methods(bench: Benchmark, baseline: RunFolder, method: str, variant: str) -> None:
    run = bench.run(f"{method}:{variant}")
    table = per_category.read(run.per_category)
    assert len(table) == 13
    assert table["name"].iloc[-1] == "background"
    assert table["val_instances"].iloc[:-1].tolist() == [24] * 12
    metrics = run.record()["metrics"]
    assert metrics["mAP"] == pytest.approx(table["ap"].iloc[:-1].mean())
    assert metrics["ACC"] == pytest.approx(table["correct"].sum() / table["proposals"].sum())
    assert [metrics[f"AP{i}_classes"] for i in (1, 2, 3, 4)] == [2, 2, 3, 5]
    content = checkpoints.load(run.checkpoint)
    (classifier,) = checkpoints.classifiers_of(content, run.checkpoint).values()
    norms = classifier.class_weights().norm(dim=1).numpy()
    assert np.allclose(norms, table["weight_norm"], equal_nan=True, rtol=1e-5)
    # All but the classifier is the baseline's, to the last bit.
    before = checkpoints.load(baseline.checkpoint)["state_dict"]
    same = [name for name in before if ".fc_cls." not in name]
    assert all(torch.equal(before[name], content["state_dict"][name]) for name in same)


@pytest.fixture(scope="module")
def one_epoch(few: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    """Of a few images."""
    schedule = Schedule(epochs=1, lr=0.01, batch_size=4, warmup_iterations=2)
    return Benchmark(Setup(few, catalogue.get("tiny")), tmp_path_factory.mktemp("few"), schedule=schedule, views=1)


@pytest.mark.parametrize("method", END_TO_END)
def test_end_to_end_methods(one_epoch: Benchmark, method: str) -> None:
    if METHODS[method].sampling == "tail-only":
        # Its own schedule is ten epochs, over the few images that hold a tail class.
        assert METHODS[method].schedule(SHORT).epochs == 10
    run = one_epoch.run(method)
    assert 0 <= run.record()["metrics"]["mAP"] <= 1
    weights = checkpoints.load(run.checkpoint)["state_dict"]
    start = checkpoints.load(one_epoch.run("baseline").checkpoint)["state_dict"]
    names = {
        "stem": "backbone.layer1.0.conv1.weight", "backbone": "backbone.layer3.0.conv1.weight",
        "statistics": "backbone.layer1.0.bn1.running_mean", "rpn": "rpn_head.rpn_conv.weight",
        "head": "roi_head.bbox_head.shared_fcs.0.weight", "classifier": "roi_head.bbox_head.fc_cls.weight",
    }  # fmt: skip
    trained = {
        part for part, name in names.items()
        if weights[name].shape != start[name].shape or not torch.equal(weights[name], start[name])
    }  # fmt: skip
    frozen = {"all": set(), "all but stem": {"stem", "statistics"}, "head": set(names) - {"head", "classifier"}}
    assert trained == set(names) - frozen[METHODS[method].trains]


def test_a_finished_run_is_reused(bench: Benchmark, baseline: RunFolder) -> None:
    before = {path: path.stat().st_mtime_ns for path in baseline.path.rglob("*") if path.is_file()}
    assert bench.run("baseline") == baseline
    assert {path: path.stat().st_mtime_ns for path in baseline.path.rglob("*") if path.is_file()} == before


def test_provenance(baseline: RunFolder) -> None:
    record = baseline.record()
    assert {"date", "command", "machine", "python", "versions", "seconds"} <= set(record["provenance"])
    assert record["settings"]["method"] == "baseline"
    assert record["settings"]["schedule"]["epochs"] == 2
    assert len(record["settings"]["annotations_sha256"]) == 2


def test_other_settings_are_refused(bench: Benchmark, baseline: RunFolder) -> None:
    other = replace(bench, schedule=replace(SHORT, lr=0.01))
    with pytest.raises(InputError, match="schedule"):
        other.run("baseline")


def test_groups_that_do_not_exist(bench: Benchmark, baseline: RunFolder) -> None:
    with pytest.raises(InputError, match="2, or 8 for 4 bins"):
        bench.run("bags:groups=3")


def test_a_folder_in_use_is_refused(bench: Benchmark, baseline: RunFolder) -> None:
    folder = bench.folder("bags:paper")
    shutil.rmtree(folder.path, ignore_errors=True)
    with folder.lock(), pytest.raises(InputError, match="in use"):
        bench.run("bags:paper")


def test_evaluation_of_the_cache_is_mmdets_own(bench: Benchmark, baseline: RunFolder) -> None:
    """AP of the cached proposals against AP of ``predict`` on the same checkpoint."""
    model = bench.setup.load_detector(baseline.checkpoint).model  # type: ignore[attr-defined]
    image_ids, found = [], []
    with torch.no_grad():
        for batch in loader(bench.setup.detector, bench.setup.validation_set()):
            for sample in model.test_step(batch):
                image_ids.append(sample.img_id)
                predicted = sample.pred_instances
                found.append((predicted.bboxes, predicted.scores, predicted.labels))
    of_mmdet = evaluate(Detections.from_images(image_ids, found), bench.setup.ground_truth)
    ours = per_category.read(baseline.per_category).iloc[:-1]
    # Proposals come in batches of another size, so scores differ in the last bits, and near-ties change places.
    assert np.allclose(of_mmdet["ap"], ours["ap"], atol=1e-3)
    assert of_mmdet["ap"].mean() == pytest.approx(ours["ap"].mean(), abs=1e-4)


def test_any_checkpoint_can_be_measured(bench: Benchmark, baseline: RunFolder, tmp_path: Path) -> None:
    run = bench.run("bags")
    table, metrics, _ = bench.measurer.checkpoint(run.checkpoint)
    expected = per_category.read(run.per_category)
    assert np.allclose(table["ap"].astype(float), expected["ap"], atol=1e-6, equal_nan=True)
    assert table["correct"].tolist() == expected["correct"].tolist()
    assert metrics["ACCbg"] == pytest.approx(run.record()["metrics"]["ACCbg"])
    state = dict(checkpoints.load(baseline.checkpoint)["state_dict"])
    state.pop("backbone.conv1.weight")
    torch.save({"state_dict": state}, tmp_path / "part.pth")
    with pytest.raises(InputError, match=r"part\.pth.*not of detector tiny"):
        bench.measurer.checkpoint(tmp_path / "part.pth")


def test_an_interrupted_training_resumes_to_the_same_result(
    bench: Benchmark, baseline: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    again = replace(bench, work_dir=tmp_path)

    from imbalance_bench.training.end_to_end import EpochSeedHook

    def stop_in_epoch_two(self: EpochSeedHook, runner: object) -> None:
        original(self, runner)  # type: ignore[arg-type]
        if runner.epoch == 1:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    original = EpochSeedHook.before_train_epoch
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(EpochSeedHook, "before_train_epoch", stop_in_epoch_two)
        again.run("baseline")
    assert not again.folder("baseline").is_done
    resumed = checkpoints.load(again.run("baseline").checkpoint)["state_dict"]
    whole = checkpoints.load(baseline.checkpoint)["state_dict"]
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_an_interrupted_classifier_resumes_to_the_same_result(
    bench: Benchmark, baseline: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from imbalance_bench.training import on_cache as training

    whole = checkpoints.load(bench.run("bags").checkpoint)["state_dict"]
    folder = bench.folder("bags")
    kept = folder.path.with_name("kept")
    folder.path.rename(kept)
    try:
        original = training._epoch

        def stop_in_epoch_five(*args: object) -> float:
            if args[4] == 5:
                raise KeyboardInterrupt
            return original(*args)  # type: ignore[arg-type]

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(training, "_epoch", stop_in_epoch_five)
            bench.run("bags")
        assert (folder.path / "classifier0_epoch.pth").exists()
        resumed = checkpoints.load(bench.run("bags").checkpoint)["state_dict"]
        assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    finally:
        shutil.rmtree(folder.path)
        kept.rename(folder.path)


def test_a_damaged_start_is_refused(bench: Benchmark, baseline: RunFolder) -> None:
    whole = baseline.checkpoint.read_bytes()
    baseline.checkpoint.write_bytes(whole[:-1] + b"\x01")
    try:
        with pytest.raises(InputError, match=r"baseline/checkpoint\.pth: was changed or damaged"):
            bench.run("tau-norm:no-bias")
    finally:
        baseline.checkpoint.write_bytes(whole)


def test_a_changed_detector_makes_its_cache_anew(bench: Benchmark, baseline: RunFolder, tmp_path: Path) -> None:
    other = RunFolder(tmp_path / "run")
    shutil.copytree(baseline.path, other.path)
    (other.path / "record.json").unlink()  # a run that is done does not change
    (first,) = bench.cache(other).proposals("val", "fc_pre_relu")
    content = checkpoints.load(baseline.checkpoint)
    state = dict(content["state_dict"])
    state["roi_head.bbox_head.shared_fcs.1.bias"] = state["roi_head.bbox_head.shared_fcs.1.bias"] + 1
    (classifier,) = checkpoints.classifiers_of(content, "x").values()
    checkpoints.save(other.checkpoint, state, classifier, bench.setup.categories)
    (second,) = bench.cache(other).proposals("val", "fc_pre_relu")
    assert first.manifest["shards"] != second.manifest["shards"]
    means = [next(part.chunks(size=len(part)))[0].mean() for part in (first, second)]
    assert np.allclose(means[1] - means[0], 1, atol=1e-3)


def test_a_damaged_cache_is_made_anew_and_said(baseline: RunFolder, bench: Benchmark, tmp_path: Path) -> None:
    other = RunFolder(tmp_path / "run")
    shutil.copytree(baseline.path, other.path)
    said = Console(file=io.StringIO(), width=500)
    talking = replace(bench, setup=replace(bench.setup, reporter=Reporter(said)))
    (whole,) = talking.cache(other).proposals("val", "fc_pre_relu")
    (features, *_) = other.path.glob("proposals/val-fc_pre_relu/*/features.bin")
    content = bytearray(features.read_bytes())
    content[len(content) // 2] ^= 64
    features.write_bytes(content)
    (again,) = talking.cache(other).proposals("val", "fc_pre_relu")
    assert again.manifest == whole.manifest
    assert "'sha256' of the manifest does not match the arrays: made anew" in said.file.getvalue()


def test_table_and_figures(bench: Benchmark, baseline: RunFolder, tmp_path: Path) -> None:
    for method in ("bags", "tau-norm"):
        bench.run(method)
    root, study = bench.root.parent, STUDIES["table 1"]
    runs = tables.study_runs(root, study)
    order = [METHODS[run.partition(":")[0]].paper_row or 1.5 for run in runs["run"]]
    assert order == sorted(order), "in the order of the paper's table"
    row = runs[runs["run"] == "bags"].iloc[0]
    assert row["row"] == "(14)"
    assert row["mAP"] == bench.folder("bags").record()["metrics"]["mAP"]
    csv, markdown, latex, fidelity = outputs.write_study(root, study, tmp_path)
    assert pd.read_csv(fidelity)["rows"].min() >= 2
    assert latex.read_text().count(r"\\") == len(runs) + 2, "two lines of headings"
    assert pd.read_csv(csv)["machine"].notna().all()
    assert "[5,20) (2 classes)" in markdown.read_text()
    for figure in (
        outputs.draw_weight_norms(bench.root, tmp_path / "norms.png"),
        outputs.draw_ap_by_bin(root, tmp_path / "ap.png"),
        outputs.draw_detections(bench.root, bench.setup.dataset, tmp_path / "sheet.png", images=2),
    ):
        assert figure.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="no finished run"):
        tables.study_runs(tmp_path, study)


def test_contact_sheet_detections(bench: Benchmark, baseline: RunFolder) -> None:
    truth = detections.ground_truth(bench.setup.dataset.val_annotations, bench.setup.categories)
    image = detections.images_with_most_tail(truth, 1, [1, 2])[0]
    boxes = truth[truth["image_id"] == image]
    tail_counts = truth[truth["bin"] <= 2].groupby("image_id").size()
    assert (boxes["bin"] <= 2).sum() == tail_counts.max()
    perfect = Detections(
        image_ids=truth["image_id"].to_numpy(),
        labels=truth["label"].to_numpy(),
        boxes=truth[detections.BOX].to_numpy(),
        scores=np.ones(len(truth)),
    )
    best = detections.best(perfect, image, boxes, bench.setup.categories)
    assert best["correct"].all()
    assert len(best) == len(boxes)
    wrong = replace(perfect, labels=(perfect.labels + 1) % 12)
    crossed = detections.best(wrong, image, boxes, bench.setup.categories)
    assert not crossed["correct"].all()
