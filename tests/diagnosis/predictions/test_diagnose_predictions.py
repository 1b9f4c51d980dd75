"""Diagnoses of files in every form, from their errors to their saved tables; files that nobody here wrote."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pandas as pd
import pytest
from made_files import SIDE, annotations, detections, write
from PIL import Image

import imbalance_bench as ib
from imbalance_bench.diagnosis.predictions.diagnose import THRESHOLDS, diagnose_predictions
from imbalance_bench.diagnosis.predictions.result import TABLES, PredictionDiagnosis
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.runtime.errors import InputError

DATA = Path(__file__).parents[2] / "data"
COCO100, LVIS100 = DATA / "coco_val2014_100", DATA / "lvis_v0.5_val100"
LVIS_OWN = LVIS100 / "lvis_results_100.json"
"""LVIS's own example results, 14 MB, which do not come with this suite."""


def test_it_finds_what_was_made(diagnosis: PredictionDiagnosis) -> None:
    assert diagnosis.summary["finding"] == "confused"
    assert diagnosis.summary["verdict"][0].startswith("Rare classes do worse. AP is ")
    assert diagnosis.summary["counted"] == "the boxes of train.json"
    assert diagnosis.per_class.loc[1, "taken_by"].startswith("person ")
    assert diagnosis.costs.loc["1"].drop("ap50").idxmax() == "classification"
    assert diagnosis.summary["bins"] == {"1": "forklift", "2": diagnosis.per_class.loc[2, "name"], "3": "person"}


def test_it_reads_back_as_it_was(diagnosis: PredictionDiagnosis) -> None:
    again = PredictionDiagnosis.read(diagnosis.folder)
    assert again.summary == json.loads(json.dumps(diagnosis.summary))
    for name in TABLES:
        pd.testing.assert_frame_equal(
            getattr(again, name), getattr(diagnosis, name), check_dtype=False, check_index_type=False,
            check_column_type=False,
        )  # fmt: skip
    assert "forklift" in (diagnosis.folder / THRESHOLDS).read_text()


def test_again_it_is_the_same(files: dict[str, Path], diagnosis: PredictionDiagnosis, tmp_path: Path) -> None:
    again = diagnose_predictions(**files, out=tmp_path)
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(again, name), getattr(diagnosis, name))


def test_from_python_with_detections(files: dict[str, Path], diagnosis: PredictionDiagnosis, tmp_path: Path) -> None:
    table = ib.CategoryTable.from_annotations(files["train_annotations"])
    found = Detections.from_coco(files["predictions"], table)
    mine = ib.diagnose(**{**files, "predictions": found}, out=tmp_path)
    pd.testing.assert_frame_equal(mine.per_class, diagnosis.per_class)
    assert mine.summary["called"].startswith("imbalance_bench.diagnose(predictions=detections, annotations='")


def test_without_train_counts_it_says_so(files: dict[str, Path], tmp_path: Path) -> None:
    found = diagnose_predictions(files["predictions"], files["annotations"], out=tmp_path)
    assert found.summary["unit"] == "validation boxes"
    assert any("no train counts were given" in note for note in found.summary["notes"])
    assert "40 validation boxes" in found.summary["verdict"][0]


def test_held_out_detections_are_fitted_to(files: dict[str, Path], tmp_path: Path) -> None:
    train = json.loads(files["train_annotations"].read_text())
    names = {category["id"]: category["name"] for category in train["categories"]}
    other = annotations(names, (80, 30, 40), images=30, seed=5)
    given = {
        "calibration_annotations": write(tmp_path / "held_out.json", other),
        "calibration_predictions": write(tmp_path / "held_out_p.json", detections(other, right={3: 1, 5: 1, 8: 1})),
    }
    found = diagnose_predictions(**files, **given, out=tmp_path)
    assert "fitted to 30 held-out images" in found.summary["fits"][0]
    with pytest.raises(InputError, match="go together"):
        diagnose_predictions(**files, calibration_annotations=files["annotations"], out=tmp_path)
    with pytest.raises(InputError, match="they are the validation annotations"):
        diagnose_predictions(**files, calibration_annotations=files["annotations"],
                             calibration_predictions=files["predictions"], out=tmp_path)  # fmt: skip


