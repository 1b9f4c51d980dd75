"""Pickles: numpy arrays are read, nothing is executed, and pickles that would exhaust stack or memory are refused."""

import argparse
import datetime
import io
import pathlib
import pickle
import pickletools
import struct
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imbalance_bench.checkpoints import pickles, tensors
from imbalance_bench.runtime.errors import InputError

PATH = Path("x.pkl")


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


def load(content: object, protocol: int = 2) -> object:
    return pickles.load(io.BytesIO(pickle.dumps(content, protocol)), PATH)


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("dtype", ["f2", "f4", ">f4", "f8", "i8", "u1", "b1"])
def test_arrays(protocol: int, dtype: str) -> None:
    array = (np.arange(12) % 5).astype(dtype).reshape(3, 4)
    content = load(OrderedDict(a=array, f=np.asfortranarray(array), s=np.array(["x"]), n=np.float64(2)), protocol)
    assert isinstance(content, OrderedDict)
    for name in ("a", "f"):
        assert np.array_equal(content[name].numbers(), array)
    assert content["s"].numbers() is None, "an array of text"


def test_arrays_of_python_2() -> None:
    # What cPickle of Python 2 writes for np.array([1, 2], 'f4'), protocol 2: names and bytes are SHORT_BINSTRING.
    raw = np.array([1, 2], "f4").tobytes()
    written = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87Rq\x03"
        b"(K\x01K\x02\x85cnumpy\ndtype\nq\x04U\x02f4K\x00K\x01\x87Rq\x05"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08" + raw + b"tb."
    )
    array = pickles.load(io.BytesIO(written), PATH)
    assert array.numbers().tolist() == [1, 2]


@pytest.mark.parametrize(
    "call",
    [
        Call(Path.touch, Path("executed")),
        Call(eval, "open('executed', 'w')"),
        Call(getattr, Path, "touch"),
        Call(np.ndarray.__new__, np.ndarray, (2,)),
    ],
)
def test_nothing_executes(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for protocol in (0, 2, 4):
        with pytest.raises(InputError, match=r"x\.pkl: .*object of \S+") as caught:
            load({"model": call}, protocol)
        assert "\n" not in str(caught.value)
    assert not Path("executed").exists()


def test_an_array_allocates_no_more_than_the_file_holds() -> None:
    array = load(Call(np.ndarray, (1 << 50,), "O"))
    assert isinstance(array, pickles.Array)
    with pytest.raises(ValueError, match="state"):
        array.numbers()


def test_shapes_that_do_not_fit() -> None:
    array = load(np.zeros(3))
    assert isinstance(array, pickles.Array) and array.state is not None
    array.state = (1, (1 << 40,), *array.state[2:])
    with pytest.raises(ValueError, match="reshape"):
        array.numbers()


NESTED = {
    "tuples": b"\x80\x02}K\x01" + b"\x85" * 2_000_000 + b"K\x02s.",
    "marked tuples": b"\x80\x02}" + b"(" * 500 + b"t" * 500 + b"K\x02s.",
    "through the memo": b"\x80\x02}K\x01" + b"".join(b"q" + bytes([n % 256]) + b"h" + bytes([n % 256]) + b"\x86"
                                                     for n in range(500)) + b"K\x02s.",
    "lists": b"\x80\x02" + b"]" * 500 + b"a" * 499 + b".",
    "frozen sets": b"\x80\x04" + b"(" * 500 + b"\x91" * 500 + b".",
}  # fmt: skip


@pytest.mark.parametrize("kind", NESTED)
def test_deep_nesting_is_refused_unread(kind: str) -> None:
    with pytest.raises(InputError, match="nests more than 200 containers"):
        pickles.check(io.BytesIO(NESTED[kind]), PATH)


def test_long_and_wide_is_not_deep() -> None:
    content: list[object] = [{"a": [(n, (n,))]} for n in range(5000)]
    assert load(content) == content
    nested: object = 1
    for _ in range(100):
        nested = (nested,)
    assert load({nested: [nested]}) == {nested: [nested]}


def test_a_memo_that_room_is_made_for() -> None:
    with pytest.raises(InputError, match="memo index 4294967295"):
        pickles.load(io.BytesIO(b"\x80\x02Nr" + struct.pack("<I", (1 << 32) - 1) + b"."), PATH)


@pytest.mark.parametrize(
    "damage", [b"", b"text", b"\x80\x02}", b"\x80\x02.", b"\x80\x02h\x07.", b"\x80\x04\x8e" + b"\x7f" * 8]
)
def test_damaged(damage: bytes) -> None:
    with pytest.raises(InputError, match="truncated"):
        pickles.load(io.BytesIO(damage), PATH)


def trained() -> dict[str, Any]:
    """What training scripts write beside the weights."""
    now = datetime.datetime(2024, 5, 6, tzinfo=datetime.timezone.utc)
    return {
        "args": argparse.Namespace(data=pathlib.PurePosixPath("/data"), lr=0.1, start=now, device="cuda"),
        "here": Path("x"), "windows": pathlib.PureWindowsPath("c:\\x"), "took": datetime.timedelta(hours=1),
        "meters": defaultdict(list, loss=[1.0]), "counts": Counter("aab"), "default": defaultdict(int),
        "generators": [np.random.default_rng(0), np.random.RandomState(0), np.random.Philox(0)],
        "state": np.random.RandomState(1).get_state(), "kinds": {int, frozenset([1])}, "seed": np.int64(3),
    }  # fmt: skip


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_training_scripts_write_is_inert(protocol: int) -> None:
    content = load({"model": {"w": np.ones(2)}, **trained()}, protocol)
    assert isinstance(content, dict) and content["model"]["w"].numbers().tolist() == [1, 1]
    assert content["meters"] == {"loss": [1.0]} and content["default"] == {} and type(content["meters"]) is dict
    for inert in (content["args"], content["here"], content["took"], *content["generators"]):
        assert type(inert) is pickles._Inert and vars(inert) == {}


PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
KEYS = st.text() | st.integers() | st.booleans() | st.none() | st.tuples(st.text(), st.integers())
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner) | st.lists(inner).map(tuple)
    | st.sets(st.integers()) | st.dictionaries(st.text(), inner).map(OrderedDict),
    max_leaves=30,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(VALUES, st.integers(2, 5))
