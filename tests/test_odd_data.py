"""Unusual but valid data: a class without train instances, a bin without validation objects, crowds, thin boxes."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.detectors.mmdet import catalogue
from imbalance_bench.evaluation import per_category
from imbalance_bench.experiments.benchmark import Benchmark
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.methods import METHODS, parse, start_of
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.schedule import Schedule

SHORT = Schedule(epochs=1, lr=0.02, batch_size=16, warmup_iterations=3)
ABSENT, BINLESS = 3, 2
"""Label without train instances; the bin whose classes have no validation object."""


@pytest.fixture(scope="module")
def odd(mini: DataSet, tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    folder = tmp_path_factory.mktemp("odd")
    categories = mini.categories()
    train, val = (json.loads(path.read_text()) for path in (mini.train_annotations, mini.val_annotations))
    absent = int(categories.ids[ABSENT])
    rare = set(categories.ids[categories.bins == BINLESS].tolist())
    train["annotations"] = [a for a in train["annotations"] if a["category_id"] != absent]
    train["annotations"][0]["bbox"][2] = 0  # a box without width
    train["annotations"][1]["iscrowd"] = 1
    val["annotations"] = [a for a in val["annotations"] if a["category_id"] not in rare]
    empty = train["images"][0]["id"]
    train["annotations"] = [a for a in train["annotations"] if a["image_id"] != empty]
    for name, content in (("train", train), ("val", val)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    return replace(
        mini, name="odd", train_annotations=folder / "train.json", val_annotations=folder / "val.json", epoch_factor=1
    )


@pytest.fixture(scope="module")
def bench(odd: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    return Benchmark(Setup(odd, catalogue.get("tiny")), tmp_path_factory.mktemp("work"), schedule=SHORT, views=1)


EVERY = [(m.name, variant) for m in METHODS.values() for variant in m.variants]


@pytest.mark.parametrize(("method", "variant"), EVERY)
def test_every_method_is_built_for_a_class_without_instances(bench: Benchmark, method: str, variant: str) -> None:
    setup, run = bench.setup, METHODS[method].run(variant)
    dims, train = setup.detector.tap_dims, setup.dataset.train_annotations
    assert bench.setup.categories.instance_counts[ABSENT] == 0
    base = None
    if (start := start_of(run)) is not None:
        base = parse("baseline").build(setup.categories, dims, None)
        base = start.build(setup.categories, dims, base)
    classifier = run.build(setup.categories, dims, base, train)
    for tensor in (*classifier.parameters(), *classifier.buffers()):
        assert tensor.isfinite().all()


@pytest.mark.parametrize("method", ["rfs", "finetune-tail", "reweight-cls", "ncm-fc", "tau-norm", "bags"])
def test_a_class_without_instances_and_a_bin_without_objects(bench: Benchmark, method: str) -> None:
    run = bench.run(method)
    table, metrics = per_category.read(run.per_category), run.record()["metrics"]
    foreground = table.iloc[:-1]
    assert foreground["instance_count"].iloc[ABSENT] == 0
    assert np.isfinite(foreground["weight_norm"]).all()
    without = foreground["val_instances"] == 0
    assert set(foreground.loc[without, "bin"]) == {BINLESS}
    assert foreground.loc[without, "ap"].isna().all()
    assert foreground.loc[~without, "ap"].notna().all()
    assert pd.isna(metrics[f"AP{BINLESS}"])
    assert metrics[f"AP{BINLESS}_classes"] == 0
    assert metrics["mAP"] == pytest.approx(foreground.loc[~without & (foreground["bin"] > 0), "ap"].mean())
    assert foreground["bin"].iloc[ABSENT] == 0 and metrics["AP0"] == foreground["ap"].iloc[ABSENT]


def test_a_crowd_and_a_box_without_width_are_no_instances(bench: Benchmark) -> None:
    content = json.loads(bench.setup.dataset.train_annotations.read_text())
    images = bench.setup.training_set()
    trained = sum(not i["ignore_flag"] for n in range(len(images)) for i in images.get_data_info(n)["instances"])
    slivers = sum(min(a["bbox"][2:]) <= 0 for a in content["annotations"])
    crowds = sum(bool(a.get("iscrowd")) for a in content["annotations"])
    assert trained == len(content["annotations"]) - slivers - crowds
    assert len(images) < len(content["images"]), "an image without a box is not trained on"


def test_nothing_to_train_on(mini: DataSet, tmp_path: Path) -> None:
    content = json.loads(mini.train_annotations.read_text())
    (tmp_path / "train.json").write_text(json.dumps(content | {"annotations": []}))
    nothing = replace(mini, name="nothing", train_annotations=tmp_path / "train.json")
    bench = Benchmark(Setup(nothing, catalogue.get("tiny")), tmp_path / "work", schedule=SHORT)
    with pytest.raises(InputError, match=r"train\.json: field 'annotations' is empty"):
        bench.run("baseline")


def test_an_image_that_is_not_there(mini: DataSet, tmp_path: Path) -> None:
    bench = Benchmark(
        Setup(replace(mini, train_images=tmp_path), catalogue.get("tiny")), tmp_path / "work", schedule=SHORT
    )
    with pytest.raises(InputError, match=r"images of .*train\.json are missing"):
        bench.run("baseline")


@pytest.mark.parametrize("split", ["train", "val"])
def test_images_are_looked_at_before_a_detector_is_built(
    mini: DataSet, tmp_path: Path, split: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imbalance_bench.experiments.end_to_end.build_detector", None)
    folder = getattr(mini, f"{split}_images")
    shutil.copytree(folder, tmp_path / split)
    broken = sorted((tmp_path / split).iterdir())[5]
    broken.write_bytes(broken.read_bytes()[:-200])
    data = replace(mini, **{f"{split}_images": tmp_path / split})
    bench = Benchmark(Setup(data, catalogue.get("tiny")), tmp_path / "work", schedule=SHORT)
    with pytest.raises(InputError, match=rf"1 of .* of {split}\.json cannot be read: .*{broken.name} \(truncated"):
        bench.run("baseline")


def test_masks_are_looked_at_before_a_detector_with_a_mask_branch_is_built(
    mini: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imbalance_bench.experiments.end_to_end.build_detector", None)
    content = json.loads(mini.val_annotations.read_text())
    content["annotations"][0]["segmentation"] = [[1, 2, 3, 4]]
    (tmp_path / "val.json").write_text(json.dumps(content))
    data = replace(mini, val_annotations=tmp_path / "val.json", pretraining=None)
    bench = Benchmark(Setup(data, catalogue.get("tiny-mask")), tmp_path / "work", schedule=SHORT)
    with pytest.raises(InputError, match=r"val\.json: annotations\[0\]: field 'segmentation' has a polygon"):
        bench.run("baseline")
