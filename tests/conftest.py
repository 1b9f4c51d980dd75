"""Fixtures of all tests: a data set and runs; the package is imported first (torch's threads, mmcv's operators)."""

import imbalance_bench  # noqa: F401  # isort: skip

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib
import pytest
import torch
from browsing import CHROMIUM

from analyses.commands import main
from imbalance_bench.categories import read_json
from imbalance_bench.commands import options
from imbalance_bench.datasets import registry
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.runtime.files import write_json
from imbalance_bench.runtime.locks import locked

Run = Callable[..., tuple[int, str, str]]
Shared = Callable[[str, Callable[[Path], object]], Path]

SLOW = (
    "checkpoints/test_frameworks.py", "experiments/", "diagnosis/test_diagnose.py", "diagnosis/test_torchvision.py",
    "diagnosis/test_transformers.py", "diagnosis/test_mmdet_heads.py",
    "training/", "runtime/test_processes.py", "detectors/mmdet/test_passes.py", "test_odd_data.py",
    "test_notebooks.py", "commands/test_exits.py", "datasets/test_emoji_lt.py", "commands/test_commands.py",
    "commands/test_diagnose_command.py", "test_fuzz.py",
    "documentation/test_site.py",
)  # fmt: skip
"""Modules of tests that train, draw or start other processes, by their place, those that take longest first."""

matplotlib.use("Agg")
torch.set_num_threads(1 if os.environ.get("PYTEST_XDIST_WORKER") else 2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the slow modules, and begin with them, so that at the end no worker waits for a long one."""

    def rank(item: pytest.Item) -> int:
        place = item.path.relative_to(Path(__file__).parent).as_posix()
        return next((number for number, start in enumerate(SLOW) if place.startswith(start)), len(SLOW))

    for item in items:
        if rank(item) < len(SLOW):
            item.add_marker(pytest.mark.slow)
    items.sort(key=rank)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """``shared(name, make)`` -> a folder that ``make`` fills, once for all workers; tests only read it."""
    root = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        root = root.parent

    def get(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = root / name, root / f"{name}.done"
        with locked(root / f"{name}.lock", folder, wait=True):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                make(folder)
                done.touch()
        return folder

    return get


@pytest.fixture(scope="session")
def data_root(shared: Shared) -> Path:
    """A folder of data sets that holds emoji-lt-mini."""
    return shared("data", lambda root: registry.prepare("emoji-lt-mini", root))


@pytest.fixture(scope="session")
def mini(data_root: Path) -> DataSet:
    """emoji-lt-mini, on disk."""
    return registry.get("emoji-lt-mini", data_root)


@pytest.fixture(scope="session")
def few(mini: DataSet, tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """Six validation images of emoji-lt-mini and the sixteen training images with its rarest classes.

    For tests of what is done with a trained detector, however badly it is trained.
    """
    folder = tmp_path_factory.mktemp("few")
    train, val = (read_json(path) for path in (mini.train_annotations, mini.val_annotations))
    counts = Counter(annotation["category_id"] for annotation in train["annotations"])
    classes: dict[int, list[int]] = {image["id"]: [] for image in train["images"]}
    for annotation in train["annotations"]:
        classes[annotation["image_id"]].append(counts[annotation["category_id"]])
    train["images"].sort(key=lambda image: min(classes[image["id"]], default=len(train["annotations"])))
    for name, content, number in (("train", train, 16), ("val", val, 6)):
        images = content["images"][:number]
        kept = {image["id"] for image in images}
        annotations = [annotation for annotation in content["annotations"] if annotation["image_id"] in kept]
        write_json(folder / f"{name}.json", content | {"images": images, "annotations": annotations})
    files = {f"{name}_annotations": folder / f"{name}.json" for name in ("train", "val")}
    return replace(mini, name="few", bin_edges=(2, 4, 16), pretraining=None, **files)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, where there is one; its event loop ends with the module, as other tests have their own."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """``run(*arguments)`` -> (exit status, output, errors)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        out, err = StringIO(), StringIO()
        monkeypatch.setattr("sys.argv", ["imbalance-bench", *map(str, arguments)])
        monkeypatch.setattr(options.console, "file", out)
        monkeypatch.setattr(options.console, "width", 200)
        monkeypatch.setattr(options.errors, "file", err)
        status: object = 0
        try:
            main.main()
        except SystemExit as stop:
            status = stop.code or 0
        return int(status), out.getvalue(), err.getvalue()  # type: ignore[call-overload]

    return call


@pytest.fixture(scope="session")
def folders(mini: DataSet, shared: Shared) -> tuple[str, ...]:
    """Options that name a work dir with a finished baseline and BAGS, quickly trained."""
    from imbalance_bench.detectors.mmdet import catalogue
    from imbalance_bench.experiments.benchmark import Benchmark
    from imbalance_bench.experiments.setup import Setup

    def train(work: Path) -> None:
        tiny = catalogue.get("tiny")
        bench = Benchmark(Setup(mini, tiny), work, schedule=replace(tiny.schedule, epochs=2, warmup_iterations=2))
        for method in ("baseline", "bags"):
            bench.run(method)

    work = shared("work", train)
    return ("--work-dir", str(work), "--data-dir", str(mini.train_images.parents[1]))


@pytest.fixture(scope="session")
def finished(folders: tuple[str, ...]) -> Path:
    """Folder of those runs."""
    return Path(folders[1]) / "emoji-lt-mini" / "tiny" / "seed0"
