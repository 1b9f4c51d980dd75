"""The diagnosis of a detector and annotations; its exports run in mmdet in their own process."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from their_detector import IDS, NAMES, Theirs, plain_config, save
from undrawn import undrawn

from imbalance_bench import diagnose
from imbalance_bench.detectors.mmdet.opening import open_config
from imbalance_bench.diagnosis.conclusions import norm_correlation
from imbalance_bench.diagnosis.result import Diagnosis
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.methods import candidates
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.progress import logged_to

ROOT = Path(__file__).resolve().parents[2]
TRIED = ("x2-cls", "reweight-cls", "tau-norm", "bags")
"""Trained, tuned, post hoc, and one that plain mmdet cannot run."""
EXPORTS = {"tau-norm": "plain", "x2-cls": "plain", "bags": "hosted"}
"""Exported fixes, and who runs their heads."""

DETECT = """
import sys, torch, numpy as np
import imbalance_bench.detectors.mmcv_ops.finder as ops; ops.install()
from mmdet.apis import init_detector, inference_detector
image, *exports = sys.argv[1:]
for folder, kind, to in zip(*[iter(exports)] * 3):
    model = init_detector(f"{folder}/config.py", f"{folder}/checkpoint.pth", device="cpu")
    head = type(model.roi_head.bbox_head).__name__
    assert (head == "ClassifierBBoxHead") == (kind == "hosted"), "who runs it"
    found = inference_detector(model, image).pred_instances
    np.savez(to, boxes=found.bboxes, scores=found.scores, labels=found.labels)
