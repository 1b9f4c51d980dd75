"""The layouts of public data sets below one folder, as their sites publish them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from imbalance_bench.datasets.formats import objects365, open_images
from imbalance_bench.datasets.split import Split
from imbalance_bench.runtime.progress import Reporter

COCO_IMAGES = "images: their Flickr users, under Flickr's terms of use"


@dataclass(frozen=True)
class Layout:
    """The layout of a public data set below one folder, as its site publishes it.

    Attributes:
        what: description in one line.
        site: site that publishes the data set.
        train: annotation file and image folder of the training split; the file may be a pattern, as versions differ.
        val: the same for the validation split.
        attribution: authors of the data set.
        bin_edges: edges of the bins; None: those of the training file, else LVIS's.
        recipe: how the training split is sampled: ``aligned`` to LVIS, to ``given`` targets, or not at all.
        stuff: folder of COCO's stuff maps; Hybrid Task Cascade trains on them if the folder exists.
        convert: function that reads the splits, if their format is not quite COCO's.
    """

    what: str
    site: str
    train: tuple[str, str]
    val: tuple[str, str]
    attribution: str
    bin_edges: tuple[int, ...] | None = None
    recipe: str | None = None
    stuff: str = "stuffthingmaps/train2017"
    convert: Callable[[Mapping[str, Split], Reporter], dict[str, Split]] | None = None

    def splits(self, root: Path) -> dict[str, Split]:
        """Return the splits ``train`` and ``val`` below ``root``, not converted."""
        return {
            name: Split(min(root.glob(file), default=root / file), root / images)
            for name, (file, images) in (("train", self.train), ("val", self.val))
        }


def _lvis(version: str, file: str, folders: tuple[str, str]) -> Layout:
    train, val = ((f"annotations/{file}_{split}.json", f) for split, f in zip(("train", "val"), folders, strict=True))
    attribution = f"LVIS annotations, CC BY 4.0; COCO {COCO_IMAGES}"
    stuff = f"stuffthingmaps/{folders[0]}"
    return Layout(f"LVIS {version}, federated", "lvisdataset.org", train, val, attribution, stuff=stuff)


def _coco(what: str, bin_edges: tuple[int, ...] | None = None, recipe: str | None = None) -> Layout:
    train, val = ((f"annotations/instances_{split}2017.json", f"{split}2017") for split in ("train", "val"))
    attribution = f"COCO annotations, CC BY 4.0; {COCO_IMAGES}"
    return Layout(what, "cocodataset.org", train, val, attribution, bin_edges, recipe)


LAYOUTS: dict[str, Layout] = {
    "lvis-v0.5": _lvis("v0.5", "lvis_v0.5", ("train2017", "val2017")),
    # Its validation images come from both folders, so the images' paths begin with the folder.
    "lvis-v1": _lvis("v1", "lvis_v1", (".", ".")),
    "coco": _coco("COCO 2017"),
    # The counts are LVIS's, so its bins are too; with them no bin is empty.
    "coco-lt": _coco("COCO-LT, counts aligned to LVIS by rank", (10, 100, 1000), "aligned"),
    "coco-lt-simcal": _coco("COCO-LT, counts of a --targets FILE", (20, 400, 8000), "given"),
    "open-images": Layout(
        "Open Images V4 to V7, federated",
        "storage.googleapis.com/openimages",
        ("annotations/*train-annotations-bbox.csv", "train"),
        ("annotations/*validation-annotations-bbox.csv", "validation"),
        "Open Images annotations, Google LLC, CC BY 4.0; images: their Flickr users, CC BY 2.0",
        convert=open_images.convert,
    ),
    "objects365": Layout(
        "Objects365 v2",
        "objects365.org",
        ("annotations/zhiyuan_objv2_train.json", "train"),
        ("annotations/zhiyuan_objv2_val.json", "val"),
        "Objects365 annotations, CC BY 4.0; images: their Flickr users",
        convert=objects365.convert,
    ),
    # Its images' paths begin with the folder, as LVIS v1's do. The tree of its categories is another file.
    "v3det": Layout(
        "V3Det, 13,204 classes",
        "v3det.openxlab.org.cn",
        ("annotations/v3det_2023_v1_train.json", "."),
        ("annotations/v3det_2023_v1_val.json", "."),
        "V3Det annotations: their authors; images: their Flickr users",
    ),
}
"""The public data sets by name."""
