"""The command line: the output of each command, and one clear line for bad input."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.methods import METHODS

Run = Callable[..., tuple[int, str, str]]
MINI = ("--dataset", "emoji-lt-mini")


@pytest.mark.parametrize(
    "command",
    ["demo", "datasets list", "datasets prepare", "methods", "groups", "oracles", "run-baseline", "weight-norms",
     "evaluate", "errors", "per-category", "proposal-accuracy",
     "table", "figure weight-norms", "figure ap-by-bin", "figure detections", "figure learning-curves",
     "figure 1", "figure 3", "figure 4", "figure 5", "figure 6", "run-all", "report", "runs", "export", "compare",
     "check-runs", "model-index", "doctor"],
)  # fmt: skip
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str], run: Run) -> None:
    status, _, _ = run(*command.split(), "--help")
    assert status == 0
    assert f"Example: imbalance-bench {command}" in " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_methods(run: Run, tmp_path: Path) -> None:
    status, out, _ = run("methods")
    assert status == 0
    for name, row in (("bags", "(14)"), ("tau-norm", "(12)"), ("x2-cls", "-"), ("finetune-tail", "(3)")):
        assert any(line.split()[:1] == [name] and row in line.split() for line in out.splitlines())
    assert all(name in out for name in METHODS)
    status, _, _ = run("methods", "-o", tmp_path / "methods.csv")
    frame = pd.read_csv(tmp_path / "methods.csv", dtype=str).set_index("name")
    assert status == 0 and set(frame.index) == set(METHODS)
    assert frame.loc["tau-norm", "source"] == "https://arxiv.org/abs/1910.09217"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--method", "x2-cls", "--tune"), "'x2-cls' has no settings to choose"),
        (("--method", "bags", "--tune", "--variant", "beta=2"), "expected no --variant"),
        (("--method", "bags", "--variant", "trains=nothing"), "option 'trains' of 'bags'"),
    ],
)
def test_what_run_baseline_does_not_take(options: tuple[str, ...], line: str, run: Run) -> None:
    status, _, error = run("run-baseline", *options)
    assert status == 2 and line in " ".join(error.split())


def test_groups(run: Run, data_root: Path, tmp_path: Path) -> None:
    counts, out_file = tmp_path / "counts.csv", tmp_path / "groups.csv"
    counts.write_text("instance_count\n" + "\n".join(map(str, [1, 1, 2, 4, 4, 8, 20])))
    status, out, _ = run("groups", "--counts", counts, "--groups", "3", "-o", out_file)
    assert status == 0 and "--variant edges=balanced,groups=3; edges 8-20" in " ".join(out.split())
    frame = pd.read_csv(out_file)
    assert frame.loc[frame["groups"] == "balanced", "instances"].tolist() == [12, 8, 20]
    status, out, _ = run("groups", "--dataset", "emoji-lt-mini", "--data-dir", data_root, "--edges", "5-20")
    assert status == 0 and "--variant edges=5-20" in out
    for given, line in ((("--groups", "9"), "option '--groups': expected 1 to 5"), (("--edges", "9-1"), "'--edges'")):
        status, _, error = run("groups", "--counts", counts, *given)
        assert status == 2 and line in " ".join(error.split())


def test_datasets(run: Run, data_root: Path, tmp_path: Path) -> None:
    _, out, _ = run("datasets", "list", "--data-dir", data_root)
    assert [line.split()[1] for line in out.splitlines() if "emoji-lt-mini" in line] == ["drawn"]
    assert [line.split()[1:3] for line in out.splitlines() if "lvis-v1" in line] == [["not", "there"]]
    status, out, _ = run("datasets", "prepare", "emoji-lt-mini", "--data-dir", data_root)
    assert status == 0
    assert "[5,20)" in out and "CC BY" in out


def own(mini: DataSet, *options: object) -> tuple[object, ...]:
    """Arguments that name the files of the embedded set as one's own."""
    files = {"annotations": (mini.train_annotations, mini.val_annotations),
             "images": (mini.train_images, mini.val_images)}  # fmt: skip
    named = [(f"--{split}-{kind}", path) for kind, paths in files.items()
             for split, path in zip(("train", "val"), paths, strict=True)]  # fmt: skip
    return ("datasets", "prepare", "custom", *(part for pair in named for part in pair), *options)


