"""The data sets of the suite: a record each, found by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imbalance_bench.categories import CategoryTable, read_json
from imbalance_bench.datasets import coco_format
from imbalance_bench.datasets.emoji_lt import ATTRIBUTION, draw
from imbalance_bench.datasets.emoji_profile import PROFILES, Profile
from imbalance_bench.datasets.prepared import LAYOUTS, RECORD, Layout, read_record
from imbalance_bench.runtime.errors import InputError, look_up
from imbalance_bench.runtime.files import naming
from imbalance_bench.runtime.progress import Reporter


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
        bin_edges: of its bins; None: those of the training file, else LVIS's.
        counted: file whose categories and counts are taken, where the training annotations are a part of more.
        photographs: whether it shows the world; pictures that are drawn are learnt by a small detector from scratch.
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
    bin_edges: tuple[int, ...] | None = None
    counted: Path | None = None
    photographs: bool = True

    def categories(self) -> CategoryTable:
        """Of the training annotations."""
        return CategoryTable.from_annotations(self.counted or self.train_annotations, self.bin_edges)

    def check(self, masks: bool = False, reporter: Reporter | None = None) -> None:
        """Look at annotations and images before hours are spent on them; what is odd is said.

        Args:
            masks: whether masks are used too.
            reporter: shows progress, and says what is odd.

        Raises:
            InputError: ``coco_format.check``, ``images.checked``.
        """
        from imbalance_bench.datasets import images

        reporter = reporter or Reporter()
        hint = "; 'datasets prepare' can leave images out with --skip-missing"
        splits = ((self.train_annotations, self.train_images), (self.val_annotations, self.val_images))
        for path, folder in splits:
            content = read_json(path)
            notes = coco_format.check(content, str(path), masks).notes()
            with reporter.task(f"looking at the images of {path.name}", len(content["images"])) as advance:
                notes += images.checked(content, folder, str(path), hint=hint, advance=advance).notes
            for note in notes:
                reporter.say(f"  {note}")

    def is_prepared(self) -> bool:
        """Whether its files are there."""
        return self.train_annotations.is_file() and self.val_annotations.is_file()


def names(root: Path) -> list[str]:
    """Known data sets: the drawn, the public, and those of one's own that are prepared below ``root``."""
    folders = sorted(path.parent.name for path in root.glob(f"*/{RECORD}"))
    return [*PROFILES, *LAYOUTS, *(name for name in folders if name not in PROFILES and name not in LAYOUTS)]


def get(name: str, root: Path) -> DataSet:
    """The record of a data set below ``root``; of a drawn one, on disk or not.

    Raises:
        InputError: an unknown name (the message holds the nearest one), or one that is not prepared (the message
            holds the command that does it).
    """
    look_up(dict.fromkeys(names(root)), name, "data set")
    folder = root / name
    if name in PROFILES:
        return _drawn(PROFILES[name], folder)
    record = read_record(folder)
    if record is None:
        raise InputError(f"data set '{name}' is not prepared in {root}: {_how_to_prepare(LAYOUTS[name], name)}")
    train, val = record["train"], record["val"]
    dataset = DataSet(
        name=name,
        description=record["description"],
        train_annotations=folder / train["annotations"],
        train_images=folder / train["image_folder"],
        val_annotations=folder / val["annotations"],
        val_images=folder / val["image_folder"],
        lvis_style=record["federated"],
        attribution=record["attribution"],
        bin_edges=tuple(record["bin_edges"]),
        stuff_maps=Path(record["stuff_maps"]) if record.get("stuff_maps") else None,
    )
    if not dataset.is_prepared():
        raise InputError(f"data set '{name}': its annotation files are no longer there, 'datasets prepare' it again")
    return dataset


def describe(name: str, root: Path) -> tuple[str, str]:
    """(state, what it is) of a data set: drawn, not drawn yet, prepared, not there, or damaged."""
    if name in PROFILES:
        state = "drawn" if _drawn(PROFILES[name], root / name).is_prepared() else "not drawn yet"
        return state, _describe(PROFILES[name])
    try:
        return "prepared", get(name, root).description
    except InputError as error:
        if name in LAYOUTS and not (root / name / RECORD).exists():
            return "not there", f"{LAYOUTS[name].what}; from {LAYOUTS[name].site}"
        return "damaged", str(error)


def prepare(name: str, root: Path, reporter: Reporter | None = None, workers: int | None = None) -> DataSet:
    """A data set that is on disk, drawn where it was not.

    Raises:
        InputError: an unknown name, or a data set that cannot be drawn and is not prepared.
    """
    dataset = get(name, root)
    if dataset.is_prepared():
        return dataset
    profile = PROFILES[name]
    total = profile.train_images() + profile.val_images
    with naming(root / name), (reporter or Reporter()).task(f"drawing {name}", total) as advance:
        draw(profile, root, workers=workers, progress=lambda done, total: advance(1))
    return dataset


def _how_to_prepare(layout: Layout, name: str) -> str:
    targets = " --targets FILE" if layout.recipe == "given" else ""
    return (
        f"'datasets prepare {name} --root DIR{targets}' does it, where DIR holds {layout.train[0]} and what else "
        f"{layout.site} gives out"
    )


def _drawn(profile: Profile, folder: Path) -> DataSet:
    return DataSet(
        name=profile.name,
        description=_describe(profile),
        train_annotations=folder / "annotations" / "train.json",
        train_images=folder / "train",
        val_annotations=folder / "annotations" / "val.json",
        val_images=folder / "val",
        lvis_style=profile.federated,
        attribution=ATTRIBUTION,
        epoch_factor=profile.epoch_factor,
        photographs=False,
    )


def _describe(profile: Profile) -> str:
    counts = profile.counts_by_rank()
    return (
        f"{profile.classes} emoji classes, {counts[-1]} to {counts[0]:,} train instances each, "
        f"{profile.train_images():,} + {profile.val_images:,} images of {profile.image_size} px"
    )
