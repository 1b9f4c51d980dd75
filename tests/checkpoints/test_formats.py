"""Checkpoint files: every format gives the same tensors, and damaged or hostile ones give one clear line."""

import _codecs
import argparse
import datetime
import gzip
import io
import json
import pickle
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file

from imbalance_bench.checkpoints import formats, own
from imbalance_bench.runtime.errors import InputError

STATE = {"a.weight": torch.arange(12.0).reshape(3, 4), "b": torch.ones(2, dtype=torch.bfloat16)}


def safetensors(path: Path, header: Any, data: bytes, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def entry(begin: int, end: int, shape: tuple[int, ...], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def torch_zip(path: Path, pickled: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    """A torch zip file with another pickle in it."""
    file = io.BytesIO()
    torch.save(STATE, file)
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(path, "w", compression) as target:
        for name in source.namelist():
            target.writestr(name, pickled if name.endswith("data.pkl") else source.read(name))
    return path


class Call:
    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


def test_every_format_gives_the_same(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "new.pth")
    torch.save(STATE, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    data = b"".join(tensor.view(torch.uint8).numpy().tobytes() for tensor in STATE.values())
    header = {"__metadata__": {"format": "pt"}, "b": entry(48, 52, (2,), "BF16"), "a.weight": entry(0, 48, (3, 4)),
              "empty": entry(52, 52, (0, 3))}  # fmt: skip
    safetensors(tmp_path / "x.safetensors", header, data)
    safetensors(tmp_path / "x.bin", header, data)
    arrays = {"a.weight": STATE["a.weight"].numpy(), "b": np.ones(2, "f2")}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"model": arrays, "__author__": "x"}))
    torch.save({"model": arrays, "iteration": 3}, tmp_path / "arrays.pth")
    for path in tmp_path.iterdir():
        ((place, state),) = formats.read(path).states.items()
        assert place == ("model." if path.name in ("x.pkl", "arrays.pth") else "")
        for name, tensor in STATE.items():
            np.testing.assert_array_equal(formats.values(state[name], name, path), tensor.float())


def test_what_training_frameworks_add(tmp_path: Path) -> None:
    log = HistoryBuffer()
    log.update(1.5)
    meta = {"epoch": 12, "seed": np.int64(3), "CLASSES": ("a", "b")}
    content = {"meta": meta, "state_dict": STATE, "message_hub": {"loss": log, "n": np.float64(2)},
               "ema_state_dict": {"steps": 4, "module.a.weight": torch.zeros(1)}, "ema": {"module": STATE}}  # fmt: skip
    torch.save(content, tmp_path / "epoch_12.pth")
    checkpoint = formats.read(tmp_path / "epoch_12.pth")
    assert list(checkpoint.states) == ["state_dict.", "ema_state_dict.", "ema.module."]
    assert checkpoint.meta["epoch"] == 12 and checkpoint.meta["CLASSES"] == ("a", "b")


@pytest.mark.parametrize(
    "call",
    [Call(Path.touch, Path("executed")), Call(eval, "open('executed', 'w')"), Call(getattr, HistoryBuffer, "__init__")],
)
def test_nothing_executes(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": STATE, "meta": call}, "zip.pth")
    torch.save({"state_dict": STATE, "meta": call}, "old.pth", _use_new_zipfile_serialization=False)
    Path("plain.pth").write_bytes(pickle.dumps({"state_dict": call}))
    Path("zoo.pkl").write_bytes(pickle.dumps({"model": call}, protocol=0))
    for name in ("zip.pth", "old.pth", "plain.pth", "zoo.pkl"):
        with pytest.raises(InputError, match=rf"{name}: expected a checkpoint .* it holds an object of") as caught:
            formats.read(name)
        assert "\n" not in str(caught.value)
    assert not Path("executed").exists()


def old_of(content: object) -> bytes:
    """A file in torch's format before 1.6."""
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def hostile(folder: Path) -> dict[str, Path]:
    """Files by what the message must say of them."""
    zeros = bytes(48)
    header = {"a": entry(0, 48, (3, 4))}
    whole = io.BytesIO()
    torch.save({"a": torch.zeros(300, 200)}, whole)
    deep = b"\x80\x02}K\x01" + b"\x85" * 2_000_000 + b"K\x02s."
    cases: dict[str, bytes | Path] = {
        "may be truncated:zip": whole.getvalue()[:20_000],
        "may be truncated:disks": whole.getvalue()[:-26] + b"\x07" + whole.getvalue()[-25:],
        "may be truncated:encoding": old_of(Call(_codecs.encode, "x", "latin7x")),
        "may be truncated:old": old_of({"a": torch.zeros(300, 200)})[:20_000],
        "may be truncated:pickle": pickle.dumps({"model": {"a": np.zeros(9)}})[:-20],
        "it is empty:empty": b"",
        "it is a text file:text": b"not a checkpoint",
        "no tensors:list": pickle.dumps([1, 2]),
        "no tensors:plain": pickle.dumps({"model": {"a": 1}}),
        "nests more than:pickle": deep,
        "nests more than:old": formats.LEGACY_MAGIC + pickle.dumps(1001, 2) + pickle.dumps({}, 2) + deep,
        "nests more than:zip": torch_zip(folder / "deep.pth", deep),
        "is compressed:zip": torch_zip(folder / "bomb.pth", bytes(1 << 20), zipfile.ZIP_DEFLATED),
        "beside its tensors:zip": torch_zip(folder / "large.pth", bytes(formats.MAX_METADATA)),
        "is not an array:shape": pickle.dumps({"model": {"a": Call(np.ndarray, (1 << 40,))}}),
        "header too large:length": safetensors(folder / "0.safetensors", header, zeros, 10**10),
        "invalid header length:truncated": safetensors(folder / "1.safetensors", header, b"", 10**3),
        "file not fully covered:behind": safetensors(folder / "2.safetensors", header, bytes(49)),
        "file not fully covered:short": safetensors(folder / "3.safetensors", header, bytes(47)),
        "invalid offset:two": safetensors(folder / "4.safetensors", header | {"b": entry(44, 92, (3, 4))}, bytes(92)),
        "invalid offset:gap": safetensors(folder / "5.safetensors", header | {"b": entry(52, 56, (1,))}, bytes(56)),
        "expected usize:negative": safetensors(folder / "6.safetensors", {"a": entry(-48, 0, (3, 4))}, zeros),
        "expected usize:shape": safetensors(folder / "7.safetensors", {"a": entry(0, 48, (-3, -4))}, zeros),
        "overflow:size": safetensors(folder / "8.safetensors", {"a": entry(0, 48, (1 << 40, 1 << 40))}, zeros),
        "unknown variant `X`:dtype": safetensors(folder / "9.safetensors", {"a": entry(0, 48, (48,), "X")}, zeros),
        "not readable as safetensors:kind": safetensors(folder / "10.safetensors", [1], zeros),
        "not readable as safetensors:field": safetensors(folder / "11.safetensors", {"a": {"dtype": "F32"}}, zeros),
        "not readable as safetensors:deep": safetensors(folder / "12.safetensors", b'{"a":' + b"[" * 100_000, b""),
        "invalid type. integer `1`:entry": safetensors(folder / "13.safetensors", b'{"a": 1}', b""),
        "safetensors .'F4'.:type": safetensors(folder / "15.safetensors", {"a": entry(0, 1, (2,), "F4")}, b"0"),
        "it is empty:safetensors": folder / "14.safetensors",
    }  # fmt: skip
    (folder / "14.safetensors").write_bytes(b"")
    paths = {}
    for number, (name, content) in enumerate(cases.items()):
        if isinstance(content, bytes):
            (folder / f"case{number}.pth").write_bytes(content)
        paths[name] = content if isinstance(content, Path) else folder / f"case{number}.pth"
    return paths


def test_hostile_files_are_one_clear_line(tmp_path: Path) -> None:
    for name, path in hostile(tmp_path).items():
        with pytest.raises(InputError, match=name.partition(":")[0]) as caught:
            formats.read(path)
        assert str(caught.value).startswith(f"{path}: "), name
        assert "\n" not in str(caught.value), name
    with pytest.raises(InputError, match="no such file"):
        formats.read(tmp_path / "absent.pth")


def test_values_are_checked() -> None:
    weight = torch.ones(3, 2)
    for bad, expectation in [
        (torch.ones(3, 2, dtype=torch.int64), "torch.int64"),
        (weight.to_sparse(), "plain floating-point"),
        (torch.empty(3, 2, device="meta"), "plain floating-point"),
        (torch.ones(1, 1).expand(1 << 20, 1 << 20), "fewer values are stored"),
        (weight.masked_fill(torch.eye(3, 2) > 0, torch.nan), "holds 2 values that are NaN or infinite"),
        (weight / 0, "holds 6 values"),
    ]:
        with pytest.raises(InputError, match=rf"x\.pth: field 'w' .*{expectation}"):
            formats.values(bad, "w", Path("x.pth"))
    for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn):
        assert formats.values(weight.to(dtype), "w", Path("x")).dtype == np.float32
    for bad, expectation in [
        (np.ones((3, 2), np.int64), "int64"),
        (np.where(np.eye(3, 2) > 0, np.nan, 1), "holds 2 values that are NaN or infinite"),
        (np.full((3, 2), 1e300), "holds 6 values"),
    ]:
        with pytest.raises(InputError, match=rf"x\.pth: field 'w' .*{expectation}"):
            formats.values(bad, "w", Path("x.pth"))


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]
)
def test_safetensors_of_every_float(dtype: torch.dtype, tmp_path: Path) -> None:
    """As the package itself writes them from torch."""
    tensor = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    save_file({"other": torch.arange(3), "w": tensor}, tmp_path / "x.safetensors")
    (state,) = formats.read(tmp_path / "x.safetensors").states.values()
    np.testing.assert_array_equal(formats.values(state["w"], "w", Path("x")), tensor.float())
    tensors = own.tensors(state, Path("x"))
    assert torch.equal(tensors["w"].float(), tensor.float()) and torch.equal(tensors["other"], torch.arange(3))


