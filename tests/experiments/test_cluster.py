"""Runs on a local Ray with two workers: the run of a killed worker continues, a failed run does not stop others."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from analyses.commands.run_all import order
from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.detectors.mmdet import catalogue
from imbalance_bench.detectors.mmdet.building import drop_closed_logs
from imbalance_bench.experiments.benchmark import Benchmark
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.methods import parse
from imbalance_bench.runtime.errors import InputError, MissingDependency, naming_extras
from imbalance_bench.runtime.files import write_text
from imbalance_bench.schedule import Schedule

ray = pytest.importorskip("ray")
from imbalance_bench.experiments import cluster  # noqa: E402

SHORT = Schedule(epochs=4, lr=0.01, batch_size=2, warmup_iterations=3)


@pytest.fixture(scope="module", autouse=True)
def two_workers() -> Iterator[None]:
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()
    drop_closed_logs()  # those that Ray closed; tests after this one build models by mmdet alone


@pytest.fixture
def bench(few: DataSet, tmp_path: Path) -> Benchmark:
    return Benchmark(Setup(few, catalogue.get("tiny")), tmp_path / "cluster", schedule=SHORT)


def kill_when(sign: Path, lock: Path, killed: list[int]) -> None:
    """Kill the process that holds a lock once a file is there."""
    deadline = time.monotonic() + 300
    # A lock is empty for a moment while another process takes it.
    while not (sign.exists() and len(lock.read_text().split()) > 1) and time.monotonic() < deadline:
        time.sleep(0.05)
    killed.append(int(lock.read_text().split()[1]))
    os.kill(killed[0], signal.SIGKILL)


def test_a_plan_with_a_killed_worker_and_a_failure(bench: Benchmark, tmp_path: Path) -> None:
    jobs = order((bench, parse(run)) for run in ("tau-norm", "bags-tune-all"))
    # BAGS with beta = 1 was run with something else: it fails, and with it what starts from it.
    write_text(bench.folder("bags:beta=1").path / "settings.json", '{"dataset": "another"}')
    baseline, killed = bench.folder("baseline").path, list[int]()
    killer = threading.Thread(target=kill_when, args=(baseline / "epoch_1.pth", baseline / ".run.lock", killed))
    killer.start()
    errors = {str(run): error for (_, run), error in cluster.run_jobs(jobs, cpus=1)}
    killer.join()

    assert set(errors) == {"baseline", "tau-norm", "bags:beta=1", "bags-tune-all"}
    assert errors["baseline"] is None and errors["tau-norm"] is None
    for name in ("bags:beta=1", "bags-tune-all"):
        assert isinstance(errors[name], InputError)
        assert "was run with dataset" in str(errors[name])

    # The baseline was killed, begun again by another process, and went on from an epoch's checkpoint.
    assert int((baseline / ".run.lock").read_text().split()[1]) != killed[0] != os.getpid()
    assert "resumed epoch" in (baseline / "console.log").read_text()
    assert not list(bench.work_dir.glob(".cluster-*"))

    here = replace(bench, work_dir=tmp_path / "here")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    here.run("tau-norm")
    torch.set_num_threads(threads)
    for name in ("baseline", "tau-norm"):
        a, b = bench.folder(name), here.folder(name)
        assert a.per_category.read_bytes() == b.per_category.read_bytes()
        of_a, of_b = (checkpoints.load(folder.checkpoint)["state_dict"] for folder in (a, b))
        assert all(torch.equal(of_a[key], of_b[key]) for key in of_b)
        assert a.record()["metrics"] == b.record()["metrics"]


def test_a_machine_that_does_not_see_the_work_dir(bench: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing is written where this process says: to the workers the folder is another one.
    monkeypatch.setattr(cluster, "write_text", lambda path, text: bench.work_dir.mkdir())
    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: None)
    with pytest.raises(InputError, match=r"does not see .* every machine of the cluster shares"):
        list(cluster.run_jobs([(bench, parse("baseline"))]))
    assert not bench.folder("baseline").path.exists()


def test_what_a_task_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    def on(*machines: dict[str, float]) -> list[dict[str, float]]:
        nodes = [{"Alive": True, "Resources": machine} for machine in machines]
        monkeypatch.setattr(ray, "nodes", lambda: [*nodes, {"Alive": False, "Resources": {"CPU": 64, "GPU": 8}}])
        return [cluster.resources(parse(run), cluster.CPUS) for run in ("baseline", "bags", "tau-norm")]

    assert on({"CPU": 2}) == [{"num_cpus": 2}, {"num_cpus": 1}, {"num_cpus": 1}]
    assert on({"CPU": 2}, {"CPU": 16}) == [{"num_cpus": 4}, {"num_cpus": 1}, {"num_cpus": 1}]
    share = {"num_cpus": 1, "num_gpus": 0.25}
    assert on({"CPU": 8}, {"CPU": 16, "GPU": 2}) == [{"num_cpus": 1, "num_gpus": 1}, share, share]


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependency, match=r"pip install 'imbalance-bench\[cluster\]'"), naming_extras():
        cluster.connect()
