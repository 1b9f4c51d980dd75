"""The README: short, its commands run, its examples give what they show, its numbers are the measured ones."""

import doctest
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import typer
from PIL import Image

from analyses import readme
from analyses.commands.main import app
from imbalance_bench.runtime.errors import InputError

Run = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text()
RESULTS = ROOT / "results" / "measured" / "emoji-lt-small"
COMMANDS = [
    " ".join(shlex.split(command, comments=True))
    for command in re.findall(r"^ {4}(imbalance-bench .*)$", TEXT.replace("\\\n", " "), re.MULTILINE)
]
TRAIN = ("diagnose --config", "run-all", "run-baseline")
"""Commands that train: their options are read, other tests run them."""


def test_it_is_short() -> None:
    assert len(TEXT.splitlines()) <= 150
    assert len(TEXT.split()) <= 1300


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that its commands name, in the working folder."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for split, images in (("train", 12), ("val", 8)):
        corners, sides = rng.integers(0, 20, (6 * images, 2)), rng.integers(8, 20, (6 * images, 2))
        boxes = np.concatenate([corners, sides], axis=1).tolist()
        entries = [
            {"id": n + 1, "image_id": n % images + 1, "category_id": 1 + (n % 6 > 0) + (n % 6 > 2), "bbox": box,
             "area": box[2] * box[3]} for n, box in enumerate(boxes)
        ]  # fmt: skip
        listed = [{"id": i, "file_name": f"{i}.png", "height": 40, "width": 40} for i in range(1, images + 1)]
        categories = [{"id": i, "name": name} for i, name in ((1, "ladle"), (2, "cup"), (3, "chair"))]
        content = {"images": listed, "annotations": entries, "categories": categories}
        Path(f"{split}.json").write_text(json.dumps(content))
        Path(split).mkdir()
        for image in listed:
            Image.new("RGB", (40, 40)).save(Path(split) / str(image["file_name"]))
        found = [
            {**{key: entry[key] for key in ("image_id", "category_id", "bbox")}, "score": 0.9 - 0.01 * n}
            for n, entry in enumerate(entries)
        ]
    for name in ("predictions", "old", "new"):
        Path(f"{name}.json").write_text(json.dumps(found[len(name) :]))
    shapes = {"fc_cls.weight": (4, 8), "fc_cls.bias": (4,), "fc_reg.weight": (12, 8), "fc_reg.bias": (12,)}
    torch.save({f"roi_head.bbox_head.{name}": torch.ones(shape) for name, shape in shapes.items()}, "ckpt.pth")
    shutil.copytree(RESULTS, tmp_path / "work_dirs" / RESULTS.name)
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_run(command: str, folder: Path, run: Run) -> None:
    name, *arguments = command.split()[1:]
    if command.partition(" ")[2].startswith(TRAIN):
        group = typer.main.get_command(app)
        context = typer.Context(group)
        found = group.get_command(context, name)  # type: ignore[attr-defined]
        assert found is not None
        found.make_context(name, arguments)
    else:
        status, _, error = run(name, *arguments)
        assert status == 0, error


def test_commands_are_found() -> None:
    assert len(COMMANDS) > 8
    assert all(f"make {target}" in TEXT for target in ("demo", "test"))


def test_its_examples_give_what_they_show() -> None:
    text = "\n".join(re.findall(r"```pycon\n(.*?)```", TEXT, flags=re.DOTALL))
    examples = doctest.DocTestParser().get_doctest(text, {}, "README.md", "README.md", 0)
    assert len(examples.examples) == 10
    assert doctest.DocTestRunner(verbose=False).run(examples).failed == 0


def test_every_file_it_links_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_its_numbers_are_the_measured_ones() -> None:
    frame = pd.read_csv(RESULTS / "beyond.csv")
    default = frame[frame["kind"] == "default"].set_index("method")
    bags, control = 100 * default.loc["bags"].filter(like="_").astype(float, errors="ignore"), default.loc["x2-cls"]
    words = " ".join(TEXT.split())
    assert f"Of BAGS' {bags['mAP_gain']:.1f} mAP over the baseline {100 * control['mAP_gain']:.1f} come from" in words
    assert f"gains {bags['tail_over_control']:.1f} on the tail, and pays {-bags['head_over_control']:.1f}" in words
    better = default.loc[["reweight-cls", "ldam-drw", "loce", "seesaw"]]
    assert (better["tail_over_control_low"] > default.loc["bags", "tail_over_control_high"]).all()
    assert (better["head_over_control_high"] > 0).all()
    fidelity = pd.read_csv(RESULTS / "table1_fidelity.csv").set_index("measure").loc["mAP"]
    assert f"{fidelity['spearman']:.2f}".lstrip("0") in words


def test_its_table_is_the_result(tmp_path: Path) -> None:
    assert readme.rewritten(TEXT, RESULTS) == TEXT, "python -m analyses.readme writes it"
    frame = pd.read_csv(RESULTS / "beyond.csv")
    frame.assign(tail=frame["tail"] / 2).to_csv(tmp_path / "beyond.csv", index=False)
    assert readme.rewritten(TEXT, tmp_path) != TEXT
    with pytest.raises(InputError, match="no '<!-- found -->'"):
        readme.rewritten("# nothing", RESULTS)


@pytest.mark.parametrize("name", ["LICENSE", "CITATION.cff", "CHANGELOG.md", "constraints.txt"])
def test_no_addresses_of_registries(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "index-url" not in text
    assert name != "constraints.txt" or "://" not in text
