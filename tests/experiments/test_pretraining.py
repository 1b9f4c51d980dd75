"""First weights on embedded data: made once for all runs, taken from the package, or random on request."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import load_file

from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.datasets import emoji_profile
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.detectors.mmdet import backbones, catalogue, shipped
from imbalance_bench.experiments.benchmark import Benchmark
from imbalance_bench.experiments.first_weights import FirstWeights
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.methods import parse
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import sha256
from imbalance_bench.schedule import Schedule

SHORT = Schedule(epochs=1, lr=0.01, batch_size=16, warmup_iterations=0)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pretraining of a few images, for detectors that the package brings no weights of."""
    name = emoji_profile.PRETRAINING
    small = replace(emoji_profile.PROFILES[name], total=90, val_images=6)
    monkeypatch.setitem(emoji_profile.PROFILES, name, small)
    monkeypatch.setattr(shipped, "weights_of", lambda detector: None)


def test_it_is_made_once_and_shared(few: None, mini: DataSet, tmp_path: Path, data_root: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    (root / mini.name).symlink_to(data_root / mini.name)
    runs = []
    for seed in (0, 1):
        setup = Setup.named(mini.name, "tiny-boxes=own" if seed else "tiny", root, seed=seed)
        bench = Benchmark(setup, tmp_path, schedule=SHORT)
        needed = [(on.root.relative_to(tmp_path).as_posix(), str(run)) for on, run in bench.needs(parse("baseline"))]
        assert needed == [("emoji-pretraining/tiny/seed0", "baseline")]
        assert bench.needs(parse("bags")) == [(bench, parse("baseline"))]
        runs.append(bench.run("baseline").record())
    made = tmp_path / "emoji-pretraining" / "tiny" / "seed0" / "baseline"
    settings = json.loads((made / "record.json").read_text())["settings"]
    assert (settings["start"], settings["seed"], settings["pretrained_sha256"]) == ("scratch", 0, None)
    assert [run["settings"]["start"] for run in runs] == ["emoji-pretraining"] * 2
    assert runs[0]["settings"]["pretrained_sha256"] == runs[1]["settings"]["pretrained_sha256"]
    assert list(made.parent.iterdir()) == [made], "nothing else is trained there"


def test_what_is_taken_of_it(few: None, mini: DataSet, tmp_path: Path) -> None:
    """Everything but classifier and box regressor, bit by bit where it stays frozen; half precision on its way."""
    first = Benchmark(Setup(mini, catalogue.get("tiny")), tmp_path / "a", schedule=SHORT, from_scratch=True)
    folder = first.run("baseline")
    assert folder.record()["settings"]["start"] == "scratch"
    path = tmp_path / "tiny.safetensors"
    shipped.write(folder.checkpoint, folder.record(), path)
    stored = load_file(path)
    whole = checkpoints.load(folder.checkpoint)["state_dict"]
    assert {name for name in whole if name not in stored} == {
        f"roi_head.bbox_head.{part}.{kind}" for part in ("fc_cls", "fc_reg") for kind in ("weight", "bias")
    }
    assert all(value.dtype == torch.float16 for value in stored.values() if value.is_floating_point())
    assert path.stat().st_size < 0.6 * sum(4 * value.numel() for value in whole.values())
    assert json.loads(path.with_suffix(".json").read_text()) == json.loads((folder.path / "record.json").read_text())

    second = Benchmark(Setup(mini, catalogue.get("tiny")), tmp_path / "b", schedule=SHORT, pretrained=path)
    trained = checkpoints.load(second.run("baseline").checkpoint)["state_dict"]
    frozen = [name for name in trained if name.startswith(("backbone.conv1.", "backbone.layer1.0.conv"))]
    assert len(frozen) == 3
    for name in frozen:
        assert torch.equal(trained[name], stored[name].float())
    assert not torch.equal(trained["backbone.layer2.0.conv1.weight"], stored["backbone.layer2.0.conv1.weight"].float())


def test_the_package_brings_those_of_tiny(mini: DataSet, tmp_path: Path) -> None:
    detector = catalogue.get("tiny-boxes=shared")
    path = shipped.weights_of(detector)
    assert path is not None and shipped.weights_of(catalogue.get("tiny-mask")) is None
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["settings"]["dataset"] == emoji_profile.PRETRAINING
    assert record["settings"]["detector"] == "tiny"
    bench = Benchmark(Setup(mini, detector), tmp_path)
    assert bench.pretraining is None and bench.first_weights == FirstWeights(emoji_profile.PRETRAINING, path)
    assert Benchmark(Setup(mini, detector), tmp_path, from_scratch=True).first_weights == FirstWeights()
    with pytest.raises(InputError, match="options --pretrained and --from-scratch: expected one start"):
        Benchmark(Setup(mini, detector), tmp_path, from_scratch=True, pretrained=path)


def test_photographs_have_none(mini: DataSet, tmp_path: Path) -> None:
    photographs = replace(mini, photographs=True, pretraining=None)
    bench = Benchmark(Setup(photographs, catalogue.get("tiny")), tmp_path)
    assert bench.pretraining is None and bench.first_weights == FirstWeights()


def test_backbone_weights(mini: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found where there is no other start; named ones come before the pretraining; a tiny detector takes none."""
    found = tmp_path / "mobilenet_v2-0.pth"
    torch.manual_seed(0)
    torch.save(torchvision.models.mobilenet_v2().state_dict(), found)
    photographs = replace(mini, name="my-set", photographs=True, pretraining=None)
    small, tiny = (Setup(photographs, catalogue.get(name)) for name in ("small", "tiny"))
    monkeypatch.setattr(backbones, "find", lambda name: None)
    bench = Benchmark(small, tmp_path)
    assert bench.first_weights == FirstWeights()
    assert "--backbone-weights FILE takes torchvision's mobilenet_v2" in str(bench.random_start)
    monkeypatch.setattr(backbones, "find", lambda name: found if name == "mobilenet_v2" else None)
    assert bench.first_weights == FirstWeights("backbone", found) and bench.random_start is None
    assert Benchmark(tiny, tmp_path).first_weights == FirstWeights()
    assert Benchmark(small, tmp_path, pretrained=found).first_weights == FirstWeights("checkpoint", found)
    drawn = Setup(mini, catalogue.get("small"))
    assert Benchmark(drawn, tmp_path).pretraining is not None
    named = Benchmark(drawn, tmp_path, backbone_weights=found, schedule=SHORT)
    assert named.pretraining is None and named.first_weights == FirstWeights("backbone", found)
    with pytest.raises(InputError, match="'--backbone-weights': there are none for the backbone of 'tiny'"):
        Benchmark(tiny, tmp_path, backbone_weights=found)
    with pytest.raises(InputError, match=r"absent\.pth: no such file, expected weights \('--backbone-weights'\)"):
        Benchmark(small, tmp_path, backbone_weights=tmp_path / "absent.pth")
    run = named.run("baseline")
    settings = run.record()["settings"]
    assert (settings["start"], settings["pretrained_sha256"]) == ("backbone", sha256(found))
    trained, theirs = checkpoints.load(run.checkpoint)["state_dict"], torch.load(found)
    assert torch.equal(trained["backbone.conv1.conv.weight"], theirs["features.0.0.weight"])  # frozen
    last = trained["backbone.conv2.conv.weight"]
    assert not torch.equal(last, theirs["features.18.0.weight"])
    assert torch.allclose(last, theirs["features.18.0.weight"], atol=0.01)
