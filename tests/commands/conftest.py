"""The command line called in this process, and runs for it to look at."""

from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest

from imbalance_bench.commands import main, options
from imbalance_bench.datasets.registry import DataSet

Run = Callable[..., tuple[int, str, str]]


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
def folders(mini: DataSet, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Options that name a work dir with a finished baseline and BAGS, quickly trained."""
    from imbalance_bench.detectors.mmdet import catalogue
    from imbalance_bench.experiments.benchmark import Benchmark

    work = tmp_path_factory.mktemp("work")
    tiny = catalogue.get("tiny")
    bench = Benchmark(mini, tiny, work, schedule=replace(tiny.schedule, epochs=2, warmup_iterations=2))
    for method in ("baseline", "bags"):
        bench.run(method)
    return ("--work-dir", str(work), "--data-dir", str(mini.train_images.parents[1]))


@pytest.fixture(scope="session")
def finished(folders: tuple[str, ...]) -> Path:
    """Folder of those runs."""
    return Path(folders[1]) / "emoji-lt-mini" / "tiny" / "seed0"
