"""The number of instances of each class of emoji-lt: the real LVIS v0.5 profile by rank, or a balanced one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from imbalance_bench.datasets.emoji_concepts import Kind

LVIS_V05 = (
    (1, 26148), (5, 7847), (39, 4510), (160, 1277), (181, 1010), (182, 994), (339, 274), (483, 100), (484, 99),
    (801, 21), (936, 10), (937, 9), (1082, 4), (1126, 3), (1127, 3), (1128, 2), (1147, 2), (1159, 2), (1166, 2),
    (1170, 2), (1172, 2), (1173, 2), (1174, 1), (1230, 1),
)  # fmt: skip
"""(rank, train instances) of LVIS v0.5's categories by descending count; between them the profile is log-log linear."""


def lvis_counts_by_rank(classes: int) -> np.ndarray:
    """Return (classes,) LVIS v0.5 train counts, descending, at ranks spread evenly over its 1,230 (section 7.4.1)."""
    ranks = 1 + np.round(np.arange(classes) * 1229 / max(classes - 1, 1)).astype(int)
    anchors = np.log(np.array(LVIS_V05, dtype=np.float64))
    counts = np.exp(np.interp(np.log(ranks), anchors[:, 0], anchors[:, 1]))
    return np.round(counts).astype(int)


@dataclass(frozen=True)
class Look:
    """What makes an embedded set hard: which classes it has, and how they are drawn.

    Attributes:
        concepts: kind of concepts that are its classes (``emoji_concepts.Kind``).
        gains: range of the factor of each colour channel of a glyph.
        offset: largest shift of a colour channel, of 255.
        sides: range of a glyph's longer side as a share of the image's, log-uniform.
        visible: share of its area that an object shows at least.
        fragments: pieces of the classes' glyphs in the background of an image.
        blur: largest standard deviation of the blur of an image, in pixels.
        noise: largest standard deviation of the noise of a pixel, of 255.
    """

    concepts: Kind = "alike"
    gains: tuple[float, float] = (0.4, 1.4)
    offset: float = 60.0
    sides: tuple[float, float] = (0.08, 0.22)
    visible: float = 0.5
    fragments: int = 5
    blur: float = 2.2
    noise: float = 32.0


_SHARP: dict[str, Any] = {"blur": 0.0, "noise": 0.0}
_TIDY: dict[str, Any] = {
    "gains": (0.7, 1.15), "offset": 25.0, "sides": (0.11, 0.32), "visible": 0.6, "fragments": 0,
}  # fmt: skip
LOOKS: dict[str, tuple[str, dict[str, Any]]] = {
    "apart": ("classes that do not look alike", {"concepts": "apart"}),
    "sharp": ("no blur, no noise", _SHARP),
    "tidy": ("objects larger, truer in colour and less hidden, no pieces in the background", _TIDY),
    "plain": ("sharp and tidy", {**_SHARP, **_TIDY}),
    "plain-apart": ("sharp, tidy, and apart", {"concepts": "apart", **_SHARP, **_TIDY}),
}
"""Other looks of emoji-lt-small, for the study of what makes it like LVIS: a description, and what differs."""


