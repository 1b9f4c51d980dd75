"""Data sets of files on this machine: checked once, then known by name. Nothing is downloaded.

``data/<name>/`` then holds ``record.json`` (all paths, checksums, counts, bin edges, what was left out) and
``categories.csv``; the folder ``annotations`` holds files that differ from the given ones: converted from another
format, sampled, or without missing images or a placeholder class.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from imbalance_bench.categories import CategoryTable, read_json
from imbalance_bench.datasets import coco_format, coco_lt
from imbalance_bench.datasets.layouts import LAYOUTS
from imbalance_bench.datasets.placeholder import described, placeholder_of, without_placeholder
from imbalance_bench.datasets.split import Split
from imbalance_bench.runtime.errors import InputError, first
from imbalance_bench.runtime.files import sha256, write_json, write_text
from imbalance_bench.runtime.progress import Advance, Reporter

RECORD, TABLE = "record.json", "categories.csv"


def prepare_layout(
    name: str,
    root: Path,
    folder: Path,
    *,
    bin_edges: Sequence[int] | None = None,
    skip_missing: bool = False,
    verify_images: bool = False,
    targets: Path | None = None,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Check a public data set below ``root`` and register it by name.

    Args:
        name: a name in ``LAYOUTS``.
        root: folder that holds the data set in the layout of its site.
        folder: output folder.
        bin_edges: bin edges to use instead of the data set's own.
        skip_missing: leave out images that are missing, cannot be read, or do not have the annotated size.
        verify_images: decode every image, not only every header and a sample.
        targets: CSV file of categories and counts, for coco-lt-simcal.
        seed: seed of the COCO-LT draw.
        reporter: reporter that shows progress.

    Returns:
        The record.

    Raises:
        InputError: something is missing or wrong, or ``targets`` is missing or has no effect.
    """
    layout = LAYOUTS[name]
    if (layout.recipe == "given") != (targets is not None):
        need = "needs" if layout.recipe == "given" else "takes no"
        raise InputError(f"{name} {need} option '--targets' (a CSV file of categories and counts)")

    def sample(train: Mapping[str, Any], categories: CategoryTable) -> tuple[dict[str, Any], np.ndarray]:
        if targets is not None:
            wanted = coco_lt.read_targets(targets, categories)
        else:
            wanted = coco_lt.aligned_targets(categories.instance_counts)
        return coco_lt.sample_long_tail(train, wanted, seed), wanted

    splits = layout.splits(root)
    if layout.convert is not None:
        _check_there(splits, name, layout.site)
        splits = layout.convert(splits, reporter or Reporter())
    how = {"recipe": layout.recipe, "seed": seed, "targets": str(targets.resolve()) if targets else None}
    return prepare_splits(
        name,
        splits,
        folder,
        what=layout.what,
        attribution=layout.attribution,
        bin_edges=bin_edges or layout.bin_edges,
        skip_missing=skip_missing,
        verify_images=verify_images,
        source=layout.site,
        stuff_maps=root / layout.stuff if (root / layout.stuff).is_dir() else None,
        sample=sample if layout.recipe else None,
        extra=how if layout.recipe else {},
        reporter=reporter,
    )