"""


@pytest.fixture(scope="module", autouse=True)
def without_figures() -> Iterator[None]:
    with undrawn():
        yield


@pytest.fixture(scope="module")
def arguments(theirs: Theirs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    options = {"out": tmp_path_factory.mktemp("diagnosis") / "out", "skip_missing": True, "methods": TRIED}
    return {**theirs.arguments, **options, "save_fixes": True}


@pytest.fixture(scope="module")
def diagnosis(arguments: dict[str, Any]) -> Diagnosis:
    return diagnose(**arguments)


def test_it_holds_everything(diagnosis: Diagnosis) -> None:
    table = diagnosis.per_category
    assert table["id"].tolist() == [*IDS, 0]
    assert table["name"].tolist() == [*NAMES, "background"]
    assert np.isnan(table["ap"].iloc[NAMES.index("no val")])
    assert set(diagnosis.fixes.index) == {*TRIED, "baseline"}
    assert diagnosis.fixes.loc["baseline", ["mAP_gain", "mAP_low", "mAP_high"]].tolist() == [0, 0, 0]
    over = [f"mAP_over_control{end}" for end in ("", "_low", "_high")]
    assert diagnosis.fixes.loc["x2-cls", over].tolist() == [0, 0, 0]
    gains = diagnosis.fixes["mAP_gain"]
    np.testing.assert_allclose(diagnosis.fixes[over[0]], gains - gains["x2-cls"], atol=1e-12)
    assert (diagnosis.fixes[over[1]] <= diagnosis.fixes[over[2]]).all()
    trained = table.iloc[:-1]["bin"] > 0
    assert trained.sum() == len(NAMES) - 1
    assert diagnosis.fixes["mAP"].iloc[-1] == pytest.approx(table["ap"].iloc[:-1][trained].mean())
    assert set(diagnosis.losses.index) <= set(range(len(NAMES)))
    assert np.allclose(diagnosis.destinations.sum(axis=1), 1)
    assert np.allclose(diagnosis.boxes.sum(axis=1), 1)
    with_boxes = table[table["val_instances"] > 0]
    assert diagnosis.boxes.index.tolist() == [str(number) for number in sorted(set(with_boxes["bin"]))]
    uncovered = ((1 - with_boxes["proposal_recall"]) * with_boxes["val_instances"]).groupby(with_boxes["bin"]).sum()
    total = with_boxes.groupby("bin")["val_instances"].sum()
    assert (diagnosis.boxes["no proposal"].to_numpy() <= (uncovered / total).to_numpy() + 1e-9).all()
    assert diagnosis.summary["verdict"]
    assert diagnosis.summary["provenance"]["versions"]
    assert set(diagnosis.summary["tuned"]) == {"reweight-cls", "tau-norm", "bags"}, "x2-cls has nothing to choose"
    assert diagnosis.summary["resumed"] == {"runs": 0, "seconds": 0}


def test_what_is_not_known_is_null_in_json(diagnosis: Diagnosis, tmp_path: Path) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    summary = {**diagnosis.summary, "norms": {"spearman": float("nan")}, "notes": ["nan"]}
    replace(diagnosis, folder=tmp_path, summary=summary).save()
    content = json.loads((tmp_path / "diagnosis.json").read_text(), parse_constant=refuse)
    assert content["norms"] == {"spearman": None} and content["notes"] == ["nan"]


def test_it_reads_back_as_it_was(diagnosis: Diagnosis) -> None:
    again = Diagnosis.read(diagnosis.folder)
    assert again.summary == json.loads(json.dumps(diagnosis.summary))
    for name in ("per_category", "bins", "destinations", "boxes", "losses", "reliability", "fixes"):
        pd.testing.assert_frame_equal(
            getattr(again, name), getattr(diagnosis, name), check_dtype=False, check_index_type=False,
            check_column_type=False,
        )  # fmt: skip
    records = json.loads((diagnosis.folder / "diagnosis.json").read_text())["tables"]
    assert [row["name"] for row in records["per_category"]] == [*NAMES, "background"]


def test_again_it_only_looks(diagnosis: Diagnosis, arguments: dict[str, Any]) -> None:
    runs = sorted(diagnosis.folder.glob("runs/*/*/*/*/record.json"))
    times = [path.stat().st_mtime_ns for path in runs]
    again = diagnose(**arguments)
    assert [path.stat().st_mtime_ns for path in runs] == times
    pd.testing.assert_frame_equal(again.fixes, diagnosis.fixes)
    tried = sum(len(found) for found in diagnosis.summary["tuned"].values())
    assert again.summary["resumed"]["runs"] == len(TRIED) + 1 + tried
    spent = sum(sum(json.loads(path.read_text())["provenance"]["seconds"].values()) for path in runs)
    assert 0 < again.summary["resumed"]["seconds"] <= spent + 0.1


def test_of_other_things_it_is_refused(diagnosis: Diagnosis, arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="was run with max_images"):
        diagnose(**{**arguments, "max_images": 7})


def test_settings_are_chosen_without_validation_images(diagnosis: Diagnosis) -> None:
    tuning = diagnosis.folder / "runs" / "tuning"
    val = {image["id"] for image in json.loads((diagnosis.folder / "val.json").read_text())["images"]}
    for path in tuning.glob("*/*/*/detections.npz"):
        assert not set(np.load(path)["image_ids"].tolist()) & val
    records = {path.parent.name: json.loads(path.read_text()) for path in tuning.glob("*/*/*/record.json")}
    scores = {name: r["metrics"]["mAP"] for name, r in records.items() if r["settings"]["method"] == "tau-norm"}
    assert len(scores) == 6
    chosen = diagnosis.fixes.loc["tau-norm", "settings"]
    folder = "tau-norm" if chosen == "paper" else f"tau-norm-{chosen}"
    assert scores[folder] == max(scores.values())
    final = next((diagnosis.folder / "runs" / "final").glob(f"*/*/{folder}/record.json"))
    assert json.loads(final.read_text())["settings"]["variant"] == chosen


def test_no_settings_are_chosen_on_images_known_by_heart(
    theirs: Theirs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imbalance_bench.diagnosis.diagnose.by_heart", lambda seen, unseen: True)
    found = diagnose(**theirs.arguments, out=tmp_path / "out", skip_missing=True, methods=("x2-cls", "reweight-cls"))
    assert not found.summary["tuned"] and found.fixes.loc["reweight-cls", "settings"] == "paper"
    assert any("no settings are chosen" in note for note in found.summary["notes"])


def test_its_detector_is_theirs(theirs: Theirs) -> None:
    """Hosted, their classifier gives the logits of mmdet's own head."""
    detector = open_config(theirs.config)
    hosted = detector.adopt(theirs.checkpoint).model
    init_default_scope("mmdet")
    with logged_to(None):
        stock = MODELS.build(Config.fromfile(theirs.config).model)
    stock.load_state_dict(torch.load(theirs.checkpoint)["state_dict"])
    pooled = torch.randn(5, 64, 7, 7)
    for ours, plain in zip(hosted.roi_head.bbox_head(pooled), stock.eval().roi_head.bbox_head(pooled), strict=True):
        torch.testing.assert_close(ours, plain)