@pytest.mark.parametrize("zipped", [True, False])
def test_what_training_scripts_write_is_inert(zipped: bool, tmp_path: Path) -> None:
    # As torchvision's reference training writes it, and more of the kind.
    content = {
        "model": STATE, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}, "epoch": 3,
        "args": argparse.Namespace(data_path=Path("/data"), lr=0.1, start=datetime.datetime(2024, 1, 2)),
        "meters": defaultdict(list, loss=[1.0]), "order": OrderedDict(a=1), "frozen": frozenset([1]),
        "generators": [np.random.default_rng(0), np.random.RandomState(0), np.random.MT19937(3)],
        "torch": torch.get_rng_state(), "numpy": np.random.RandomState(1).get_state(), "empty": b"",
    }  # fmt: skip
    torch.save(content, tmp_path / "model_3.pth", _use_new_zipfile_serialization=zipped)
    checkpoint = formats.read(tmp_path / "model_3.pth")
    assert torch.equal(checkpoint.states["model."]["a.weight"], STATE["a.weight"])


@pytest.mark.parametrize("keys", [("net",), ("weights",), ("checkpoint", "model"), ("model", "module"), ("my_model",)])
def test_weights_below_other_keys(keys: tuple[str, ...], tmp_path: Path) -> None:
    content: Any = STATE
    for key in reversed(keys):
        content = {key: content}
    torch.save({"epoch": 3, **content}, tmp_path / "x.pth")
    assert list(formats.read(tmp_path / "x.pth").states) == [".".join(keys) + "."]