def prepare_splits(
    name: str,
    splits: Mapping[str, Split],
    folder: Path,
    *,
    what: str,
    attribution: str,
    bin_edges: Sequence[int] | None = None,
    fit_bins: bool = False,
    untrained_in_bins: bool = False,
    skip_missing: bool = False,
    verify_images: bool = False,
    source: str | None = None,
    stuff_maps: Path | None = None,
    sample: Callable[[Mapping[str, Any], CategoryTable], tuple[dict[str, Any], np.ndarray]] | None = None,
    extra: Mapping[str, Any] | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Check a pair of annotation files and their images, and register them as data set ``name``.

    Args:
        name: name of the data set.
        splits: splits ``train`` and ``val``.
        folder: output folder; nothing is written if something is wrong.
        what: description in a few words.
        attribution: authors of the data set.
        bin_edges: edges of the bins; None: those of the training file, else LVIS's.
        fit_bins: choose edges from the counts if none are given or stated, and LVIS's leave a bin empty.
        untrained_in_bins: count classes without a train instance to bin 1, as ``CategoryTable``.
        skip_missing: leave out images that are missing, cannot be read, or do not have the annotated size.
        verify_images: decode every image, not only every header and a sample.
        source: site that publishes the files, for messages about missing ones.
        stuff_maps: folder with a PNG for each training image, at the image's path, with classes of COCO's stuff.
        sample: function that maps the checked training content and its categories to a sampled content and its (C,)
            targets.
        extra: further entries of the record.
        reporter: reporter that shows progress.

    Returns:
        The record.

    Raises:
        InputError: a file or an image is missing or cannot be read, an image does not have the annotated size, or an
            annotation file is invalid.
    """
    hint = _check_there(splits, name, source)
    with (reporter or Reporter()).task(f"reading {name}", len(splits)) as advance:
        contents, left_out = _read(splits, advance)
    entries: dict[str, dict[str, Any]] = {}
    for key, split in splits.items():
        with (reporter or Reporter()).task(f"checking {name}, {key}", 1) as advance:
            contents[key], entries[key] = _checked(
                contents[key], split, key, skip_missing, verify_images, hint, advance
            )
    val_file = str(splits["val"].annotations)
    if lacking := coco_format.check_same_categories(contents["train"], contents["val"], val_file):
        what = f"{len(lacking):,} categories of training are not in the file, and have no AP"
        entries["val"]["notes"].append(f"{what}: {first(lacking)}")
    given = replace(CategoryTable.from_annotations(contents["train"], bin_edges), untrained_in_bins=untrained_in_bins)
    if fit_bins:
        given, remarks = coco_format.with_fitting_bins(given, contents["train"], bin_edges)
        entries["train"]["notes"] += remarks
    changed = {}
    for key, entry in entries.items():
        if splits[key].content is not None:
            changed[key] = f"annotations/{key}.json"
        elif left_out[key] or entry["skipped_images"]:
            changed[key] = f"annotations/{key}_present.json"
        entry["notes"] = [*splits[key].notes, *left_out[key], *entry["notes"]]
    categories, columns = given, {}
    if sample is not None:
        contents["train"], targets = sample(contents["train"], given)
        contents["train"]["info"] = {**_info(contents["train"]), "description": what, "bin_edges": given.bin_edges}
        changed["train"] = "annotations/train.json"
        categories = CategoryTable.from_annotations(contents["train"], given.bin_edges)
        columns = {"available": given.instance_counts, "target": targets}
    if stuff_maps is not None:
        _check_stuff_maps(contents["train"], stuff_maps)
    table = categories.frame().assign(val_instance_count=val_counts(contents["val"], categories), **columns)

    for key, relative in changed.items():
        write_json(folder / relative, contents[key], compact=True)
        entries[key] |= {"annotations": relative, "sha256": sha256(folder / relative)}
    for key, entry in entries.items():
        entry["images"] = len(contents[key]["images"])
    record = {
        "name": name,
        "description": f"{what}; {categories.num_classes:,} classes, {categories.instance_counts.sum():,} train "
        f"instances, {entries['train']['images']:,} + {entries['val']['images']:,} images",
        **entries,
        "federated": coco_format.is_federated(contents["val"]),
        "bin_edges": list(categories.bin_edges),
        "untrained_in_bins": categories.untrained_in_bins,
        "stuff_maps": os.path.abspath(stuff_maps) if stuff_maps else None,
        "attribution": attribution,
        **(extra or {}),
    }
    write_text(folder / TABLE, table.to_csv())
    write_json(folder / RECORD, record)
    return record


def val_counts(val: str | os.PathLike[str] | Mapping[str, Any], categories: CategoryTable) -> np.ndarray:
    """Return the (C,) validation instances of the training categories; 0 for a category missing in validation."""
    counted = CategoryTable.from_annotations(val)
    counts = np.zeros(categories.num_classes, dtype=np.int64)
    counts[categories.labels_of(counted.ids)] = counted.instance_counts
    return counts


def read_record(folder: Path) -> dict[str, Any] | None:
    """Read the record that ``prepare_splits`` wrote; None if there is no such file.

    Raises:
        InputError: the record is damaged.
    """
    path = folder / RECORD
    if not path.is_file():
        return None
    record = read_json(path)
    texts = [record.get(field) for field in ("name", "description", "attribution")]
    for key in ("train", "val"):
        entry = record.get(key)
        texts += [entry.get(field) if isinstance(entry, Mapping) else None for field in ("annotations", "image_folder")]
    if record.get("stuff_maps") is not None:
        texts.append(record["stuff_maps"])
    edges = record.get("bin_edges")
    whole = isinstance(edges, list) and all(isinstance(edge, int) for edge in edges)
    if not (whole and all(isinstance(text, str) for text in texts) and isinstance(record.get("federated"), bool)):
        raise InputError(f"{path}: not a data set's record, 'datasets prepare' writes it anew")
    return record


def read_table(folder: Path) -> pd.DataFrame:
    """Read the category table of a prepared data set.

    Its index is ``label``; its columns are CategoryTable's and ``val_instance_count``. The table of a sampled data set
    also has ``available`` (instances before the draw) and ``target``.

    Raises:
        InputError: the table is absent or damaged.
    """
    path = folder / TABLE
    try:
        frame = pd.read_csv(path, keep_default_na=False).set_index("label")
        counts = ["id", "image_count", "instance_count", "val_instance_count", "bin"]
        return frame.astype(dict.fromkeys(counts, "int64"))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a table of categories, 'datasets prepare' writes it anew ({error})") from error


def _check_there(splits: Mapping[str, Split], name: str, source: str | None) -> str:
    """Check that annotation files and image folders exist; return the hint of messages about missing files.

    Raises:
        InputError: one does not.
    """
    hint = f" (it is given out at {source})" if source else ""
    for split in splits.values():
        if split.content is None and not split.annotations.is_file():
            raise InputError(f"{split.annotations}: no such file, {name} needs it{hint}")
        if not split.images.is_dir():
            raise InputError(f"{split.images}: no such folder, {name} needs its images{hint}")
    return hint


def _read(splits: Mapping[str, Split], advance: Advance) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Read the splits; return their contents without Roboflow's placeholder class, and notes on what was left out."""
    contents = {}
    for key, split in splits.items():
        contents[key] = read_json(split.annotations) if split.content is None else dict(split.content)
        advance()
    train, val = contents["train"], contents["val"]
    name = placeholder_of(train, val) or placeholder_of(val, train)
    notes: dict[str, list[str]] = {key: [] for key in contents}
    if name is None:
        return contents, notes
    for key, content in contents.items():
        contents[key] = without_placeholder(content, name)
        if contents[key] != content:
            notes[key].append(f"1 category is {described(name)}, and is left out")
    return contents, notes


def _checked(
    content: dict[str, Any],
    split: Split,
    key: str,
    skip_missing: bool,
    verify_images: bool,
    hint: str,
    advance: Advance,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Check a split; return its content without the images that were left out, and its entry in the record."""
    from imbalance_bench.datasets import images

    source = str(split.annotations) if split.content is None else f"{split.annotations} ({key})"
    findings = coco_format.check(content, source)
    advance(0, total=len(content["images"]))
    how = f"{hint}; '--skip-missing' goes without them"
    found = images.checked(
        content, split.images, source, skip=skip_missing, verify=verify_images, hint=how, advance=advance
    )
    path = os.path.abspath(split.annotations)
    digest = sha256(split.annotations) if split.annotations.is_file() else None
    entry = {
        "annotations": path,
        "sha256": digest,
        "image_folder": os.path.abspath(split.images),
        "given": {"path": path, "sha256": digest, **asdict(findings)},
        "skipped_images": sorted(found.skipped),
        "notes": [*findings.notes(), *found.notes],
    }
    return found.content, entry


def _check_stuff_maps(train: Mapping[str, Any], folder: Path) -> None:
    """Check that each training image has its stuff map.

    Raises:
        InputError: some images have none.
    """
    maps = [coco_format.stuff_map_path(image, "images") for image in train["images"]]
    if missing := coco_format.missing_files(maps, folder, "stuff maps"):
        raise InputError(f"{folder}: {missing}")


def _info(content: Mapping[str, Any]) -> dict[str, Any]:
    info = content.get("info")
    return dict(info) if isinstance(info, Mapping) else {}