def test_ones_own_data_set(run: Run, finished: Path, mini: DataSet, tmp_path: Path) -> None:
    data = ("--data-dir", tmp_path)
    status, out, _ = run(*own(mini, "--name", "my-set", "--bin-edges", "3,30", *data))
    assert status == 0 and "[3,30)" in out and "my-set: 12 classes" in out
    assert "my-set" in run("datasets", "list", *data)[1]
    assert "[3,30)" in run("datasets", "prepare", "my-set", *data)[1]
    detections = finished / "baseline" / "detections.npz"
    status, out, _ = run("evaluate", detections, "--dataset", "my-set", *data)
    assert status == 0 and "[3,30)" in out, "its own bins"


def test_what_a_check_found_is_said(run: Run, mini: DataSet, tmp_path: Path) -> None:
    content = json.loads(mini.train_annotations.read_text())
    content["annotations"][0]["bbox"][2] = 0
    content["images"].append(content["images"][0] | {"id": 12345, "file_name": "gone.jpg"})
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] != 7]
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(content))
    arguments = own(replace(mini, train_annotations=changed), "--name", "odd", "--data-dir", tmp_path / "data")
    status, _, err = run(*arguments)
    assert status == 2 and "1 of 109 images of changed.json are missing: gone.jpg" in err
    status, out, _ = run(*arguments, "--skip-missing")
    assert status == 0
    assert "train: 1 of 109 images of changed.json are missing: gone.jpg" in out
    what = "train: 1 boxes have no width or height, or negative ones, and are not trained on"
    assert f"{what}: annotations {content['annotations'][0]['id']}" in out
    assert f"train: 1 class without an instance: {mini.categories().names[6]}" in out


def test_weight_norms(run: Run, finished: Path, mini: DataSet, tmp_path: Path) -> None:
    checkpoint = finished / "bags" / "checkpoint.pth"
    status, out, _ = run("weight-norms", checkpoint, "-o", tmp_path / "norms.csv")
    assert status == 0
    assert "Spearman" in out and "background" in out
    frame = pd.read_csv(tmp_path / "norms.csv")
    stored = pd.read_csv(checkpoint.parent / "per_category.csv")
    assert np.allclose(frame["weight_norm"], stored["weight_norm"])
    _, out, _ = run("weight-norms", checkpoint, "--train-annotations", mini.train_annotations)
    assert "GroupSoftmaxClassifier; 18 rows, background is row 0; 12 classes" in out
    assert sum(line.split()[:1] == ["background"] for line in out.splitlines()) == 1


def test_weight_norms_of_a_run_and_its_epochs(run: Run, finished: Path, mini: DataSet, tmp_path: Path) -> None:
    norms = {}
    for path in (finished / "baseline", *sorted((finished / "baseline").glob("epoch_*.pth"))[-1:]):
        status, out, err = run("weight-norms", path, "-o", tmp_path / "norms.csv")
        assert status == 0, err
        assert "imbalance-bench, SoftmaxClassifier" in out and "Spearman" in out
        assert ("correlation of logit magnitude and train instances" in out) == path.is_dir(), "of a finished run"
        norms[path.suffix] = pd.read_csv(tmp_path / "norms.csv")
    stored = pd.read_csv(finished / "baseline" / "per_category.csv")
    for column in ("logit_magnitude", "logit_rsd"):
        assert norms[""].pop(column).to_numpy() == pytest.approx(stored[column], nan_ok=True)
    pd.testing.assert_frame_equal(norms[""], norms[".pth"])
    status, out, err = run("weight-norms", tmp_path)
    assert status == 2 and "it is a folder without a checkpoint in it" in err


def test_weight_norms_are_matched_by_name(run: Run, tmp_path: Path) -> None:
    ids = {"d": 40, "a": 10, "c": 30, "b": 20, "more": 5}
    content = {"images": [{"id": 1}], "categories": [{"id": i, "name": n} for n, i in ids.items()],
               "annotations": [{"image_id": 1, "category_id": i} for i in ids.values()]}  # fmt: skip
    (tmp_path / "train.json").write_text(json.dumps(content))
    weights = {"roi_head.bbox_head.fc_cls.weight": torch.diag(torch.tensor([3.0, 1, 4, 2, 9]))}
    torch.save({"state_dict": weights, "meta": {"CLASSES": ("c", "a", "d", "b")}}, tmp_path / "x.pth")
    status, out, err = run("weight-norms", tmp_path / "x.pth", "--train-annotations", tmp_path / "train.json",
                           "-o", tmp_path / "norms.csv")  # fmt: skip
    assert status == 0, err
    assert "1 categories that the checkpoint does not know are left out: more" in " ".join(out.split())
    frame = pd.read_csv(tmp_path / "norms.csv").set_index("name")["weight_norm"]
    assert frame.to_dict() == {"a": 1, "b": 2, "c": 3, "d": 4, "background": 9}


