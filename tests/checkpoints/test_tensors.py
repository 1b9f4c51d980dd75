"""Tensors in torch's files and pickles are the arrays that torch reads, of every type and view."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from imbalance_bench.checkpoints import tensors

DTYPES = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool,
)  # fmt: skip


def views() -> list[torch.Tensor]:
    """Whole, parts, transposed, of no element, of no dimension; several of one storage."""
    found = []
    for dtype in DTYPES:
        whole = (100 * torch.rand(4, 6, generator=torch.Generator().manual_seed(0)) - 20).to(dtype)
        found += [whole, whole[1:, 2:5], whole.T, whole[::2, ::3], whole[:0], whole[2, 3], whole.reshape(2, 3, 4)]
    return found


def written(kind: str, content: Any) -> bytes:
    if kind.startswith("protocol"):
        return pickle.dumps(content, int(kind[-1]))
    torch.save(content, file := io.BytesIO(), _use_new_zipfile_serialization=kind == "zip")
    return file.getvalue()


@pytest.mark.parametrize("kind", ["zip", "before 1.6", "protocol 2", "protocol 4", "protocol 5"])
def test_every_view(kind: str, tmp_path: Path) -> None:
    path, theirs = tmp_path / "file", views()
    path.write_bytes(written(kind, {"tensors": theirs, "beside": [1, "a", None, (2.5, True)]}))
    if kind.startswith("protocol"):
        with path.open("rb") as file:
            content = tensors.load_pickle(file, path, "a file")
    else:
        content = tensors.load_torch(path, "a file")
    assert content["beside"] == [1, "a", None, (2.5, True)]
    for ours, own in zip(content["tensors"], theirs, strict=True):
        expected = own.float().numpy() if own.dtype == torch.bfloat16 else own.numpy()
        found = ours.numbers()
        assert found.dtype == expected.dtype and found.shape == expected.shape
        np.testing.assert_array_equal(found, expected)


def test_a_pickle_does_not_change_a_tensor(tmp_path: Path) -> None:
    raw = pickle.dumps([torch.ones(2)], 2)
    state = b"}X\x07\x00\x00\x00storageK\x01sb"  # sets {'storage': 1} as the state of what is before
    place = raw.rindex(b"a.")
    (tmp_path / "file").write_bytes(raw[:place] + state + raw[place:])
    with (tmp_path / "file").open("rb") as file, pytest.raises(ValueError, match="a file"):
        tensors.load_pickle(file, tmp_path / "file", "a file")
