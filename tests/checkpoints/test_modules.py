"""Whole modules as data."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from imbalance_bench.checkpoints import modules
from imbalance_bench.checkpoints.pickles import Object
from imbalance_bench.runtime.errors import InputError


class Evil:
    """A pickle that writes a file when it is executed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.path,)


def net() -> nn.Module:
    """Parameters, buffers, a buffer that is not stored, a part that is none, and layers in layers."""
    made = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4), nn.SiLU()), nn.Linear(4, 2, bias=False))
    made[2].register_buffer("left_out", torch.zeros(2), persistent=False)
    made[2].register_module("nothing", None)
    return made


@pytest.mark.parametrize("zipped", [True, False])
def test_its_tensors_are_those_of_its_state_dict(zipped: bool, tmp_path: Path) -> None:
    made = net()
    torch.save({"model": made, "note": "trained"}, tmp_path / "net.pt", _use_new_zipfile_serialization=zipped)
    content = modules.load(tmp_path / "net.pt", "package", "a file")
    found = content["model"]
    assert isinstance(found, Object) and found.kind == "torch.nn.modules.container.Sequential"
    assert content["note"] == "trained" and modules.fields(found, tmp_path, "model")["training"] is True
    state = modules.state_of(found, tmp_path)
    expected = made.state_dict()
    assert state.keys() == expected.keys()
    for name, value in state.items():
        assert (value.numbers() == expected[name].numpy()).all()


def test_other_names_are_refused(tmp_path: Path) -> None:
    for thing, name in (
        ({"model": net(), "x": Evil(tmp_path / "done")}, "builtins.getattr|pathlib"),
        (torch.optim.SGD(net().parameters(), 0.1), "torch.optim.sgd.SGD"),
    ):
        torch.save(thing, tmp_path / "evil.pt")
        with pytest.raises(InputError, match=f"evil.pt: expected a file of tensors .* holds an object of ({name})"):
            modules.load(tmp_path / "evil.pt", "package", "a file")
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"_parameters": {"weight": 3}}, "field 'weight' is a int, expected a tensor"),
        ({"_modules": {"in": 3}}, "field 'in' is a int, expected a module"),
        ({"_buffers": None}, "field '_buffers' is no dictionary of names"),
        ({"_modules": {3: None}}, "field '_modules' is no dictionary of names"),
        (None, "field 'model' is a package.Kind without attributes, expected a module"),
    ],
)
def test_what_is_no_module(changes: dict[str, Any] | None, line: str) -> None:
    module = _module("package.Kind")
    module.state = None if changes is None else {**module.state, **changes}
    with pytest.raises(InputError, match=line):
        modules.state_of(module, Path("x.pt"))


def _module(*kinds: str) -> Object:
    """Modules in each other."""
    inner: dict[str, Any] = {}
    for kind in kinds:
        outer = type("Object", (Object,), {"kind": kind})()
        outer.state = {"_parameters": {}, "_buffers": {}, "_modules": inner}
        inner = {"in": outer, "too": outer}
    return inner["in"]


def test_modules_within_themselves() -> None:
    for module in (_module(*["torch.nn.modules.Module"] * 60), _module("torch.nn.modules.Module")):
        module.state["_modules"].setdefault("self", module)
        with pytest.raises(InputError, match="more than 10,000 modules, or one within itself"):
            modules.state_of(module, Path("x.pt"))