def test_scores_that_are_none_are_not_fitted(files: dict[str, Path], tmp_path: Path) -> None:
    logits = [{**found, "score": 9 * found["score"] - 4} for found in json.loads(files["predictions"].read_text())]
    found = diagnose_predictions(
        write(tmp_path / "logits.json", logits), files["annotations"], files["train_annotations"], out=tmp_path
    )
    assert "expected 0 to 1" in found.summary["fits"][0] and not len(found.thresholds) and not len(found.pooled)
    assert not (tmp_path / THRESHOLDS).exists()
    assert PredictionDiagnosis.read(tmp_path).summary["thresholds"] is None


def yolo(folder: Path, split: str, content: dict[str, Any]) -> None:
    """Write a split as YOLO does, classes counted from 0."""
    place = [category["id"] for category in content["categories"]]
    rows: dict[int, list[str]] = {image["id"]: [] for image in content["images"]}
    for entry in content["annotations"]:
        x, y, w, h = (side / SIDE for side in entry["bbox"])
        rows[entry["image_id"]].append(f"{place.index(entry['category_id'])} {x + w / 2} {y + h / 2} {w} {h}")
    for kind in ("images", "labels"):
        (folder / kind / split).mkdir(parents=True)
    for image in content["images"]:
        Image.new("L", (SIDE, SIDE)).save(folder / "images" / split / image["file_name"])
        (folder / "labels" / split / f"{image['id']}.txt").write_text("\n".join(rows[image["id"]]))


def voc(folder: Path, content: dict[str, Any]) -> None:
    """Write a folder of XML files and images."""
    folder.mkdir(parents=True)
    name_of = {category["id"]: category["name"] for category in content["categories"]}
    for image in content["images"]:
        objects = ""
        for entry in content["annotations"]:
            if entry["image_id"] == image["id"]:
                x, y, w, h = entry["bbox"]
                objects += (
                    f"<object><name>{escape(name_of[entry['category_id']])}</name><bndbox><xmin>{x + 1}</xmin><ymin>"
                    f"{y + 1}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
                )
        size = f"<size><width>{SIDE}</width><height>{SIDE}</height><depth>3</depth></size>"
        name = image["file_name"]
        (folder / f"{image['id']}.xml").write_text(
            f"<annotation><filename>{name}</filename>{size}{objects}</annotation>", encoding="utf-8"
        )
        Image.new("L", (SIDE, SIDE)).save(folder / name)


@pytest.fixture(scope="module")
def contents(files: dict[str, Path]) -> dict[str, Any]:
    return {name: json.loads(path.read_text()) for name, path in files.items()}


def named(contents: dict[str, Any]) -> list[dict[str, Any]]:
    """The detections by file name and class name."""
    name_of = {category["id"]: category["name"] for category in contents["annotations"]["categories"]}
    return [
        {"file_name": f"{found['image_id']}.jpg", "category_name": name_of[found["category_id"]],
         "bbox": found["bbox"], "score": found["score"]} for found in contents["predictions"]
    ]  # fmt: skip


def same(found: PredictionDiagnosis, expected: PredictionDiagnosis) -> None:
    """The same classes, by name, have the same counts and AP."""
    columns = ["instance_count", "val_instances", "ap", "ap_fixed", "right"]
    mine, theirs = (d.per_class.set_index("name")[columns] for d in (found, expected))
    pd.testing.assert_frame_equal(mine.loc[theirs.index], theirs, check_dtype=False, rtol=0, atol=2e-3)


def test_yolo(contents: dict[str, Any], diagnosis: PredictionDiagnosis, tmp_path: Path) -> None:
    """``data.yaml`` alone, whose training split gives the counts, and ultralytics' ``predictions.json``."""
    yolo(tmp_path, "train", contents["train_annotations"])
    yolo(tmp_path, "val", contents["annotations"])
    names = [category["name"] for category in contents["annotations"]["categories"]]
    data = {"train": "images/train", "val": "images/val", "names": names}
    write(tmp_path / "data.yaml", data)
    place = [category["id"] for category in contents["annotations"]["categories"]]
    theirs = [
        {**found, "image_id": found["image_id"], "file_name": f"{found['image_id']}.jpg",
         "category_id": place.index(found["category_id"]) + 1} for found in contents["predictions"]
    ]  # fmt: skip
    path = write(tmp_path / "predictions.json", theirs)
    found = diagnose_predictions(path, tmp_path / "data.yaml", out=tmp_path / "o")
    same(found, diagnosis)
    assert found.summary["counted"] == "the boxes of the training split of data.yaml"
    assert any("classes are counted from 1 by id, not by id" in note for note in found.summary["notes"])
    (tmp_path / "images" / "train").rename(tmp_path / "elsewhere")
    found = diagnose_predictions(path, tmp_path, out=tmp_path / "o")
    assert any(note.startswith("its training split is not read (") for note in found.summary["notes"])
    assert found.summary["unit"] == "validation boxes"


