"""Files of ultralytics: read as data, and refused where they are of something else."""

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("imbalance_bench.detectors.ultralytics.library", exc_type=ImportError)
from little_ultralytics import CLASSES, NAMES, make, save

from imbalance_bench.classifiers import SigmoidClassifier
from imbalance_bench.datasets.generated import generate
from imbalance_bench.detectors.frameworks import open_detector
from imbalance_bench.detectors.ultralytics import file as files
from imbalance_bench.detectors.ultralytics.detector import open_file
from imbalance_bench.diagnosis.trials import fitting
from imbalance_bench.experiments.benchmark import Benchmark
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.methods import candidates
from imbalance_bench.runtime.errors import InputError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def model() -> Any:
    return make("yolo11")


@pytest.fixture
def weights(model: Any, tmp_path: Path) -> Path:
    return save(model, tmp_path / "best.pt")


class Evil:
    """A pickle that writes a file when it is executed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.path,)


def test_reading_imports_nothing_that_the_file_names(weights: Path) -> None:
    """In a process of its own, that is asked for what it has imported."""
    script = (
        "import sys; from pathlib import Path; from imbalance_bench.checkpoints import modules\n"
        f"found = modules.load(Path({str(weights)!r}), 'ultralytics', 'a checkpoint')\n"
        "state = modules.state_of(found['model'], Path('best.pt'))\n"
        "print(len(state), 'ultralytics' in sys.modules, 'torch' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    count, *imported = ended.stdout.split()
    assert int(count) > 100 and imported == ["False", "False"]


def test_all_tensors_are_read(model: Any, weights: Path) -> None:
    file = files.read(weights)
    assert file.names == NAMES and file.train_args["imgsz"] == 96 and "save_dir" not in file.train_args
    assert file.state.keys() == model.state_dict().keys()
    built = file.build().state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(built[name], value), name
    # The averaged weights come first, as ultralytics takes them; a training that has not ended has no others.
    save(model, weights, ema=model, model=None)
    assert files.read(weights).state.keys() == built.keys()


def test_what_a_pickle_would_execute(model: Any, tmp_path: Path) -> None:
    for number, more in enumerate(({"date": Evil(tmp_path / "done")}, {"model": Evil(tmp_path / "done")})):
        path = save(model, tmp_path / f"{number}.pt", **more)
        with pytest.raises(InputError, match=rf"{number}.pt: expected a checkpoint of ultralytics of tensors"):
            files.read(path)
    assert not (tmp_path / "done").exists()


ENDLESS: list[Any] = [1, 2]
for _ in range(60):
    ENDLESS = [ENDLESS, ENDLESS]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"activation": "__import__('os').abort()"}, "field 'activation' of its yaml is"),
        ({"activation": "nn.SiLU(__import__('os').abort())"}, "field 'activation' of its yaml is"),
        ({"nc": 10**9}, "field 'yaml.nc' is 1000000000, expected plain data: numbers up to 10,000"),
        ({"nc": 10**9999}, "field 'yaml.nc' is a int, expected plain data"),
        ({"backbone": ENDLESS}, "is a list, expected plain data"),
        ({"channels": ENDLESS}, "field 'channels' of its yaml is a list, expected 3"),
        ({"backbone": [[7, 1, "Conv", [64, 3, 2]]]}, "field 'yaml' describes no model of ultralytics (IndexError"),
        ({"nc": 0}, "field 'nc' of its yaml is 0, expected a number of classes"),
        ({"nc": 7}, "expected 7 names"),
        ({"channels": 4}, "field 'channels' of its yaml is 4, expected 3"),
        ({"backbone": []}, "field 'backbone' of its yaml is no list of"),
        ({"backbone": "Conv"}, "field 'backbone' of its yaml is no list of"),
        ({"backbone": [[-1, 1, "load_checkpoint", ["evil.pt"]]]}, "has a layer 'load_checkpoint', expected layers of"),
        ({"backbone": [[-1, 1, "TorchVision", [512, "resnet18"]]]}, "has a layer 'TorchVision', expected layers of"),
        ({"backbone": [[-1, 1, "nn.Module", []]]}, "has a layer 'nn.Module', expected layers of"),
        ({"backbone": [[-1, 9999, "Conv", [64, 3, 2]]]}, "repeats layers more often than there are tensors in it"),
        ({"scales": {"n": [9999, 0.125, 256]}}, "repeats layers more often than there are tensors in it"),
        ({"backbone": [[-1, 1, "Conv", ["x"]]]}, "field 'yaml' describes no model of ultralytics ("),
        ({"backbone": [[-1, "Conv"]]}, "is no list of [from, repeats, layer, arguments]"),
        ({"scales": {"n": [0.33, 0.25, 256]}}, "its tensors are not of the model of its yaml: 'model."),
    ],
)  # fmt: skip
def test_a_yaml_that_is_none(changes: dict[str, Any], line: str, model: Any, tmp_path: Path) -> None:
    yaml = model.yaml
    model.yaml = {**yaml, **changes}
    try:
        path = save(model, tmp_path / "bad.pt")
    finally:
        model.yaml = yaml
    with pytest.raises(InputError) as caught:
        open_file("", path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    assert line in str(caught.value)


def test_wrong_files(model: Any, weights: Path, tmp_path: Path) -> None:
    def refused(message: str, path: Path, head: str = "") -> None:
        with pytest.raises(InputError, match=message) as caught:
            open_detector("ultralytics", head, path).adopt(path)
        assert "\n" not in str(caught.value)

    refused("none.pt: no such file, expected a checkpoint of ultralytics", tmp_path / "none.pt")
    torch.save(model.state_dict(), tmp_path / "state.pt")
    refused("state.pt: field 'model' is missing, expected the model that ultralytics saves", tmp_path / "state.pt")
    (tmp_path / "cut.pt").write_bytes(weights.read_bytes()[:5000])
    refused("cut.pt: not readable as a checkpoint of ultralytics", tmp_path / "cut.pt")
    (tmp_path / "text.pt").write_text("hello")
    refused("text.pt: not readable as a checkpoint of ultralytics", tmp_path / "text.pt")
    for suffix, task in (("-seg", "SegmentationModel"), ("-pose", "PoseModel"), ("-obb", "OBBModel")):
        path = save(make("yolo11", task=task, suffix=suffix), tmp_path / "task.pt")
        refused(f"field 'model' is a {task}, expected a DetectionModel: only boxes are measured", path)
    refused(r"field 'names' of its model is .*, expected 5 names", save(model, tmp_path / "names.pt", names=("one",)))
    sizes = save(model, tmp_path / "size.pt", train_args={"imgsz": 10**6})
    refused("field 'imgsz' of its train_args is 1000000, expected 32 to 10,000", sizes)
    refused("option '--model two': expected one2many or one2one", weights, "two")
    refused("option '--model one2one': the model of .* has no such head, expected one2many", weights, "one2one")
    changed = make("yolo11")
    changed.model[-1].cv3[0][-1].bias.data.fill_(torch.nan)
    refused("field 'model.23.cv3.0.2.bias' holds values that are NaN", save(changed, tmp_path / "nan.pt"))
    fused = make("yolo11").fuse(verbose=False)
    refused("it holds an object of builtins.getattr", save(fused, tmp_path / "fused.pt"))


def test_numbers_that_are_not_there(weights: Path, tmp_path: Path) -> None:
    """A pickle of the same length whose storages are cut."""
    with zipfile.ZipFile(weights) as archive, zipfile.ZipFile(tmp_path / "short.pt", "w") as short:
        for entry in archive.infolist():
            content = archive.read(entry)
            short.writestr(entry.filename, content[:-2] if entry.filename.endswith("data/3") else content)
    with pytest.raises(InputError, match="not readable as a checkpoint of ultralytics"):
        open_file("", tmp_path / "short.pt")


def test_class_names(model: Any, tmp_path: Path) -> None:
    """A name that is there twice is of no category; numbers are none."""
    for names in (tuple("01234"), ("a", "b", "c", "d", "a")):
        path = save(model, tmp_path / "names.pt", names=names)
        assert open_file("", path).check_weights(path) == {}


def test_which_methods_fit(weights: Path, tmp_path: Path) -> None:
    data = generate(tmp_path / "data", CLASSES, 6, 2, (64, 64))
    detector = open_file("", weights)
    found, notes = fitting(Benchmark(Setup(data, detector), tmp_path), detector, candidates(None), asked=False)
    assert [method.name for method in found] == [
        "focal-cls", "bags", "bce", "cls-pw", "eql", "droploss", "federated", "gumbel",
    ]  # fmt: skip
    assert any("x2-cls" in note and "a head of sigmoids has none" in note for note in notes)
    assert isinstance(detector.stock_classifier(3, 4), SigmoidClassifier)


def test_the_library_is_imported_quietly(tmp_path: Path) -> None:
    """Nothing is asked of the network, said, or written to the home folder; the environment stays as it was."""
    script = (
        "import os, socket, torch, imbalance_bench\n"
        "def refuse(*_, **__): raise SystemExit('the network was asked')\n"
        "socket.getaddrinfo = socket.socket.connect = refuse\n"
        "before, save = dict(os.environ), torch.save\n"
        "import imbalance_bench.detectors.ultralytics.library\n"
        "assert torch.save is save and dict(os.environ) == before, set(os.environ.items()) ^ set(before.items())"
    )
    environment = {"HOME": str(tmp_path), "PATH": "", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, env=environment
    )
    assert ended.returncode == 0, ended.stderr
    assert not ended.stdout and not ended.stderr
    assert not [path for path in tmp_path.rglob("*") if "ltralytics" in path.name]
