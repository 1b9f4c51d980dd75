"""Batches of cached RoIs: every image once, or by classes; checked by counts."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from imbalance_bench.proposals.batches import balanced_weights, drawing

NUM_CLASSES = 5
"""The last of them has no RoI."""


def cache(count: int = 6, views: int = 2) -> SimpleNamespace:
    """Image i of ids 100.. has 3 + i RoIs in each view; a feature is (view, image, row)."""
    rng = np.random.default_rng(0)
    sizes = [3 + image for _ in range(views) for image in range(count)]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    labels = rng.choice([0, 1, 2, 3, NUM_CLASSES, NUM_CLASSES, NUM_CLASSES], offsets[-1])
    features = [[n // count, n % count, row] for n, size in enumerate(sizes) for row in range(size)]

    def batch(spans: list[slice], device: str) -> tuple[torch.Tensor, torch.Tensor]:
        rows = np.concatenate([np.arange(span.start, span.stop) for span in spans])
        return torch.tensor(features)[rows], torch.from_numpy(labels[rows])

    return SimpleNamespace(
        image_ids=np.array([100 + image for _ in range(views) for image in range(count)]),
        num_images=len(sizes), offsets=offsets, labels=labels, batch=batch, features=np.array(features),
        rows=lambda position: slice(int(offsets[position]), int(offsets[position + 1])),
    )  # fmt: skip


def epoch(proposals: SimpleNamespace, sampling: str, size: int, seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(drawing(proposals, NUM_CLASSES, sampling)(size, torch.Generator().manual_seed(seed), "cpu"))


def test_an_epoch_sees_every_image_once_in_one_view() -> None:
    seen_views = set()
    for seed in range(20):
        batches = epoch(cache(views=3), "uniform", 4, seed)
        assert len(batches) == 2, "6 images in batches of 4"
        rows = torch.cat([features for features, _ in batches]).tolist()
        blocks = Counter((view, image) for view, image, _ in rows)
        assert {image: n for (_, image), n in blocks.items()} == {image: 3 + image for image in range(6)}
        assert len(blocks) == 6
        seen_views |= {view for view, _ in blocks}
    assert seen_views == {0, 1, 2}
    first, again = (epoch(cache(), "uniform", 4, 1)[0] for _ in range(2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])


def test_class_balanced_images() -> None:
    """A class at random among those there are, then an image that holds it at random."""
    proposals = cache()
    image = proposals.features[:, 1]
    holders = [sorted(set(image[proposals.labels == c].tolist())) for c in range(NUM_CLASSES)]
    expected = np.zeros(6)
    for of_class in holders:
        for number in of_class:
            expected[number] += 1 / len(of_class) / sum(map(bool, holders))
    np.testing.assert_allclose(balanced_weights(proposals, NUM_CLASSES), expected)
    drawn = np.zeros(6)
    for seed in range(300):
        for features, _ in epoch(proposals, "class-balanced", 1, seed):
            drawn[int(features[0, 1])] += 1
    np.testing.assert_allclose(drawn / drawn.sum(), expected, atol=0.03)


def test_bi_level() -> None:
    """A class a draw, its RoIs of a view, as many of background there; classes alike, views of a class alike."""
    proposals = cache()
    numbers, views = Counter(), {c: Counter() for c in range(4)}
    for seed in range(300):
        for features, labels in epoch(proposals, "bi-level", 1, seed):
            foreground = labels < NUM_CLASSES
            (label,), ((view, image),) = set(labels[foreground].tolist()), set(map(tuple, features[:, :2].tolist()))
            numbers[label] += 1
            views[label][view, image] += 1
            here = (proposals.features[:, 0] == view) & (proposals.features[:, 1] == image)
            own = proposals.features[here & (proposals.labels == label)].tolist()
            assert features[foreground].tolist() == own
            others = [tuple(row) for row in features[~foreground].tolist()]
            all_others = int((here & (proposals.labels == NUM_CLASSES)).sum())
            assert len(set(others)) == len(others) == min(len(own), all_others)
    assert sum(numbers.values()) == 300 * 6, "as many draws as images"
    assert all(count == pytest.approx(450, abs=80) for count in numbers.values()) and len(numbers) == 4
    for label, of_class in views.items():
        holders = {tuple(row[:2]) for row in proposals.features[proposals.labels == label].tolist()}
        assert set(of_class) == holders
        assert all(n == pytest.approx(numbers[label] / len(holders), rel=0.5) for n in of_class.values())
    sizes = [int((labels < NUM_CLASSES).sum() > 0) for _, labels in epoch(proposals, "bi-level", 4, 0)]
    assert len(sizes) == 2, "6 draws in batches of 4"
