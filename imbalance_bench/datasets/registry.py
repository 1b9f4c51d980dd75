"""The registry of data sets: one record for each name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from imbalance_bench.categories import CategoryTable, read_json
from imbalance_bench.datasets import coco_format
from imbalance_bench.datasets.emoji_lt import ATTRIBUTION, VERSION, draw
from imbalance_bench.datasets.emoji_profile import PRETRAINING, PROFILES, Profile
from imbalance_bench.datasets.layouts import LAYOUTS, Layout
from imbalance_bench.datasets.prepared import RECORD, read_record
from imbalance_bench.runtime.errors import InputError, look_up
from imbalance_bench.runtime.files import naming
from imbalance_bench.runtime.progress import Reporter

FEWEST_SEEN = 20_000
"""Images that twelve epochs see at least, in sets on disk: fewer do not finish a detector that starts from ImageNet."""
MANY_IMAGES = 20_000
"""Training images of which one view is cached: two would take twice the time and the disk, as on LVIS's 57,623."""


@dataclass(frozen=True)
class DataSet:
    """The files of a data set, and the way it is evaluated.

    Attributes:
        name: name on the command line.
        description: description in one line.
        train_annotations: annotation file of the training split, COCO or LVIS format; its instances define the bins.
        train_images: folder of the training images.
        val_annotations: annotation file of the validation split.
        val_images: folder of the validation images.
        lvis_style: whether evaluation is federated.
        epoch_factor: factor for the epochs of every schedule (above 1 for sets of few images, below for many).
        views: cached views of each training image: as it is and flipped, or one (``MANY_IMAGES``).
        attribution: authors of the images.
        stuff_maps: folder of the training images' stuff maps, if there are any.
        bin_edges: edges of the bins; None: those of the training file, else LVIS's.
        counted: file that gives categories and counts, if the training annotations are only a part of the training set.
        photographs: whether images are photographs, which a tiny detector is not made for.
        untrained_in_bins: as of ``CategoryTable``.
        pretraining: name of the embedded set of other classes on which the detectors are trained first; None: of none.
    """

    name: str
    description: str
    train_annotations: Path
    train_images: Path
    val_annotations: Path
    val_images: Path
    lvis_style: bool
    attribution: str
    epoch_factor: float = 1
    views: int = 2
    stuff_maps: Path | None = None
    bin_edges: tuple[int, ...] | None = None
    counted: Path | None = None
    photographs: bool = True
    pretraining: str | None = None
    untrained_in_bins: bool = False

    def categories(self) -> CategoryTable:
        """Return the category table of the training annotations."""
        table = CategoryTable.from_annotations(self.counted or self.train_annotations, self.bin_edges)
        return replace(table, untrained_in_bins=self.untrained_in_bins or table.untrained_in_bins)

    def check(self, masks: bool = False, reporter: Reporter | None = None) -> None:
        """Check annotations and images before a long run, and report what is unusual.

        Args:
            masks: whether masks are used too.
            reporter: reporter that shows progress and what is unusual.

        Raises:
            InputError: see ``coco_format.check`` and ``images.checked``.
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
        """Return whether the annotation files exist."""
        return self.train_annotations.is_file() and self.val_annotations.is_file()


def names(root: Path) -> list[str]:
    """Return the names of all data sets: embedded, public, and the user's own that are prepared below ``root``."""
    folders = sorted(path.parent.name for path in root.glob(f"*/{RECORD}"))
    return [*PROFILES, *LAYOUTS, *(name for name in folders if name not in PROFILES and name not in LAYOUTS)]


def get(name: str, root: Path) -> DataSet:
    """Return the record of a data set below ``root``; an embedded one need not be on disk yet.

    Raises:
        InputError: the name is unknown (the message holds the nearest one), or the data set is not prepared (the
            message holds the command that prepares it).
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
        epoch_factor=_epoch_factor(train.get("images")),
        views=_views(train.get("images")),
        bin_edges=tuple(record["bin_edges"]),
        stuff_maps=Path(record["stuff_maps"]) if record.get("stuff_maps") else None,
        untrained_in_bins=record.get("untrained_in_bins") is True,
    )
    if not dataset.is_prepared():
        raise InputError(f"data set '{name}': its annotation files are no longer there, 'datasets prepare' it again")
    return dataset


def _epoch_factor(images: object) -> float:
    """Return the factor of a set of few images: so many epochs that twelve of a schedule see ``FEWEST_SEEN`` images."""
    return max(1.0, round(FEWEST_SEEN / 12 / max(images, 1), 1)) if isinstance(images, int) else 1.0


def _views(images: object) -> int:
    """Return how often a training image is cached."""
    return 1 if isinstance(images, int) and images >= MANY_IMAGES else 2


def describe(name: str, root: Path) -> tuple[str, str]:
    """Return (state, description) of a data set; its state: drawn, not drawn yet, prepared, not there, or damaged."""
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
    """Return a data set that is on disk; draw an embedded one first if it is not there.

    Raises:
        InputError: the name is unknown, or the data set cannot be drawn and is not prepared.
    """
    dataset = get(name, root)
    draw_missing(dataset, reporter, workers)
    return dataset


def draw_missing(dataset: DataSet, reporter: Reporter | None = None, workers: int | None = None) -> None:
    """Draw an embedded data set that is not on disk.

    Raises:
        InputError: it cannot be drawn, or an earlier version of this package has drawn it otherwise.
    """
    if dataset.name not in PROFILES:
        return
    profile, root = PROFILES[dataset.name], _root(dataset)
    if dataset.is_prepared():
        record = root / dataset.name / "record.json"
        if (drawn := read_json(record).get("version")) != VERSION:
            raise InputError(f"{record}: field 'version' is {drawn}, expected {VERSION}; delete {record.parent}, and "
                             "it is drawn anew")  # fmt: skip
        return
    total = profile.train_images() + profile.val_images
    with naming(root / dataset.name), (reporter or Reporter()).task(f"drawing {dataset.name}", total) as advance:
        draw(profile, root, workers=workers, progress=lambda done, total: advance(1))


def pretraining_of(dataset: DataSet) -> DataSet | None:
    """Return the embedded set, drawn or not, on which detectors are trained before they are on this one."""
    return None if dataset.pretraining is None else get(dataset.pretraining, _root(dataset))


def _root(dataset: DataSet) -> Path:
    """Return the folder of data sets in which an embedded one stands."""
    return dataset.train_annotations.parents[2]


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
        lvis_style=profile.negatives is not None,
        attribution=ATTRIBUTION,
        epoch_factor=profile.epoch_factor,
        views=_views(profile.train_images()),
        photographs=False,
        pretraining=None if profile.name == PRETRAINING else PRETRAINING,
    )


def _describe(profile: Profile) -> str:
    counts = profile.counts_by_rank()
    each = f"{counts[-1]:,} to {counts[0]:,}" if counts[-1] < counts[0] else f"{counts[0]:,}"
    return (
        f"{profile.classes:,} emoji classes, {each} train instances each, {profile.train_images():,} + "
        f"{profile.val_images:,} images of {profile.image_size} px{'; ' * bool(profile.note)}{profile.note}"
    )