def test_weight_norms_of_other_frameworks(run: Run, tmp_path: Path) -> None:
    weights = {stage: torch.arange(1.0, 15).reshape(7, 2) * (stage + 1) for stage in (0, 1)}
    state = {f"roi_heads.box_predictor.{stage}.cls_score.weight": weight for stage, weight in weights.items()}
    path = tmp_path / "cascade.pth"
    torch.save({"model": state, "iteration": 90_000}, path)
    status, out, err = run("weight-norms", path, "-o", tmp_path / "norms.csv", "--background", "first")
    assert status == 0, err
    assert "7 rows, background is row 0; 6 classes" in out and "Spearman" not in out
    assert out.count("roi_heads.box_predictor.1\t") == 1 and "--counts" in out
    frame = pd.read_csv(tmp_path / "norms-roi_heads.box_predictor.1.csv")
    expected = np.roll(np.linalg.norm(weights[1].numpy(), axis=1), -1)
    assert np.allclose(frame["weight_norm"], expected)
    (tmp_path / "counts.csv").write_text("instance_count,name\n3,a\n50,b\n60,c\n500,d\n600,e\n5000,f\n")
    named = ("--counts", tmp_path / "counts.csv", "--figure", tmp_path / "norms.png", "-o", tmp_path / "table.csv")
    status, out, err = run("weight-norms", path, *named, "--key", "model.roi_heads.box_predictor.1.cls_score.weight",
                           "--background", "first")  # fmt: skip
    assert status == 0, err
    assert "Spearman correlation of norm and train instances: 1.000" in out
    frame = pd.read_csv(tmp_path / "table.csv", keep_default_na=False)
    assert np.allclose(frame["weight_norm"], expected)
    assert frame["name"].tolist() == [*"abcdef", "background"] and frame["bin"].tolist() == [1, 2, 2, 3, 3, 4, 0]
    assert (tmp_path / "norms.png").stat().st_size > 10_000


def test_table_and_figures(run: Run, folders: tuple[str, ...], tmp_path: Path) -> None:
    status, out, _ = run("table", 1, *MINI, *folders[:2], "--versus-paper", "-o", tmp_path)
    assert status == 0
    assert "(14)" in out and "baseline" in out and "[5,20) (2 classes)" in out
    assert (tmp_path / "table1.md").exists()
    chosen = ("--columns", "mAP,AP4", "--delta", "baseline", "-o", tmp_path)
    status, out, err = run("table", 1, *MINI, *folders[:2], *chosen)
    assert status == 0, err
    assert "Table 1, differences to baseline: average precision" in out and "AP3" not in out and "accuracy" not in out
    assert r"row & method & mAP & AP4 \\" in (tmp_path / "table1.tex").read_text()
    for wrong, said in ((("--columns", "mAP,AP9"), "AP9"), (("--delta", "crt"), "no finished run 'crt'")):
        status, _, err = run("table", 1, *MINI, *folders[:2], *wrong)
        assert status == 2 and said in err
    status, out, _ = run("table", 1, "--published")
    assert "25.96" in out and "misprint" in out
    for name in ("weight-norms", "ap-by-bin", "detections"):
        where = folders if name == "detections" else folders[:2]
        status, _, err = run("figure", name, *MINI, *where, "-o", tmp_path / f"{name}.png")
        assert status == 0, err
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000


def test_run_baseline_reports_a_finished_run(run: Run, folders: tuple[str, ...]) -> None:
    # The fixture trained with a shorter schedule than the command's, and the folder says so.
    status, _, err = run("run-baseline", "--method", "baseline", *MINI, *folders)
    assert status == 2
    assert "schedule" in err and "--work-dir" in err


def test_run_all_plans_and_goes_on_after_failures(run: Run, folders: tuple[str, ...]) -> None:
    status, out, _ = run("run-all", "--table", 4, *MINI, *folders, "--dry-run")
    assert status == 0
    assert "5 of 7 runs are left" in out
    assert any(line.split()[:1] == ["bags:groups=2"] and "0 of 1" in line for line in out.splitlines())
    # Every run starts from the fixture's baseline, which has another schedule: each fails, none stops the others.
    status, out, err = run("run-all", "--table", 4, *MINI, *folders)
    assert status == 2
    assert out.count("failed") == 7
    assert "7 of 7 runs failed" in err and err.count("\n") == 1