@dataclass(frozen=True)
class Profile:
    """The size and class profile of an emoji-lt data set.

    Attributes:
        name: name of the data set.
        classes: number of classes C, at most 1,230.
        image_size: side of the square images in pixels.
        objects: mean number of objects in an image.
        val_images: number of validation images, balanced over the classes.
        max_count: upper limit of the train instances of a class.
        bin_edges: edges of the bins by train instances.
        look: which classes, and how they are drawn.
        balanced: whether every class has the same count; the sum is that of the long-tailed twin, or ``total``.
        total: number of train instances of a balanced set without a twin.
        note: what else a description says.
        epoch_factor: factor for the number of epochs; above 1 for sets of few images, below for many.
        negatives: absent classes that are listed as such for an image, as in LVIS (some present ones are not
            exhaustive then, either); by default all of them.
    """

    name: str
    classes: int
    image_size: int
    objects: float
    val_images: int
    max_count: int
    bin_edges: tuple[int, ...]
    look: Look = Look()
    balanced: bool = False
    total: int | None = None
    note: str = ""
    negatives: int | None = None
    epoch_factor: float = 1

    def counts_by_rank(self) -> np.ndarray:
        """Return (C,) train instances, descending: LVIS's counts at ranks spread evenly over its 1,230."""
        counts = lvis_counts_by_rank(self.classes).clip(1, self.max_count)
        if self.balanced:
            total = self.total or int(counts.sum())
            return total // self.classes + (np.arange(self.classes) < total % self.classes)
        return counts

    def counts(self, seed: int) -> np.ndarray:
        """Return (C,) train instances by class: the profile under a seeded permutation of the classes."""
        return np.random.default_rng([seed, 0]).permutation(self.counts_by_rank())

    def train_images(self) -> int:
        """Return the number of training images that hold all instances at the mean number of objects."""
        return round(self.counts_by_rank().sum() / self.objects)

    def train_labels(self, seed: int) -> list[np.ndarray]:
        """Return the labels of the objects of each training image."""
        return share_out(self.counts(seed), self.train_images(), np.random.default_rng([seed, 1]))


def share_out(counts: np.ndarray, images: int, generator: np.random.Generator) -> list[np.ndarray]:
    """Return the labels of each image: all instances, shuffled, in portions that vary by half around the mean."""
    pool = generator.permutation(np.repeat(np.arange(len(counts)), counts))
    weights = generator.uniform(0.5, 1.5, images)
    bounds = np.round(np.cumsum(weights) / weights.sum() * len(pool)).astype(int)
    return np.split(pool, bounds[:-1])


NEGATIVES = 9
"""Absent classes listed for an image of LVIS v0.5: 9.4 on average."""

_SIZES = {
    "mini": {
        "classes": 12, "image_size": 128, "objects": 8.0, "val_images": 36, "max_count": 150, "bin_edges": (5, 20, 80),
        "epoch_factor": 3,
    },
    "small": {
        "classes": 64, "image_size": 160, "objects": 9.0, "val_images": 300, "max_count": 800,
        "bin_edges": (10, 100, 400), "negatives": NEGATIVES,
    },
    "large": {
        "classes": 1230, "image_size": 160, "objects": 11.0, "val_images": 1150, "max_count": 1500,
        "bin_edges": (10, 100, 1000), "negatives": NEGATIVES, "epoch_factor": 0.25,
    },
    "full": {
        "classes": 1230, "image_size": 320, "objects": 12.0, "val_images": 5000, "max_count": 10**6,
        "bin_edges": (10, 100, 1000), "negatives": NEGATIVES,
    },
}  # fmt: skip

PRETRAINING = "emoji-pretraining"
"""The set of other classes that detectors are trained on before they are on an embedded set."""

PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        *(
            Profile(name=f"{prefix}-{size}", balanced=balanced, **options)  # type: ignore[arg-type]
            for prefix, balanced in (("emoji-lt", False), ("emoji-balanced", True))
            for size, options in _SIZES.items()
        ),
        *(
            Profile(name=f"emoji-lt-small-{name}", note=note, look=replace(Look(), **changes), **_SIZES["small"])  # type: ignore[arg-type]
            for name, (note, changes) in LOOKS.items()
        ),
        Profile(
            name="emoji-lt-small-exhaustive", note="every absent class listed",
            **{**_SIZES["small"], "negatives": None},  # type: ignore[arg-type]
        ),
        Profile(
            PRETRAINING, classes=100, image_size=160, objects=9.0, val_images=200, max_count=360,
            bin_edges=(10, 100, 400), look=Look("pretraining"), balanced=True, total=36_000, epoch_factor=2,
            note="classes of no other set",
        ),
    )
}  # fmt: skip
"""Every embedded data set by name."""

WORLDS = ("emoji-lt-small", *(f"emoji-lt-small-{name}" for name in (*LOOKS, "exhaustive")))
"""The sets of the study of what makes an embedded set like LVIS."""