def test_voc(contents: dict[str, Any], diagnosis: PredictionDiagnosis, tmp_path: Path) -> None:
    """A folder of XML files for each split: ids of classes are counted in each alone, so names decide."""
    voc(tmp_path / "train", contents["train_annotations"])
    voc(tmp_path / "val", contents["annotations"])
    path = write(tmp_path / "found.json", named(contents))
    for given in ((tmp_path, None), (tmp_path / "val", tmp_path / "train")):
        same(diagnose_predictions(path, *given, out=tmp_path / "out"), diagnosis)


def test_roboflow(contents: dict[str, Any], diagnosis: PredictionDiagnosis, tmp_path: Path) -> None:
    """With its placeholder class, which is left out."""
    for split, name in (("train", "train_annotations"), ("valid", "annotations")):
        content = contents[name]
        categories = [{"id": 0, "name": "objects", "supercategory": "none"}]
        categories += [{**category, "supercategory": "objects"} for category in content["categories"]]
        (tmp_path / split).mkdir()
        write(tmp_path / split / "_annotations.coco.json", {**content, "categories": categories})
    path = write(tmp_path / "found.json", contents["predictions"])
    for given in ((tmp_path, None), (tmp_path / "valid", tmp_path / "train")):
        found = diagnose_predictions(path, *given, out=tmp_path / "out")
        same(found, diagnosis)
        assert any("Roboflow's placeholder" in note for note in found.summary["notes"])


def test_counts_in_a_csv_and_names_that_decide(
    contents: dict[str, Any], diagnosis: PredictionDiagnosis, files: dict[str, Path], tmp_path: Path
) -> None:
    table = diagnosis.per_class[["name", "instance_count"]].rename(columns={"instance_count": "count"})
    table.sample(frac=1, random_state=0).to_csv(tmp_path / "counts.csv", index=False)
    found = diagnose_predictions(files["predictions"], files["annotations"], tmp_path / "counts.csv", out=tmp_path)
    same(found, diagnosis)
    order = {3: 8, 5: 3, 8: 5}
    train = contents["train_annotations"]
    other = {
        **train,
        "categories": [{**c, "id": order[c["id"]]} for c in train["categories"]],
        "annotations": [{**a, "category_id": order[a["category_id"]]} for a in train["annotations"]],
    }
    found = diagnose_predictions(
        files["predictions"], files["annotations"], write(tmp_path / "train.json", other), out=tmp_path
    )
    same(found, diagnosis)
    assert any("their names decide" in note for note in found.summary["notes"])


def test_packed_files_and_a_table(contents: dict[str, Any], diagnosis: PredictionDiagnosis, files: dict[str, Path],
                                  tmp_path: Path) -> None:  # fmt: skip
    packed = tmp_path / "found.json.gz"
    packed.write_bytes(gzip.compress(json.dumps(contents["predictions"]).encode()))
    rows = pd.DataFrame(named(contents))
    rows[["x", "y", "w", "h"]] = rows.pop("bbox").tolist()
    rows.to_csv(tmp_path / "found.csv", index=False)
    for path in (packed, tmp_path / "found.csv"):
        same(
            diagnose_predictions(path, files["annotations"], files["train_annotations"], out=tmp_path / "o"), diagnosis
        )


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("predictions", [], "holds no detections"),
        ("predictions", [{"image_id": 1, "category_id": 3, "score": 0.5}], "no field for the boxes"),
        ("predictions", [{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}], "no field for the classes"),
        ("predictions", [{"image_id": 1, "category_id": 3, "bbox": [1, 2, "3", 4], "score": 0.5}], "field 'bbox'"),
        ("predictions", [{"image_id": 99, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}], "none of the images"),
        ("predictions", "a page", "expected COCO results"),
        ("annotations", {"images": [], "annotations": [], "categories": []}, "field 'categories' is empty"),
        ("annotations", {"images": [], "annotations": []}, "field 'categories' is missing"),
        ("annotations", [], "expected a JSON object"),
        ("train_annotations", {"images": [], "annotations": [{}], "categories": [{"id": 3, "name": "person"}]},
         "field 'category_id' is missing"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(
    name: str, content: Any, line: str, files: dict[str, Path], tmp_path: Path
) -> None:
    given = {**files, name: write(tmp_path / "wrong.json", content)}
    with pytest.raises(InputError) as error:
        diagnose_predictions(**given, out=tmp_path / "out")
    assert line in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "out").exists(), "nothing half-written stays"