def test_runs(run: Run, folders: tuple[str, ...]) -> None:
    status, out, _ = run("runs", *folders[:2])
    assert status == 0
    assert any(line.split()[:2] == ["emoji-lt-mini/tiny/seed0/bags", "done"] for line in out.splitlines())


def test_export(run: Run, folders: tuple[str, ...], tmp_path: Path) -> None:
    status, _, _ = run("export", *folders[:2], "-o", tmp_path)
    assert status == 0
    copied = sorted(str(path.relative_to(tmp_path / "emoji-lt-mini/tiny/seed0")) for path in tmp_path.rglob("*.*"))
    assert copied == [f"{m}/{f}" for m in ("bags", "baseline") for f in ("per_category.csv", "record.json")]
    status, out, _ = run("table", 1, *MINI, "--work-dir", tmp_path)
    assert status == 0 and "(14)" in out


def bad_inputs(
    folders: tuple[str, ...], finished: Path, mini: DataSet, tmp_path: Path
) -> dict[str, tuple[tuple[object, ...], str]]:
    """Arguments, and what the one line must say."""
    checkpoint = finished / "baseline" / "checkpoint.pth"
    truncated = tmp_path / "truncated.pth"
    truncated.write_bytes(checkpoint.read_bytes()[:5000])
    text = tmp_path / "text.json"
    text.write_text("{not json")
    field = tmp_path / "field.json"
    field.write_text(json.dumps({"images": [], "annotations": []}))
    other = tmp_path / "other.json"
    content = json.loads(mini.train_annotations.read_text())
    content["categories"].append({"id": 99, "name": "extra"})
    other.write_text(json.dumps(content))
    foreign = tmp_path / "foreign.pth"
    torch.save({"state_dict": {"fc_cls.weight": torch.zeros(13, 4), "fc_cls.bias": torch.zeros(13)}}, foreign)
    wide = tmp_path / "wide.pth"
    torch.save({"state_dict": {"fc_cls.weight": torch.zeros(81, 4), "fc_cls.bias": torch.zeros(81)}}, wide)
    return {
        "method": (("run-baseline", "--method", "tau-nrom"), "did you mean 'tau-norm'"),
        "variant": (
            ("run-baseline", "--method", "bags", "--variant", "x"),
            "has no variant 'x', expected released or paper",
        ),
        "option": (("run-baseline", "--method", "bags", "--variant", "bta=2"), "unknown option 'bta'"),
        "value": (("run-baseline", "--method", "bags", "--variant", "groups=many"), "is not a value like 4"),
        "data set": (("run-baseline", "--dataset", "emoji-lt-smal"), "did you mean 'emoji-lt-small'"),
        "detector": (("run-baseline", *MINI, "--detector", "tny", *folders), "did you mean 'tiny'"),
        "device": (("run-baseline", "--device", "tpu"), "expected auto, cpu, cuda or cuda:N"),
        "size": (("demo", "--size", "huge"), "expected mini or small"),
        "absent": (("weight-norms", tmp_path / "absent.pth"), "no such file"),
        "truncated": (("weight-norms", truncated), "truncated"),
        "not JSON": (("weight-norms", checkpoint, "--train-annotations", text), "not readable as JSON"),
        "field": (("weight-norms", checkpoint, "--train-annotations", field), "'categories' is missing"),
        "width": (("weight-norms", foreign, "--train-annotations", other), "13 entries"),
        "no categories": (("weight-norms", foreign, "--figure", tmp_path / "a.png"), "--train-annotations"),
        "no key": (("weight-norms", foreign, "--key", "fc_csl"), "no tensor has this name"),
        "two tables": (
            ("weight-norms", foreign, "--counts", text, "--train-annotations", text),
            "expected one of them",
        ),
        "counts": (("weight-norms", foreign, "--counts", text), "column 'instance_count' is missing"),
        "figure": (("weight-norms", foreign, "--figure", tmp_path / "a.exe"), "option '--figure' is"),
        "another detector": (("evaluate", foreign, *MINI, *folders[2:]), "is not of detector tiny"),
        "another width": (("evaluate", wide, *MINI, *folders[2:]), "expected 1 of 12"),
        "no detections": (("evaluate", tmp_path, *MINI, *folders[2:]), "record.json"),
        "results": (("evaluate", text, *MINI, *folders[2:]), "not readable as JSON"),
        "evaluator": (("evaluate", checkpoint, "--evaluator", "coco"), "expected hotcoco or lvis"),
        "half": (("evaluate", checkpoint, "--val-annotations", text), "go together"),
        "no runs": (("table", 1, *MINI, "--work-dir", tmp_path), "no runs there yet"),
        "table": (("table", 7, *MINI), "Tables 1 to 6"),
        "tracker": (("run-baseline", *MINI, *folders, "--track", "wandbb"), "did you mean 'wandb'"),
        "no study": (("run-all", *MINI), "name at least one study"),
        "study": (("run-all", "--figure", 3, *MINI), "did you mean"),
        "seeds": (("run-all", "--table", 1, "--seeds", "0,x", *MINI), "separated by commas"),
        "nothing to list": (("runs", "--work-dir", tmp_path), "no run folders"),
        "no table": (("table", 9, "--published"), "Tables 1 to 6"),
        "run folder": (
            ("figure", "weight-norms", "focal", *MINI, *folders[:2], "-o", tmp_path / "a.png"),
            "per_category.csv",
        ),
        "not prepared": (
            ("run-baseline", "--dataset", "coco", "--data-dir", tmp_path),
            "'datasets prepare coco --root DIR' does it",
        ),
        "nothing there": (
            ("datasets", "prepare", "coco", "--root", tmp_path, "--data-dir", tmp_path),
            "cocodataset.org",
        ),
        "targets": (("datasets", "prepare", "coco-lt-simcal", "--root", tmp_path), "needs option '--targets'"),
        "no use": (("datasets", "prepare", "emoji-lt-mini", "--root", tmp_path), "'--root' has no use"),
        "half a set": (("datasets", "prepare", "custom", "--name", "a"), "needs option '--train-annotations' too"),
        "taken": (own(mini, "--name", "coco"), "the name of another data set"),
        "name": (own(mini, "--name", "../a"), "expected letters"),
        "edges": (own(mini, "--name", "a", "--bin-edges", "9,3"), "expected whole numbers that ascend"),
        "annotations": (own(replace(mini, val_annotations=text), "--name", "a"), "not readable as JSON"),
        "suffix": (("figure", "ap-by-bin", *MINI, *folders[:2], "-o", tmp_path / "a.exe"), "expected a name that ends"),
        "accuracy": (("proposal-accuracy", tmp_path), "per_category.csv"),
    }


