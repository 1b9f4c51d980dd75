import numpy as np
import pandas as pd
import pytest
import torch

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation import views
from imbalance_bench.evaluation.bootstrap import interval_over_classes
from imbalance_bench.evaluation.measures import ACCURACY, AP, LOGITS, WEIGHT_NORM
from imbalance_bench.evaluation.per_category import COLUMNS, read
from imbalance_bench.evaluation.weight_norms import weight_norms
from imbalance_bench.runtime.errors import InputError


def categories():
    counts = np.array([5, 40, 7, 2000, 40, 3, 900])
    names = ("acorn", "nan", "owl", "cat", "None", "yak", "background")
    return CategoryTable(np.array([1, 2, 4, 5, 6, 8, 9]), names, counts // 2 + 1, counts, tuple("rcrfcrf"), (10, 100))


def per_category(seed=0):
    table = categories()
    rng = np.random.default_rng(seed)
    weights = torch.from_numpy(rng.normal(size=(8, 16)))
    frame = weight_norms(weights, torch.arange(8.0), table).drop(columns="rank")
    frame["val_instances"] = [3, 0, 5, 9, 1, 2, 8, np.nan]
    for column in ("ap", "ap50", "ap75", "recall"):
        frame[column] = np.where(frame["val_instances"] > 0, rng.random(8), np.nan)
    frame["proposals"] = [4, 10, 0, 30, 8, 2, 20, 500]
    frame["correct"] = [1, 5, 0, 28, 2, 0, 11, 480]
    return frame.assign(accuracy=frame["correct"] / frame["proposals"])


@pytest.fixture(params=["frame", "csv"])
def source(request, tmp_path):
    if request.param == "frame":
        return per_category()
    per_category().to_csv(tmp_path / "per_category.csv")
    return tmp_path / "per_category.csv"


def test_reading_gives_back_the_table(tmp_path):
    frame = per_category()
    frame.to_csv(tmp_path / "per_category.csv")
    again = read(tmp_path / "per_category.csv")
    assert tuple(again.columns) == COLUMNS
    pd.testing.assert_frame_equal(again.iloc[:-1], frame.iloc[:-1], check_dtype=False)
    assert again["name"].tolist() == [*categories().names, "background"]


def test_ap_by_bin_agrees_with_the_summary(source):
    frame, summary = views.ap_by_bin(source), AP.summary(per_category(), categories())
    assert frame.index.tolist() == ["mAP", "AP1", "AP2", "AP3", "APr", "APc", "APf"]
    assert frame["ap"].to_dict() == pytest.approx({name: summary[name] for name in frame.index})
    assert frame["classes"].to_dict() == {name: summary[f"{name}_classes"] for name in frame.index}
    assert frame["val_instances"].tolist() == [28, 10, 1, 17, 10, 1, 17]
    rows = [0, 2, 5]
    assert tuple(frame.loc["AP1", ["classes_low", "classes_high"]]) == pytest.approx(
        interval_over_classes(per_category()["ap"][rows])
    )
    assert frame.loc["AP1", "ap75"] == pytest.approx(per_category()["ap75"][rows].mean())


def test_accuracy_by_bin_agrees_with_the_summary(source):
    frame, summary = views.accuracy_by_bin(source), ACCURACY.summary(per_category(), categories())
    assert frame.index.tolist() == ["ACC", "ACC1", "ACC2", "ACC3", "ACCbg"]
    assert frame["accuracy"].to_dict() == pytest.approx({name: summary[name] for name in frame.index})
    macro = [summary[f"ACCmacro{key}"] for key in ("", 1, 2, 3)]
    assert frame["macro"].tolist() == pytest.approx([*macro, np.nan], nan_ok=True)
    assert frame["proposals"].tolist() == [574, 6, 18, 50, 500]
    assert frame["classes"].tolist() == [6, 2, 2, 2, 0]


def test_several_runs_side_by_side(source):
    other = per_category(seed=1)
    runs = views.compare_ap({"softmax": source, "bags": other})
    assert runs.index.tolist() == ["softmax", "bags"]
    assert runs.columns.tolist() == ["mAP", "AP1", "AP2", "AP3", "APr", "APc", "APf"]
    assert runs.loc["bags", "AP3"] == pytest.approx(other["ap"][[3, 6]].mean())
    assert views.compare_ap({"bags": other}, "ap50").loc["bags", "AP2"] == pytest.approx(other["ap50"][4])
    runs = views.compare_accuracy({"softmax": source, "bags": other})
    assert runs["ACCbg"].tolist() == [0.96, 0.96]


def test_what_is_not_a_per_category_table_is_named(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        views.ap_by_bin(tmp_path / "absent.csv")
    path = tmp_path / "bad.csv"
    per_category().drop(columns="ap").to_csv(path)
    with pytest.raises(InputError, match=r"bad\.csv: field 'ap' is missing"):
        views.ap_by_bin(path)
    per_category().to_csv(path, index=False)
    with pytest.raises(InputError, match="'label' is missing"):
        read(path)
    per_category().assign(proposals="many").to_csv(path)
    with pytest.raises(InputError, match="'proposals' is not numeric"):
        views.accuracy_by_bin(path)
    for content in (b"", b"\xff\xfe\x00bin", b'a,b\n"1,2\n3'):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"bad\.csv"):
            read(path)


def test_measures_by_bin_are_means_over_classes_in_the_unit_of_each(source):
    frame = per_category()
    found = views.by_bin(source, WEIGHT_NORM, ACCURACY, LOGITS)
    assert list(found) == ["weight_norm", "bias", "proposals", "correct", "accuracy"], "earlier tables have no logits"
    assert found.index.tolist() == ["all", "1", "2", "3", "background"]
    assert found.loc["2", "weight_norm"] == pytest.approx(frame["weight_norm"][frame["bin"] == 2].mean())
    assert found.loc["all", ["proposals", "correct"]].tolist() == [74, 47], "summed"
    with_logits = frame.assign(logit_magnitude=np.arange(8.0), logit_rsd=np.nan)
    found = views.cells(views.by_bin(with_logits, ACCURACY, LOGITS))
    assert found.loc["background"].to_dict() == {
        "proposals": 500, "correct": 480, "accuracy": "96.00", "logit_magnitude": "7.000", "logit_rsd": "-",
    }  # fmt: skip
