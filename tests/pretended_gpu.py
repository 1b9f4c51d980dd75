"""A pretended GPU that computes on the CPU: its tensors report another device, and do not mix with CPU tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

MIXED = {Tensor.__getitem__, Tensor.__setitem__, Tensor.copy_, Tensor.to}
"""What a GPU's tensors do with the CPU's; between all others those without dimensions only."""


class OnGPU(Tensor):
    """On the pretended GPU."""


class PretendedGPU(TorchFunctionMode):
    """Every function of torch, as if there were a GPU; of this thread alone."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Checks where tensors are, computes, and says where the results are."""
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if name == "_parse_to":
            return func(*args, **kwargs)
        tensors = [part for part in tree_flatten((args, kwargs))[0] if isinstance(part, Tensor)]
        there = any(isinstance(tensor, OnGPU) for tensor in tensors)
        if func == Tensor.device.__get__:  # type: ignore[attr-defined]
            return torch.device("cuda:0" if there else "cpu")
        if name == "_has_compatible_shallow_copy_type":
            return isinstance(args[0], OnGPU) == isinstance(args[1], OnGPU)
        if func is Tensor.pin_memory:
            return args[0]
        if there and func in (Tensor.numpy, Tensor.__array__):
            raise TypeError("can't convert a GPU's tensor to numpy")
        if there and func not in MIXED and any(part.dim() and not isinstance(part, OnGPU) for part in tensors):
            raise RuntimeError(f"{name}: expected all tensors on one device")
        if func is Tensor.cpu:
            there = False
        for target in [*args[1:], *kwargs.values()] if func is Tensor.to else [kwargs.get("device")]:
            if isinstance(target, Tensor):
                there = isinstance(target, OnGPU)
            elif isinstance(target, (str, torch.device)):
                there = torch.device(target).type == "cuda"
        result = func(*tree_map(_plain, args), **tree_map(_plain, kwargs))
        return tree_map(_on_gpu, result) if there else result


def _on_gpu(part: Any) -> Any:
    return part.as_subclass(OnGPU) if isinstance(part, Tensor) else part


def _plain(part: Any) -> Any:
    if isinstance(part, OnGPU):
        return part.as_subclass(Tensor)
    if isinstance(part, torch.device) or (isinstance(part, str) and part.startswith("cuda")):
        return torch.device("cpu")
    return part


@contextmanager
def pretended_gpu(monkeypatch: pytest.MonkeyPatch, free: int = 1 << 40) -> Iterator[None]:
    """The device ``cuda`` with so many bytes of free memory."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with PretendedGPU():
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)