def test_averaged_weights_come_last(tmp_path: Path) -> None:
    torch.save({"model_ema": STATE, "other": STATE, "state_dict": STATE}, tmp_path / "x.pth")
    assert list(formats.read(tmp_path / "x.pth").states) == ["state_dict.", "other.", "model_ema."]


def archive(path: Path, *names: str) -> bytes:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in names:
            file.writestr(name, b"x" * 100)
    return path.read_bytes()


def scripted() -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), file)
    return file.getvalue()


def test_files_that_are_no_checkpoints_are_named(tmp_path: Path) -> None:
    cases = {
        "a page of a website": b"<!DOCTYPE html><html><head>404",
        "a page of a website :lower": b"\n  <html><body>",
        "a Git LFS pointer; 'git lfs pull'": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "it is empty": b"",
        "a text file": b"weights, some day\n",
        "an archive .gzip.": gzip.compress(b"x" * 99),
        r"an archive .zip. of model\.pth, unpack it": archive(tmp_path / "a.zip", "model.pth"),
        "a scripted module": scripted(),
        "the index of weights in several files": b'{"metadata": {}, "weight_map": {"a": "model-1.safetensors"}}',
        "it is JSON": b'{"a": 1}',
        "an HDF5 file": b"\x89HDF\r\n\x1a\n",
    }
    for says, content in cases.items():
        for name in ("x.pth", "x.safetensors"):
            (tmp_path / name).write_bytes(content)
            if says == "a text file" and name == "x.safetensors":
                continue
            with pytest.raises(InputError, match=says.partition(" :")[0]) as caught:
                formats.read(tmp_path / name)
            assert str(caught.value).startswith(f"{tmp_path / name}: ") and "\n" not in str(caught.value)
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pth")
    with pytest.raises(InputError, match=r"Linear \(a whole module; save its state_dict\(\)\)"):
        formats.read(tmp_path / "module.pth")
    (tmp_path / "dcp").mkdir()
    with pytest.raises(InputError, match="dcp: it is a folder without a checkpoint"):
        formats.read(tmp_path / "dcp")
    (tmp_path / "dcp" / ".metadata").write_bytes(b"")
    with pytest.raises(InputError, match=r"a folder of torch\.distributed\.checkpoint, .*dcp_to_torch"):
        formats.read(tmp_path / "dcp")


def test_content_tells_the_format(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE}, tmp_path / "renamed.safetensors")
    assert list(formats.read(tmp_path / "renamed.safetensors").states) == ["state_dict."]
