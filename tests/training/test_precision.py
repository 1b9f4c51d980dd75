"""End-to-end training in bfloat16: what is halved, what stays single, and what a run records."""

import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mmengine.dataset import pseudo_collate
from test_resuming import bench_of, equal, heeded, signal_after, weights  # noqa: F401 - heeded is a fixture
from torch.utils.data import DataLoader

from imbalance_bench import methods
from imbalance_bench.datasets.generated import generate
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.detectors.mmdet import catalogue
from imbalance_bench.detectors.mmdet.building import build_detector
from imbalance_bench.detectors.mmdet.precision import multiply_in
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.runtime import devices
from imbalance_bench.runtime.devices import check_precision, resolve_precision
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.signals import Stopped, stoppable


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return generate(tmp_path_factory.mktemp("data"), classes=8, train_images=6, val_images=2, size=(96, 128))


@pytest.mark.parametrize("name", ["tiny", "tiny-htc"])
def test_networks_multiply_in_half_precision_and_nothing_else_does(data: DataSet, name: str) -> None:
    setup = Setup(data, catalogue.get(name))
    run = methods.parse("baseline")
    build = [run.build(setup.categories, setup.detector.tap_dims, None) for _ in range(setup.detector.num_stages)]
    model = build_detector(setup.detector, build, stuff=setup.has_stuff)
    images = DataLoader(setup.training_set(flip=0.0), 2, collate_fn=pseudo_collate)
    batch = model.data_preprocessor(next(iter(images)), training=True)

    def losses() -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        found: dict[str, torch.Tensor] = model.parse_losses(model(**batch, mode="loss"))[1]
        return found

    model.eval()
    with torch.no_grad():
        features = model.extract_feat(batch["inputs"])
    model.train()
    statistics = {key: value.clone() for key, value in model.state_dict().items()}
    single = losses()
    model.load_state_dict(statistics)
    multiply_in(model, torch.bfloat16)
    dtypes = set()
    handle = model.backbone.layer1[0].conv2.register_forward_hook(lambda *parts: dtypes.add(parts[-1].dtype))
    half = losses()
    handle.remove()
    assert dtypes == {torch.bfloat16}
    assert {value.dtype for value in half.values()} == {torch.float32}
    assert float(half["loss"]) == pytest.approx(float(single["loss"]), rel=0.05)
    assert not torch.equal(half["loss"], single["loss"])
    half["loss"].backward()
    assert all(p.grad is None or (p.grad.isfinite().all() and p.grad.dtype == p.dtype) for p in model.parameters())
    model.load_state_dict(statistics)
    model.eval()
    with torch.no_grad():
        assert all(torch.equal(*pair) for pair in zip(features, model.extract_feat(batch["inputs"]), strict=True))


def test_a_run_in_bf16_is_recorded_resumed_and_not_mixed(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = replace(bench_of(data, tmp_path / "whole"), precision="bf16")
    expected = weights(whole)
    settings = {name: whole.run(name).record()["settings"] for name in ("baseline", "bags")}
    assert [settings[name]["precision"] for name in settings] == ["bf16", None], "the cache and BAGS are in fp32"
    with pytest.raises(InputError, match="was run with precision = 'bf16', now it is 'fp32'"):
        replace(whole, precision="fp32").run("baseline")
    single = weights(replace(bench_of(data, tmp_path / "single"), precision="fp32"))
    assert not equal(single, expected)

    stopped = replace(whole, work_dir=tmp_path / "stopped")
    signal_after(monkeypatch, 1, signal.SIGTERM)
    with stoppable(), pytest.raises(Stopped):
        stopped.run("baseline")
    monkeypatch.undo()
    assert equal(weights(stopped), expected)


def test_what_there_is_not_is_said(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [resolve_precision("auto", device) for device in ("cuda", "cuda:1")] == ["fp16", "fp16"]
    for multiplies, precision in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(devices, "_multiplies_bf16", lambda found=multiplies: found)
        assert resolve_precision("auto", "cpu") == precision
    monkeypatch.undo()
    with pytest.raises(InputError, match="precision: 'half', expected auto, fp32, bf16 or fp16"):
        replace(bench_of(data, tmp_path), precision="half")
    with pytest.raises(InputError, match="'fp16' needs a GPU"):
        replace(bench_of(data, tmp_path), precision="fp16").run("baseline")
    for instructions in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, instructions, lambda: False)
    assert "expect fp32 to be faster" in str(check_precision("bf16", "cpu"))
    assert check_precision("fp32", "cpu") is None
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    with pytest.raises(InputError, match="'bf16' is not in this GPU's hardware"):
        check_precision("bf16", "cuda")
