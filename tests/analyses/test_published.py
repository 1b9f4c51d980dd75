import numpy as np
import pytest

from analyses.published import VAL_CLASSES, table

LVIS, COCO_LT = VAL_CLASSES["LVIS v0.5"], VAL_CLASSES["COCO-LT"]
ROWS = {1: 14, 2: 6, 3: 12, 4: 7, 5: 4, 6: 6}


@pytest.mark.parametrize(("number", "suffix"), [(1, ""), (2, ""), (3, ""), (3, "^m"), (4, ""), (5, "")])
@pytest.mark.parametrize("grouping", ["bins", "frequencies"])
def test_map_is_the_weighted_mean_of_its_groups_in_every_row(number, suffix, grouping):
    names = ["AP1", "AP2", "AP3", "AP4"] if grouping == "bins" else ["APr", "APc", "APf"]
    columns = ["mAP" + suffix, *(name + suffix for name in names)]
    frame = table(number)
    rows = frame.dropna(subset=columns)
    assert len(rows) >= ROWS[number] - 6
    implied = rows[columns[1:]].to_numpy() @ np.array(LVIS[grouping]) / sum(LVIS[grouping])
    # The cited papers' rows are rounded to one decimal.
    tolerance = np.where(rows["note"] == "result of the cited paper", 0.1, 0.01) + 1e-9
    assert (np.abs(rows[columns[0]] - implied) <= tolerance).all()


def test_coco_lt_rows_too_to_one_decimal():
    frame = table(6)
    implied = frame[["AP1", "AP2", "AP3", "AP4"]].to_numpy() @ np.array(COCO_LT["bins"]) / 80
    np.testing.assert_allclose(frame["mAP"], implied, atol=0.1 + 1e-9, rtol=0)


def test_accuracy_columns_imply_acc_except_for_the_flagged_misprint():
    # ACC is a mean of the other columns weighted by proposals; the weights are the same in every row.
    frame = table(1)
    parts, acc = frame[["ACC1", "ACC2", "ACC3", "ACC4", "ACCbg"]].to_numpy(), frame["ACC"].to_numpy()
    flagged = frame["note"].str.contains("misprint").to_numpy()
    assert frame["ID"][flagged].tolist() == [3]
    assert acc[flagged] == pytest.approx(94.81)
    weights = np.linalg.lstsq(parts[~flagged], acc[~flagged], rcond=None)[0]
    assert np.abs(parts @ weights - acc)[~flagged].max() < 0.1
    assert (parts @ weights)[flagged] == pytest.approx(94.5, abs=0.05)


@pytest.mark.parametrize("number", ROWS)
def test_every_row_is_there(number):
    assert len(table(number)) == ROWS[number]


def test_tables_agree_where_they_repeat_a_row():
    columns = ["mAP", "AP1", "AP2", "AP3", "AP4", "APr", "APc", "APf"]
    baseline, ours = table(1)[columns].iloc[[0, 13]].to_numpy()
    np.testing.assert_array_equal(table(2)[columns].iloc[:2], [baseline, ours])
    np.testing.assert_array_equal(table(4)[columns].iloc[[0, 5]], [baseline, ours])


def test_an_unknown_table():
    with pytest.raises(ValueError, match="expected 1 to 6"):
        table(7)
