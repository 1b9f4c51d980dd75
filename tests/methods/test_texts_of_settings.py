"""Any text given as a variant or as edges of groups is refused in one line, or read as exactly its value."""

import math
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from imbalance_bench.bins import parse_edges
from imbalance_bench.methods import METHODS
from imbalance_bench.methods.settings import WORDS
from imbalance_bench.runtime.errors import InputError

NAMES = sorted(METHODS)
OPTIONS = sorted({option for method in METHODS.values() for option in method.options})
TEXTS = st.one_of(st.text(max_size=12), st.floats().map(repr), st.integers().map(str), st.sampled_from(["true", "n"]))
SETTINGS = st.lists(st.tuples(st.sampled_from(OPTIONS), TEXTS), min_size=1, max_size=3).map(
    lambda pairs: ",".join(f"{name}={text}" for name, text in pairs)
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(NAMES), st.one_of(SETTINGS, st.text(max_size=20)))
@example("bags", "beta=nan")
@example("bags", "beta=1e400")
@example("bags", "beta=2,beta=3")
@example("bags", "edges=../../x")
@example("bags", "groups=" + "9" * 5000)
@example("tau-norm", "tau=n")
@example("tau-norm", "tau=-0.0")
@example("rfs", "threshold=0")
def test_a_variant_is_refused_or_names_itself(name: str, variant: str) -> None:
    method = METHODS[name]
    try:
        run = method.run(variant)
    except InputError:
        return
    again = method.run(run.variant)
    assert (again, again.settings) == (run, run.settings), "the name is read as the same options"
    assert "/" not in run.folder and run.folder.isprintable()
    for option, value in run.settings.items():
        takes = method.options[option]
        kinds = (float, str) if takes.takes_words else (type(takes.default),)
        assert type(value) in kinds and (not takes.takes_words or isinstance(value, float) or value in WORDS)
        assert not isinstance(value, float) or math.isfinite(value)


@settings(max_examples=200, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
@example(0.123456789)
def test_every_number_comes_back(tau: float) -> None:
    method = METHODS["tau-norm"]
    run = method.run(f"tau={tau!r}")
    assert run.options["tau"] == tau
    assert method.run(run.variant).options["tau"] == tau


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=20), st.from_regex(r"[0-9]{1,4}(-[0-9]{1,4}){0,4}", fullmatch=True)))
@example("٣-٤")
@example("1" * 5000)
@example("5-5")
def test_edges_are_refused_or_what_the_text_says(text: str) -> None:
    """Slowly: digits of ASCII between single dashes, each number above the one before, the first above zero."""
    fits = re.fullmatch(r"[0-9]+(-[0-9]+)*", text) is not None and len(text) < 1000
    numbers = [int(part) for part in text.split("-")] if fits else []
    ascend = bool(numbers) and all(low < high for low, high in zip([0, *numbers], numbers, strict=False))
    if ascend:
        assert parse_edges(text, "-") == tuple(numbers)
    else:
        with pytest.raises(ValueError, match="expected whole numbers that ascend"):
            parse_edges(text, "-")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 10**10), min_size=1, max_size=6, unique=True).map(sorted))
def test_edges_come_back(edges: list[int]) -> None:
    assert parse_edges("-".join(map(str, edges)), "-") == tuple(edges)