def test_plain_values_come_back(value: object, protocol: int) -> None:
    read = load(value, protocol)
    assert read == value and type(read) is type(value)


CALLS = [op for op in pickletools.opcodes if op.name in
         ("REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "GLOBAL", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4", "BUILD",
          "PERSID", "BINPERSID", "READONLY_BUFFER", "NEXT_BUFFER")]  # fmt: skip


def called(name: str, module: str, function: str) -> bytes:
    """A pickle that calls a function by each opcode that can."""
    text = lambda t: b"\x8c" + bytes([len(t)]) + t.encode()  # noqa: E731
    named = text(module) + text(function) + b"\x93"
    return b"\x80\x04" + {
        "REDUCE": named + text("x") + b"\x85R",
        "INST": b"(" + text("x") + b"i" + f"{module}\n{function}\n".encode(),
        "OBJ": b"(" + named + text("x") + b"o",
        "NEWOBJ": named + text("x") + b"\x85\x81",
        "NEWOBJ_EX": named + text("x") + b"\x85}\x92",
        "GLOBAL": f"c{module}\n{function}\n".encode(),
        "STACK_GLOBAL": named,
        "EXT1": b"\x82\x01", "EXT2": b"\x83\x01\x00", "EXT4": b"\x84\x01\x00\x00\x00",
        "BUILD": named + b"}b",
        "PERSID": b"Px\n", "BINPERSID": text("x") + b"Q",
        "READONLY_BUFFER": b"N\x98", "NEXT_BUFFER": b"\x97",
    }[name] + b"."  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([op.name for op in CALLS]),
    st.sampled_from(["os.system", "builtins.eval", "builtins.exec", "posix.system", "subprocess.Popen", "pathlib.os"]),
)
def test_what_calls_is_refused(opcode: str, function: str) -> None:
    with pytest.raises(InputError, match=r"x\.pkl: "):
        pickles.load(io.BytesIO(called(opcode, *function.split("."))), PATH)


@pytest.mark.parametrize("name", sorted(tensors.STAND_INS))
def test_a_pickle_changes_no_stand_in(name: str) -> None:
    stand_in = tensors.STAND_INS[name]
    before = dict(vars(stand_in)) if hasattr(stand_in, "__dict__") else {}
    defaults = getattr(stand_in, "__defaults__", None)
    module, _, function = name.rpartition(".")
    state = b"N}" + b"\x8c\x0c__defaults__K\x01\x85s\x86"
    for built in (state, b"}\x8c\x01xK\x01s"):
        raw = b"\x80\x04" + b"\x8c" + bytes([len(module)]) + module.encode()
        raw += b"\x8c" + bytes([len(function)]) + function.encode() + b"\x93" + built + b"b."
        with pytest.raises(InputError):
            tensors.load_pickle(io.BytesIO(raw), PATH, "a file")
    assert getattr(stand_in, "__defaults__", None) == defaults
    assert (dict(vars(stand_in)) if hasattr(stand_in, "__dict__") else {}) == before
