"""Pickles: numpy's arrays are read, nothing executes, and what would exhaust stack or memory is refused unread."""

import io
import pickle
import struct
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from imbalance_bench import pickles
from imbalance_bench.errors import InputError

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
        assert np.array_equal(content[name].tensor().numpy(), array)
    assert content["s"].tensor() is None, "an array of text"


def test_arrays_of_python_2() -> None:
    # What cPickle of Python 2 writes for np.array([1, 2], 'f4'), protocol 2: names and bytes are SHORT_BINSTRING.
    raw = np.array([1, 2], "f4").tobytes()
    written = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87Rq\x03"
        b"(K\x01K\x02\x85cnumpy\ndtype\nq\x04U\x02f4K\x00K\x01\x87Rq\x05"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08" + raw + b"tb."
    )
    array = pickles.load(io.BytesIO(written), PATH)
    assert array.tensor().tolist() == [1, 2]


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
        array.tensor()


def test_shapes_that_do_not_fit() -> None:
    array = load(np.zeros(3))
    assert isinstance(array, pickles.Array) and array.state is not None
    array.state = (1, (1 << 40,), *array.state[2:])
    with pytest.raises(ValueError, match="reshape"):
        array.tensor()


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
