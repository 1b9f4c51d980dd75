"""The profile of emoji-lt is that of LVIS v0.5."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from imbalance_bench.bins import LVIS_BIN_EDGES, bin_index
from imbalance_bench.datasets.emoji_profile import PROFILES, share_out

LVIS = Path(__file__).resolve().parents[1] / "data" / "lvis_v0.5_train_counts.csv"


def sizes(counts: np.ndarray, edges: tuple[int, ...]) -> list[int]:
    return np.bincount(bin_index(counts, edges), minlength=len(edges) + 2)[1:].tolist()


def test_full_has_the_bins_of_lvis() -> None:
    counts = PROFILES["emoji-lt-full"].counts_by_rank()
    assert len(counts) == 1230
    assert sizes(counts, LVIS_BIN_EDGES) == [294, 453, 302, 181]
    assert counts[0] == 26148
    assert np.all(np.diff(counts) <= 0)


def test_full_follows_lvis_rank_by_rank() -> None:
    real = pd.read_csv(LVIS)["instance_count"].sort_values(ascending=False).to_numpy()
    ours = PROFILES["emoji-lt-full"].counts_by_rank()
    deviation = np.abs(np.log(ours / real))
    assert deviation.mean() < 0.04
    assert deviation.max() < 0.3
    assert abs(ours.sum() / real.sum() - 1) < 0.05


@pytest.mark.parametrize(("size", "expected"), [("mini", [2, 2, 3, 5]), ("small", [16, 23, 10, 15])])
def test_no_bin_is_empty(size: str, expected: list[int]) -> None:
    profile = PROFILES[f"emoji-lt-{size}"]
    assert sizes(profile.counts_by_rank(), profile.bin_edges) == expected


@pytest.mark.parametrize("size", ["mini", "small", "full"])
def test_the_balanced_twin(size: str) -> None:
    tailed, balanced = PROFILES[f"emoji-lt-{size}"], PROFILES[f"emoji-balanced-{size}"]
    counts = balanced.counts_by_rank()
    assert counts.sum() == tailed.counts_by_rank().sum()
    assert counts.max() - counts.min() <= 1
    assert (balanced.classes, balanced.train_images()) == (tailed.classes, tailed.train_images())


def test_counts_are_permuted_by_the_seed() -> None:
    profile = PROFILES["emoji-lt-small"]
    first, again, other = profile.counts(0), profile.counts(0), profile.counts(1)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(np.sort(first), np.sort(other))
    assert not np.array_equal(first, profile.counts_by_rank()), "class order says nothing of frequency"


def test_instances_are_dealt_out_once() -> None:
    counts = np.array([50, 3, 0, 17])
    images = share_out(counts, 9, np.random.default_rng(0))
    assert len(images) == 9
    assert np.array_equal(np.bincount(np.concatenate(images), minlength=4), counts)
    lengths = [len(image) for image in images]
    assert min(lengths) > 0
    assert len(set(lengths)) > 1
