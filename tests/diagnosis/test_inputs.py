"""Inputs of a diagnosis are checked against each other; a misfit gives one clear line."""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import ExifTags, Image
from their_detector import IDS, MISSING, NAMES, Theirs, plain_config

from imbalance_bench.bins import choose_bin_edges
from imbalance_bench.detectors.mmdet.annotation_dataset import build_dataset
from imbalance_bench.diagnosis.inputs import Given, Inputs, check
from imbalance_bench.runtime.errors import InputError


def given(theirs: Theirs, **changes: Any) -> Given:
    arguments = {**theirs.arguments, "skip_missing": True, **changes}
    return Given(**arguments | {"detector": str(arguments["detector"])})


def checked(theirs: Theirs, folder: Path, **changes: Any) -> Inputs:
    inputs, files = check(given(theirs, **changes), folder)
    for path, text in files.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return inputs


def test_labels_are_the_checkpoints(theirs: Theirs, tmp_path: Path) -> None:
    inputs = checked(theirs, tmp_path)
    categories = inputs.final.categories()
    assert categories.names == tuple(NAMES)
    assert inputs.category_ids.tolist() == IDS
    content = json.loads((theirs.root / "train.json").read_text())
    counts = [sum(a["category_id"] == i for a in content["annotations"]) for i in IDS]
    assert categories.instance_counts.tolist() == counts
    assert inputs.tuning.categories().instance_counts.tolist() == counts
    dataset = build_dataset(
        inputs.final.val_annotations, inputs.final.val_images, categories.ids, [], training=False
    )  # fmt: skip
    val = json.loads((theirs.root / "val.json").read_text())
    first = min(image["id"] for image in val["images"])
    labels = [instance["bbox_label"] for instance in dataset.get_data_info(0)["instances"]]
    assert labels == [IDS.index(a["category_id"]) for a in val["annotations"] if a["image_id"] == first]


def test_what_was_found_is_said(theirs: Theirs, tmp_path: Path) -> None:
    notes = "\n".join(checked(theirs, tmp_path).notes)
    assert f"training: {MISSING} of 24 images of train.json are missing" in notes
    assert "1 class has no training instance: no train" in notes
    assert "1 class has no validation instance, so no AP: no val" in notes
    assert "would be empty; chosen from the counts" in notes


def test_images_are_looked_at_as_the_detector_reads_them(theirs: Theirs, tmp_path: Path) -> None:
    shutil.copytree(theirs.root / "val", tmp_path / "val")
    names = sorted(path.name for path in (tmp_path / "val").iterdir())
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    with Image.open(tmp_path / "val" / names[0]) as image:
        image.save(tmp_path / "val" / names[0], exif=exif)
    with pytest.raises(InputError, match=r"1 of 6 images of val\.json are not of the annotated size: .*turned by EXIF"):
        check(given(theirs, skip_missing=False, images=theirs.root / "val", train_annotations=theirs.root / "val.json",
                    val_images=tmp_path / "val"), tmp_path)  # fmt: skip
    (tmp_path / "val" / names[1]).write_bytes(b"")
    notes = "\n".join(checked(theirs, tmp_path, val_images=tmp_path / "val").notes)
    assert f"validation: 1 of 6 images of val.json cannot be read: {names[1]} (empty)" in notes
    assert "validation: 1 of 6 images of val.json are not of the annotated size" in notes
    config = Config.fromfile(theirs.config)
    config.test_dataloader.dataset.pipeline[0].color_type = "color_ignore_orientation"
    config.dump(tmp_path / "unturned.py")
    notes = "\n".join(checked(theirs, tmp_path, val_images=tmp_path / "val", detector=tmp_path / "unturned.py").notes)
    assert "cannot be read" in notes and "size" not in notes


def test_odd_masks_are_not_looked_at(theirs: Theirs, tmp_path: Path) -> None:
    content = json.loads((theirs.root / "val.json").read_text())
    content["annotations"][0]["segmentation"] = [[1, 2, 3, 4]]
    content["annotations"][1]["bbox"][2] = -5
    (tmp_path / "odd.json").write_text(json.dumps(content))
    notes = "\n".join(checked(theirs, tmp_path, val_annotations=tmp_path / "odd.json").notes)
    assert "mask" not in notes and "validation: 1 boxes have no width or height, or negative ones" in notes


def test_held_out_images_are_not_fitted_to(theirs: Theirs, tmp_path: Path) -> None:
    checked(theirs, tmp_path)
    fitting, held_out = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("fitting", "held_out"))
    images = [{image["id"] for image in part["images"]} for part in (fitting, held_out)]
    assert images[0].isdisjoint(images[1])
    assert len(images[0] | images[1]) == 24 - MISSING
    held = {a["category_id"] for a in held_out["annotations"]}
    assert held <= {a["category_id"] for a in fitting["annotations"]}


def test_of_some_images_rare_classes_keep_theirs(theirs: Theirs, tmp_path: Path) -> None:
    checked(theirs, tmp_path, max_images=8)
    parts = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("fitting", "held_out")]
    assert sum(len(part["images"]) for part in parts) == 8
    classes = {a["category_id"] for part in parts for a in part["annotations"]}
    assert classes == set(range(1, len(NAMES) + 1)) - {NAMES.index("no train") + 1}
    assert len(json.loads((tmp_path / "val.json").read_text())["images"]) == 6


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([1, 2, 3, 40, 50, 60, 700, 800], (3, 40, 200)),
        ([5, 5, 5, 5], (6,)),
        ([1, 1, 1, 9], (3,)),
        ([0, 1000, 1000, 1001], (800, 1001)),
    ],
)
def test_bins_from_counts(counts: list[int], expected: tuple[int, ...]) -> None:
    edges = choose_bin_edges(np.array(counts))
    sizes = np.bincount(np.searchsorted(edges, counts, side="right"), minlength=len(edges) + 1)
    if len(set(counts)) > 1:
        assert (sizes > 0).all()
    assert list(edges) == sorted(set(edges))
    assert edges == expected


