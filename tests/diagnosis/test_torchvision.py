"""The diagnosis of a torchvision detector in a process without mmdet; its exports run in processes of their own."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from their_detector import IDS, NAMES

from imbalance_bench.diagnosis.result import Diagnosis
from imbalance_bench.evaluation.detections import Detections

ROOT = Path(__file__).resolve().parents[2]
LITTLE = Path(__file__).parents[1] / "detectors" / "torchvision" / "little_torchvision.py"
TRIED = ("x2-cls", "tau-norm", "bags", "eqlv2")
EXPORTS = {"tau-norm": True, "x2-cls": True, "bags": False, "eqlv2": False}
"""Exported fixes, and whether torchvision alone runs them."""
BLOCKED = """
import importlib.abc, json, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
"""
MMDET = ("mmdet", "mmcv", "mmengine", "cv2", "pycocotools")
DIAGNOSE = """
from pathlib import Path
import little_torchvision as little
make = little.{model}
kind = little.spread_dense if {dense} else little.spread
little.save(kind(make()), Path("{model}.pth"))
from imbalance_bench import diagnose
for export in {exports!r}:
    diagnose("little_torchvision:{model}", "{model}.pth", {train!r}, {val!r}, "train", val_images="val",
             out="{model}", skip_missing=True, methods={tried!r}, export=export, framework="torchvision", {more})
