"""The data sets of the suite: a record each, found by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imbalance_bench.categories import CategoryTable
from imbalance_bench.datasets.emoji_lt import ATTRIBUTION, draw
from imbalance_bench.datasets.emoji_profile import PROFILES, Profile
from imbalance_bench.errors import look_up
from imbalance_bench.progress import Reporter


@dataclass(frozen=True)
class DataSet:
    """Where a data set stands and how it is evaluated.

    Attributes:
        name: on the command line.
        description: one line.
        train_annotations: COCO or LVIS format; bins are counted here.
        train_images: folder of the training images.
        val_annotations: of the validation split.
        val_images: folder of the validation images.
        lvis_style: whether evaluation is federated.
        epoch_factor: epochs of every schedule are multiplied by this (1, but for the smallest sets).
        attribution: whom its pictures are due to.
        stuff_maps: folder of the training images' stuff maps, where there are any.
    """

    name: str
    description: str
    train_annotations: Path
    train_images: Path
    val_annotations: Path
    val_images: Path
    lvis_style: bool
    attribution: str
    epoch_factor: int = 1
    stuff_maps: Path | None = None

    def categories(self) -> CategoryTable:
        """Of the training annotations."""
        return CategoryTable.from_annotations(self.train_annotations)

    def is_prepared(self) -> bool:
        """Whether its files are there."""
        return self.train_annotations.is_file() and self.val_annotations.is_file()


def names() -> list[str]:
    """Known data sets."""
    return list(PROFILES)


def get(name: str, root: Path) -> DataSet:
    """The record of a data set below ``root``, on disk or not.

    Raises:
        InputError: an unknown name; the message holds the nearest one.
    """
    profile, folder = look_up(PROFILES, name, "data set"), root / name
    return DataSet(
        name=name,
        description=_describe(profile),
        train_annotations=folder / "annotations" / "train.json",
        train_images=folder / "train",
        val_annotations=folder / "annotations" / "val.json",
        val_images=folder / "val",
        lvis_style=profile.federated,
        attribution=ATTRIBUTION,
        epoch_factor=profile.epoch_factor,
    )


def prepare(name: str, root: Path, reporter: Reporter | None = None, workers: int | None = None) -> DataSet:
    """A data set that is on disk, drawn where it was not.

    Raises:
        InputError: an unknown name.
    """
    dataset = get(name, root)
    if dataset.is_prepared():
        return dataset
    profile = PROFILES[name]
    total = profile.train_images() + profile.val_images
    with (reporter or Reporter()).task(f"drawing {name}", total) as advance:
        draw(profile, root, workers=workers, progress=lambda done, total: advance(1))
    return dataset


def _describe(profile: Profile) -> str:
    counts = profile.counts_by_rank()
    return (
        f"{profile.classes} emoji classes, {counts[-1]} to {counts[0]:,} train instances each, "
        f"{profile.train_images():,} + {profile.val_images:,} images of {profile.image_size} px"
    )