def test_bad_input_is_one_clear_line(
    run: Run, folders: tuple[str, ...], finished: Path, mini: DataSet, tmp_path: Path
) -> None:
    for name, (arguments, expectation) in bad_inputs(folders, finished, mini, tmp_path).items():
        before = sorted(tmp_path.iterdir())
        status, _, err = run(*arguments)
        assert status == 2, name
        assert expectation in err, name
        assert err.count("\n") == 1 and "Traceback" not in err, name
        assert sorted(tmp_path.iterdir()) == before, "nothing half-written stays"


def test_debug_raises(run: Run, tmp_path: Path) -> None:
    from imbalance_bench.runtime.errors import InputError

    with pytest.raises(InputError):
        run("weight-norms", tmp_path / "absent.pth", "--debug")


def test_a_folder_in_use(run: Run, folders: tuple[str, ...], tmp_path: Path) -> None:
    from imbalance_bench.experiments.run_folder import RunFolder

    work = ("--work-dir", tmp_path, *folders[2:])
    with RunFolder(tmp_path / "emoji-lt-mini" / "tiny" / "seed0" / "baseline").lock():
        status, _, err = run("run-baseline", *MINI, *work)
    assert status == 2
    assert f"in use by process {os.getpid()} on " in err and err.count("\n") == 1


def test_a_run_is_exported_for_mmdet(run: Run, finished: Path, tmp_path: Path) -> None:
    status, said, _ = run("detectors", "export", finished / "baseline", "-o", tmp_path / "out")
    assert status == 0 and "plain mmdet runs it" in said
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"config.py", "checkpoint.pth"}
    status, _, error = run("detectors", "export", finished, "-o", tmp_path / "none")
    assert status == 2 and "record.json: no such file" in error
    assert not (tmp_path / "none").exists()
