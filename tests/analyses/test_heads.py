"""Heads beside each other: the gains of diagnoses in one table and figure; small detectors that can be diagnosed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analyses import heads, small_heads
from imbalance_bench.detectors.mmdet.export import write
from imbalance_bench.detectors.mmdet.opening import open_config
from imbalance_bench.diagnosis.fixes import rank
from imbalance_bench.diagnosis.result import Diagnosis
from imbalance_bench.runtime.errors import InputError

Run = Callable[..., tuple[int, str, str]]
TAIL = {"baseline": 0.10, "x2-cls": 0.12, "bce": 0.13, "bags": 0.17}


def diagnosis(folder: Path, head: str, tried: tuple[str, ...]) -> Diagnosis:
    """What is read of a diagnosis, saved: AP on 20 draws about the values of ``TAIL``."""
    rng = np.random.default_rng(len(tried))
    ap, records = {}, {}
    for name in ("baseline", *tried):
        of_tail = np.array([TAIL[name], *(TAIL[name] + rng.normal(0, 0.01, 20))])
        ap[name] = pd.DataFrame({"mAP": of_tail / 2 + 0.2, "tail": of_tail, "head": 0.4 - of_tail / 10})
        records[name] = {"metrics": {"ACC": 0.5, "ACCbg": 0.9}, "provenance": {"seconds": {"train": 1.0}}}
    fixes = rank(ap, records, {name: {"settings": "paper"} for name in tried})
    empty = pd.DataFrame({"a": [1.0]})
    of_class = pd.DataFrame({"name": ["cup", "ladle"], "val_instances": [3.0, np.nan]}).rename_axis("label")
    made = {"date": "2026-11-28", "machine": "a machine", "versions": {"torch": "2"}}
    summary = {"head": head, "provenance": made, "recommended": "bags", "called": "diagnose", "given": {"seed": 0}}
    by_bin = empty.rename_axis("bin")
    found = Diagnosis(folder, summary, of_class, by_bin, by_bin, by_bin, empty.rename_axis("label"), empty, fixes)
    folder.mkdir()
    found.save()
    return found


def test_each_head_is_compared_with_its_control(tmp_path: Path) -> None:
    diagnosis(tmp_path / "faster", "softmax of RoIs", ("x2-cls", "bce", "bags"))
    diagnosis(tmp_path / "retina", "sigmoids of anchors", ("bce", "bags"))
    found = heads.read([tmp_path / "faster", tmp_path / "retina"])
    frame = heads.table(found)
    assert len(frame) == 4 + 3
    of_bags = frame[frame["method"] == "bags"].set_index("detector")
    assert of_bags["control"].to_dict() == {"faster": "x2-cls", "retina": "bce"}
    assert of_bags["tail_over_control"].to_dict() == pytest.approx({"faster": 0.05, "retina": 0.04})
    assert of_bags["recommended"].all() and frame["recommended"].sum() == 2
    shown = heads.shown(frame)
    assert shown.loc[of_bags.reset_index().index[0], "detector"] == "faster"
    assert shown["tail over control"].str.startswith("+5.0 [").sum() == 1
    figure = heads.draw(found)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["faster: softmax of RoIs, over x2-cls", "retina: sigmoids of anchors, over bce"]
    names = [{text.get_text() for text in axis.texts} for axis in figure.axes]
    assert names[0] >= {"bags", "bce"} and "x2-cls" not in names[0] and "bce" not in names[1]


def test_the_command(run: Run, tmp_path: Path) -> None:
    diagnosis(tmp_path / "faster", "softmax of RoIs", ("x2-cls", "bags"))
    status, said, _ = run("heads", tmp_path / "faster", "-o", tmp_path / "out")
    assert status == 0 and "softmax of RoIs" in said
    frame = pd.read_csv(tmp_path / "out" / "heads.csv")
    assert frame["method"].tolist() == ["bags", "x2-cls", "baseline"] and (tmp_path / "out" / "heads.png").is_file()


def test_other_data_are_refused(tmp_path: Path) -> None:
    diagnosis(tmp_path / "one", "softmax of RoIs", ("bags",))
    other = diagnosis(tmp_path / "two", "softmax of RoIs", ("bags",))
    replace(other, per_category=other.per_category.assign(val_instances=[4.0, np.nan])).save()
    with pytest.raises(InputError, match=r"two/per_category\.csv: column 'val_instances' differs"):
        heads.read([tmp_path / "one", tmp_path / "two"])
    with pytest.raises(InputError, match="another folder has this name"):
        heads.read([tmp_path / "one", tmp_path / "one"])


@pytest.mark.parametrize("name", small_heads.HEADS)
def test_small_detectors_can_be_diagnosed(name: str, tmp_path: Path) -> None:
    made = small_heads.config(name, ["cup", "ladle", "pan"])
    write(made, {}, ["cup", "ladle", "pan"], tmp_path, True)
    detector = open_config(tmp_path / "config.py")
    assert detector.num_classes == 3 and detector.proposal_kind == "anchors"
    model = detector.model
    assert model.neck.num_outs == 4 and model.backbone.base_channels == 32
    assert len(detector.head.prior_generator.strides) == 4