"""
DETECT = """
import importlib.util, numpy as np, torch
from PIL import Image
from torchvision.transforms.functional import to_tensor
image = to_tensor(Image.open("val/2.jpg").convert("RGB"))
for method in {methods!r}:
    spec = importlib.util.spec_from_file_location("load", f"{model}/export-{{method}}/load.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with torch.no_grad():
        (found,) = module.load()([image])
    assert len(module.CLASSES) == 8
    np.savez(f"{model}-{{method}}", **{{name: value.numpy() for name, value in found.items()}})
"""


@dataclass(frozen=True)
class Done:
    """A folder with the user's files and the diagnosis ``faster``."""

    folder: Path

    def run(self, script: str, without: tuple[str, ...]) -> None:
        ended = subprocess.run(
            [sys.executable, "-c", BLOCKED.format(names=without) + script], cwd=self.folder, capture_output=True,
            text=True, check=False, env={"PYTHONPATH": f"{ROOT}:.", "PATH": "", "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr


@pytest.fixture(scope="module")
def done(their_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("torchvision") / "user"
    shutil.copytree(their_data, folder, ignore=shutil.ignore_patterns("stuff"))
    shutil.copy(LITTLE, folder)
    done = Done(folder)
    given = {"train": "train.json", "val": "val.json", "tried": TRIED, "exports": list(EXPORTS), "more": "tune=True"}
    done.run(DIAGNOSE.format(model="faster", dense=False, **given), MMDET)
    return done


def test_it_holds_everything(done: Done) -> None:
    found = Diagnosis.read(done.folder / "faster")
    assert set(found.fixes.index) == {*TRIED, "baseline"} and found.fixes["mAP"].notna().all()
    # Labels go by ascending id where the checkpoint names no classes.
    assert found.per_category["id"].tolist() == [*sorted(IDS), 0]
    assert found.per_category["name"].tolist()[:-1] == [NAMES[IDS.index(i)] for i in sorted(IDS)]
    notes = "\n".join(found.summary["notes"])
    assert "labels are taken in the order of ascending ids" in notes
    assert "measured on all scores and up to 300 detections an image; the model itself keeps 100" in notes
    assert found.summary["detector"] == "little_torchvision:faster"
    assert found.summary["exported"]["files"] == ["load.py", "checkpoint.pth"]
    stock = torch.load(done.folder / "faster.pth")["model"]["roi_heads.box_predictor.cls_score.weight"]
    norms = found.per_category["weight_norm"].to_numpy()
    assert np.allclose(norms, stock.roll(-1, 0).norm(dim=1).numpy(), rtol=1e-5), "background is last here"


@pytest.fixture(scope="module")
def detected(done: Done) -> Path:
    """What the exports find on the second image: plain ones without this package, all of them without mmdet."""
    for plain in (True, False):
        methods = [method for method, is_plain in EXPORTS.items() if is_plain is plain]
        done.run(DETECT.format(model="faster", methods=methods), (*MMDET, *(("imbalance_bench",) if plain else ())))
    return done.folder


@pytest.mark.parametrize("method", EXPORTS)
def test_an_export_detects_what_was_measured(method: str, done: Done, detected: Path) -> None:
    found = np.load(detected / f"faster-{method}.npz")
    diagnosis = Diagnosis.read(done.folder / "faster")
    ours = Detections.load(diagnosis.folder / diagnosis.summary["runs"][method] / "detections.npz")
    own = ours.image_ids == 1000 - 3 * 2
    order = np.argsort(-ours.scores[own], kind="stable")
    assert len(found["scores"]) == own.sum() > 50
    np.testing.assert_allclose(np.sort(found["scores"])[::-1], ours.scores[own][order], atol=1e-5)
    shared = 0
    for box, score, label in zip(found["boxes"], found["scores"], found["labels"], strict=True):
        near = np.abs(ours.boxes[own] - box).max(axis=1) < 1e-2
        shared += bool((near & (ours.labels[own] + 1 == label) & (np.abs(ours.scores[own] - score) < 1e-5)).any())
    assert shared >= 0.99 * own.sum()


def test_a_plain_export_is_a_state_dict_of_the_users_model(done: Done, detected: Path) -> None:
    stock = torch.load(done.folder / "faster.pth")["model"]
    repaired = torch.load(done.folder / "faster" / "export-x2-cls" / "checkpoint.pth", weights_only=True)
    assert repaired.keys() == stock.keys()
    changed = {name for name in stock if not torch.equal(stock[name], repaired[name])}
    assert changed == {f"roi_heads.box_predictor.cls_score.{name}" for name in ("weight", "bias")}


def test_rows_by_category_id(done: Done) -> None:
    """torchvision's reference trains a row for each id up to the highest, whether a category has it or not."""
    given = {"train": "train.json", "val": "val.json", "tried": ("tau-norm",), "exports": ["tau-norm"]}
    done.run(DIAGNOSE.format(model="by_ids", dense=False, **given, more="tune=False, max_images=8"), MMDET)
    found = Diagnosis.read(done.folder / "by_ids")
    assert len(found.per_category) == 91
    names = found.per_category["name"].tolist()
    assert names[:3] == ["no category 1", "no category 2", NAMES[IDS.index(3)]] and names[89] == NAMES[IDS.index(90)]
    assert found.per_category["id"].tolist() == [*range(1, 91), 0]
    assert any("82 of 90 labels are of no category" in note for note in found.summary["notes"])
    assert len(json.loads((done.folder / "by_ids" / "categories.json").read_text())["categories"]) == 90


DENSE = {"retinanet": "focal-cls", "fcos": "gumbel"}
"""Dense detectors, and a method that torchvision runs, and one that it does not."""


@pytest.mark.parametrize("model", DENSE)
def test_a_dense_head(model: str, done: Done) -> None:
    """Sigmoids over anchors: what scores background is left out, with the reason."""
    method, plain = DENSE[model], DENSE[model] != "gumbel"
    given = {"train": "train.json", "val": "val.json", "tried": (method, "eql"), "exports": [method]}
    done.run(DIAGNOSE.format(model=model, dense=True, **given, more="tune=False"), MMDET)
    found = Diagnosis.read(done.folder / model)
    assert set(found.fixes.index) == {method, "eql", "baseline"} and found.fixes["mAP"].notna().all()
    assert found.per_category["id"].tolist() == [*sorted(IDS), 0]
    assert np.isnan(found.per_category["weight_norm"].iloc[-1]), "background has no row"
    done.run(DETECT.format(model=model, methods=[method]), (*MMDET, *(("imbalance_bench",) if plain else ())))
    theirs = np.load(done.folder / f"{model}-{method}.npz")
    ours = Detections.load(found.folder / found.summary["runs"][method] / "detections.npz")
    own = ours.image_ids == 1000 - 3 * 2
    assert own.sum() > 50
    # The cache has the anchors that the unchanged detector scores best, the model all of them.
    shared = sum(
        bool(((theirs["labels"] == label) & (np.abs(theirs["scores"] - score) < 1e-4)
              & (np.abs(theirs["boxes"] - box).max(axis=1) < 1e-2)).any())
        for box, score, label in zip(ours.boxes[own], ours.scores[own], ours.labels[own], strict=True)
    )  # fmt: skip
    assert shared >= 0.9 * own.sum()