def test_bad_input_is_one_line(theirs: Theirs, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()

    def config(name: str, **changes: Any) -> Path:
        path = bad / f"{name}.py"
        loaded = plain_config("faster_rcnn/faster-rcnn_r50_fpn_1x_coco")
        loaded.merge_from_dict(changes)
        path.write_text(loaded.pretty_text)
        return path

    (bad / "syntax.py").write_text("model = dict(")
    (bad / "retina.py").write_text("model = dict(type='RetinaNet')")
    (bad / "old.py").write_text(
        "model = dict(type='FasterRCNN', roi_head=dict(type='StandardRoIHead'), train_cfg=dict(), test_cfg=dict())\n"
        "data = dict(samples_per_gpu=2, test=dict(type='CocoDataset', pipeline=[dict(type='MultiScaleFlipAug')]))\n"
    )
    (bad / "older.py").write_text("model = dict(type='FasterRCNN', bbox_head=dict())\ndata = dict(imgs_per_gpu=2)\n")
    train = json.loads((theirs.root / "train.json").read_text())
    fewer = {**train, "categories": train["categories"][1:], "annotations": [
        a for a in train["annotations"] if a["category_id"] != IDS[0]]}  # fmt: skip
    (bad / "fewer.json").write_text(json.dumps(fewer))
    renamed = {**train, "categories": [{**c, "name": f"other {c['id']}"} for c in train["categories"]]}
    (bad / "renamed.json").write_text(json.dumps(renamed))
    torch.save({"state_dict": {"a": torch.zeros(1)}}, bad / "other.pth")
    cases: dict[str, dict[str, Any]] = {
        "no such file, expected an mmdet configuration": {"detector": bad / "none.py"},
        "not an mmdet configuration": {"detector": bad / "syntax.py"},
        "old.py: a configuration of mmdet 2, expected mmdet 3": {"detector": bad / "old.py"},
        "older.py: a configuration of mmdet 1, expected mmdet 3": {"detector": bad / "older.py"},
        "is RetinaNet, expected a detector with a roi_head or a bbox_head": {"detector": bad / "retina.py"},
        "box head DoubleConvFCBBoxHead cannot host": {
            "detector": config("double", **{"model.roi_head.bbox_head.type": "DoubleConvFCBBoxHead"})
        },
        "is NormedLinear, expected Linear": {
            "detector": config("cosine", **{"model.roi_head.bbox_head.cls_predictor_cfg": {"type": "NormedLinear"}})
        },
        "is OHEMSampler": {"detector": config("ohem", **{"model.train_cfg.rcnn.sampler.type": "OHEMSampler"})},
        "field 'num_classes' of": {"detector": config("classes", **{"model.roi_head.bbox_head.num_classes": 5})},
        "has 0 box classifiers": {"checkpoint": bad / "other.pth"},
        "lacks 1 classes that": {"train_annotations": bad / "fewer.json", "val_annotations": bad / "fewer.json"},
        "none of its 8 class names": {
            "train_annotations": bad / "renamed.json",
            "val_annotations": bad / "renamed.json",
        },
        "as in the training annotations": {"val_annotations": bad / "renamed.json"},
        "'--skip-missing' goes without them": {"skip_missing": False},
        "no such folder, expected the training images": {"images": bad / "nowhere"},
    }
    for message, changes in cases.items():
        with pytest.raises(InputError) as caught:
            check(given(theirs, **changes), tmp_path / "out")
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_without_class_names_the_files_order_counts(their_data: Path, theirs: Theirs, tmp_path: Path) -> None:
    content = torch.load(theirs.checkpoint)
    torch.save({"state_dict": content["state_dict"]}, tmp_path / "bare.pth")
    inputs = checked(theirs, tmp_path, checkpoint=tmp_path / "bare.pth")
    assert inputs.category_ids.tolist() == IDS
    assert any("names no classes" in note for note in inputs.notes)


def test_a_cascade_is_taken(cascade: Theirs, tmp_path: Path) -> None:
    assert checked(cascade, tmp_path).detector.num_stages == 3


def test_class_names_come_before_the_files_order(theirs: Theirs, tmp_path: Path) -> None:
    for name in ("train", "val"):
        content = json.loads((theirs.root / f"{name}.json").read_text())
        content["categories"] = content["categories"][::-1]
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    files = {f"{name}_annotations": tmp_path / f"{name}.json" for name in ("train", "val")}
    inputs = checked(theirs, tmp_path / "out", **files)
    assert inputs.category_ids.tolist() == IDS
    assert any("--label-order file" in note for note in inputs.notes)
    inputs = checked(theirs, tmp_path / "file", **files, label_order="file")
    assert inputs.category_ids.tolist() == IDS[::-1]


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_fsdp_wrapped_module.", "model."])
def test_wrapped_weights_are_the_same_detector(theirs: Theirs, tmp_path: Path, prefix: str) -> None:
    content = torch.load(theirs.checkpoint)
    state = {prefix + name: value for name, value in content["state_dict"].items()}
    torch.save({"net": state, "meta": content["meta"], "args": argparse.Namespace(lr=1)}, tmp_path / "wrapped.pth")
    inputs = checked(theirs, tmp_path, checkpoint=tmp_path / "wrapped.pth")
    plain, wrapped = (inputs.detector.adopt(p).state_dict() for p in (theirs.checkpoint, tmp_path / "wrapped.pth"))
    assert plain.keys() == wrapped.keys()
    assert all(torch.equal(value, wrapped[name]) for name, value in plain.items())