@pytest.fixture(scope="module")
def detected(
    diagnosis: Diagnosis, arguments: dict[str, Any], theirs: Theirs, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with what mmdet finds with each export on the second image, in a process of its own."""
    folder, exports = tmp_path_factory.mktemp("detected"), list[object]()
    for method, kind in EXPORTS.items():
        diagnose(**{**arguments, "export": method})
        exports += [diagnosis.folder / f"export-{method}", kind, folder / f"{method}.npz"]
    command = [sys.executable, "-c", DETECT, *map(str, (theirs.root / "val" / "2.jpg", *exports))]
    subprocess.run(command, check=True, cwd=folder, env={"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"})
    return folder


@pytest.mark.parametrize("method", EXPORTS)
def test_an_export_runs_in_mmdet(method: str, diagnosis: Diagnosis, detected: Path) -> None:
    found = np.load(detected / f"{method}.npz")
    ours = Detections.load(diagnosis.folder / diagnosis.summary["runs"][method] / "detections.npz")
    own = ours.image_ids == 1000 - 3 * 2
    order = np.argsort(-ours.scores[own], kind="stable")
    assert len(found["scores"]) == own.sum()
    # Scores that agree to 1e-5 may stand in another order.
    np.testing.assert_allclose(np.sort(found["scores"])[::-1], ours.scores[own][order], atol=1e-5)
    shared = 0
    for box, score, label in zip(found["boxes"], found["scores"], found["labels"], strict=True):
        near = np.abs(ours.boxes[own] - box).max(axis=1) < 1e-2
        shared += bool((near & (ours.labels[own] == label) & (np.abs(ours.scores[own] - score) < 1e-5)).any())
    assert shared >= 0.99 * own.sum()


def test_a_cascade(cascade: Theirs, tmp_path: Path) -> None:
    found = diagnose(**cascade.arguments, out=tmp_path / "out", skip_missing=True, methods=("tau-norm",), tune=False)
    assert found.fixes.loc["tau-norm", "settings"] == "paper"
    assert not list(tmp_path.glob("out/runs/final/*/*/tau-norm/*.pth")), "checkpoints go, if not asked for"
    assert "weight_norm_stage3" in found.per_category


def _four_convolutions(model: Any) -> None:
    model.roi_head.bbox_head.update(type="Shared4Conv1FCBBoxHead", conv_out_channels=16)


@pytest.mark.parametrize(
    ("base", "change"),
    [
        ("mask_rcnn/mask-rcnn_r50_fpn_1x_coco", lambda model: None),
        ("htc/htc_r50_fpn_1x_coco", lambda model: None),
        ("faster_rcnn/faster-rcnn_r50_fpn_1x_coco", _four_convolutions),
    ],
    ids=["mask", "htc", "4conv-1fc"],
)
def test_every_framework(base: str, change: Any, their_data: Path, tmp_path: Path) -> None:
    """With masks and a semantic branch, of which boxes alone are looked at, and convolutions in the head."""
    detector = save(their_data, base.partition("/")[2], plain_config(base, change))
    found = diagnose(
        **detector.arguments, out=tmp_path / "out", skip_missing=True, methods=("tau-norm",), tune=False,
        max_images=8, export="tau-norm",
    )  # fmt: skip
    assert found.fixes["mAP"].notna().all()
    exported = Config.fromfile(tmp_path / "out" / "export-tau-norm" / "config.py")
    assert exported.model.type == Config.fromfile(detector.config).model.type


@pytest.mark.parametrize("loss", ["CrossEntropyCustomLoss", "FocalCustomLoss", "CrossEntropyLoss"])
def test_a_sigmoid(loss: str, their_data: Path, tmp_path: Path) -> None:
    """mmdet's two sigmoids of C logits, and that of C + 1, which mmdet scores by a softmax."""
    own = {} if loss == "CrossEntropyLoss" else {"num_classes": len(NAMES)}

    def change(model: Any) -> None:
        model.roi_head.bbox_head.loss_cls = {"type": loss, "use_sigmoid": True, **own}

    sigmoid = save(their_data, loss, plain_config("faster_rcnn/faster-rcnn_r50_fpn_1x_coco", change))
    found = diagnose(
        **sigmoid.arguments, out=tmp_path / "out", skip_missing=True, methods=("x2-cls", "tau-norm"), tune=False
    )
    background_norm = found.per_category["weight_norm"].iloc[-1]
    assert np.isnan(background_norm) == (loss != "CrossEntropyLoss")
    assert found.fixes["mAP"].notna().all()


def test_what_is_tried() -> None:
    names = [method.name for method in candidates()]
    assert {"x2-cls", "reweight-cls", "tau-norm", "bags", "ncm-fc"} <= set(names)
    assert not {"baseline", "rfs", "ncm-conv", "bags-tune-head"} & set(names)
    with pytest.raises(InputError, match="'rfs' trains more"):
        candidates(("rfs",))


def test_norm_correlation() -> None:
    table = pd.DataFrame({"weight_norm": [*np.arange(20.0), 5.0], "instance_count": [*np.arange(20) ** 2, 0]})
    found = norm_correlation(table)
    assert found["spearman"] == pytest.approx(1)
    assert found["low"] == pytest.approx(1)
    assert np.isnan(norm_correlation(table.assign(weight_norm=1.0))["spearman"])