def test_folders_that_hold_no_annotations(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no data\.yaml of YOLO, no XML files of VOC and no _annotations"):
        diagnose_predictions(files["predictions"], tmp_path, out=tmp_path / "out")


@pytest.mark.parametrize(
    ("kind", "expected"), [("bbox", {"ap": 0.505, "ap50": 0.697, "ap75": 0.573}), ("segm", {"ap_mask": 0.320})]
)
def test_published_results(kind: str, expected: dict[str, float], tmp_path: Path) -> None:
    """The AP of boxes and masks that the authors of COCO give out with their results on 100 images."""
    path = COCO100 / f"instances_val2014_fake{kind}100_results.json.gz"
    found = diagnose_predictions(path, COCO100 / "instances_val2014_100.json.gz", out=tmp_path)
    assert {name: round(found.bins.loc["all", name], 3) for name in expected} == expected
    assert ("ap_mask" in found.per_class) == (kind == "segm")


def test_results_on_lvis(tmp_path: Path) -> None:
    """AP by the official package, of detections on 100 images of LVIS v0.5."""
    path, truth = LVIS100 / "perturbed_results_100_seed0.json", LVIS100 / "lvis_val_100.json"
    found = diagnose_predictions(path, truth, DATA / "lvis_v0.5_train_counts.csv", out=tmp_path)
    expected = json.loads((LVIS100 / "expected_lvis_0.5.3_stats.json").read_text())
    assert found.summary["classes"] == 1230
    assert found.per_class["ap"].mean() == pytest.approx(expected["perturbed_seed0"]["AP"], abs=1e-6)


@pytest.mark.skipif(not LVIS_OWN.exists(), reason="LVIS's own example results are not here")
def test_lvis_own_example(tmp_path: Path) -> None:
    """AP of the boxes, as other evaluators give it."""
    found = diagnose_predictions(LVIS_OWN, LVIS100 / "lvis_val_100.json", out=tmp_path)
    assert found.per_class["ap"].mean() == pytest.approx(0.3676645, abs=1e-6)


def test_pictures_of_lost_objects(files: dict[str, Path], contents: dict[str, Any], tmp_path: Path) -> None:
    from imbalance_bench.diagnosis.predictions import gallery

    val = contents["annotations"]
    licences = [{"id": 4, "name": "CC BY 2.0"}]
    images = [{**image, "license": 4, "coco_url": f"http://x/{image['file_name']}"} for image in val["images"]]
    path = write(tmp_path / "val.json", {**val, "licenses": licences, "images": images})
    for image in val["images"][:-3]:
        Image.new("RGB", (SIDE, SIDE), "grey").save(tmp_path / image["file_name"])
    (tmp_path / val["images"][-3]["file_name"]).write_text("no image")
    found = diagnose_predictions(files["predictions"], path, files["train_annotations"], tmp_path, out=tmp_path / "out")
    examples = found.examples
    assert set(examples["name"]) == {"forklift"} and {"person", ""} >= set(examples["taken_by"])
    assert examples["score"].notna().eq(examples["taken_by"] != "").all()
    assert (examples[["x2", "y2"]].to_numpy() > examples[["x1", "y1"]].to_numpy()).all()
    shown = list(gallery.pictures(examples, tmp_path, count=4))
    assert len(shown) == 4
    assert "detected as person (score" in shown[0][1] and "CC BY 2.0" in shown[0][1] and "http://x/" in shown[0][1]
    assert not list(gallery.pictures(examples.assign(file_name="../nowhere.jpg"), tmp_path))
    assert replace(found, examples=examples.head(0)).examples.empty
