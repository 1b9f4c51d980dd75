"""Classifiers in other frameworks' checkpoints: found by name, with background in the framework's place."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models.detection import fasterrcnn_resnet50_fpn

from imbalance_bench.categories import CategoryTable
from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.checkpoints.foreign import FoundClassifier, find
from imbalance_bench.checkpoints.formats import Checkpoint, read
from imbalance_bench.classifiers import GroupSoftmaxClassifier, NCMClassifier, SigmoidFocalClassifier, SoftmaxClassifier
from imbalance_bench.runtime.errors import InputError

DATA = Path(__file__).resolve().parents[1] / "data"
COUNTS = np.array([500, 3, 70, 4000, 2, 5])
MMDET = "roi_head.bbox_head.fc_cls"
ROI = "roi_heads.box_predictor.cls_score"


def table(counts: np.ndarray = COUNTS, ids: np.ndarray | None = None) -> CategoryTable:
    n = len(counts)
    ids = np.arange(n) + 1 if ids is None else ids
    return CategoryTable(ids, tuple(f"c{i}" for i in range(n)), counts, counts, ("r",) * n)


def rows(width: int, offset: float = 0) -> Tensor:
    """(width, 2); row k is (offset + k, 0), so that its norm says which it is."""
    return torch.stack([torch.arange(width) + offset, torch.zeros(width)], dim=1)


def linear(name: str, width: int, offset: float = 0) -> dict[str, Tensor]:
    """Weight and bias; the bias of row k is -k."""
    return {f"{name}.weight": rows(width, offset), f"{name}.bias": -torch.arange(width).float()}


def checkpoint(*states: Mapping[str, Tensor], meta: dict[str, Any] | None = None) -> Checkpoint:
    return Checkpoint(Path("x.pth"), {f"{n}." * bool(n): dict(s) for n, s in enumerate(states)}, meta or {})


def only(found: list[FoundClassifier]) -> FoundClassifier:
    assert len(found) == 1
    return found[0]


def taken(found: FoundClassifier) -> list[float]:
    """Which row stands at each place, background last; NaN where none does."""
    taken = found.weights[:, 0]
    np.testing.assert_array_equal(taken, -found.biases)
    return taken.tolist()


FIRST, LAST = [1, 2, 3, 4, 5, 6, 0], [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("state", "meta", "framework", "expected"),
    [
        (linear(MMDET, 7), {}, "mmdet", LAST),
        (linear(f"module.{MMDET}", 7) | {"module.rpn_head.w": torch.ones(1)}, {}, "mmdet", LAST),
        (linear(MMDET, 7), {"mmdet_version": "2.28.1", "epoch": 12, "CLASSES": ("a",)}, "mmdet", LAST),
        (linear("bbox_head.fc_cls", 7), {"mmdet_version": "1.0rc0+d3ca926"}, "mmdet 1", FIRST),
        (linear("bbox_head.fc_cls", 7) | {"rpn_head.rpn_cls.weight": torch.ones(1)}, {}, "mmdet 1", FIRST),
        (linear("bbox_head.fc_cls", 7), {}, "mmdet", LAST),  # DETR
        (linear(ROI, 7) | {"backbone.body.conv1.weight": torch.ones(1)}, {}, "torchvision", FIRST),
        (linear(ROI, 7) | {"model.backbone.bottom_up.stem.conv1.weight": torch.ones(1)}, {}, "detectron2", LAST),
        (linear(ROI, 7) | {"roi_heads.box_predictor.bbox_pred.weight": rows(24)}, {}, "detectron2", LAST),
        (linear(ROI, 7) | {"roi_heads.box_predictor.bbox_pred.weight": rows(4)}, {}, "detectron2", LAST),
        (linear("module.roi_heads.box.predictor.cls_score", 7), {}, "maskrcnn-benchmark", FIRST),
        ({"cls_score_w": rows(7), "cls_score_b": -rows(7)[:, 0]}, {}, "Detectron", FIRST),
    ],
)
def test_where_background_is(
    state: dict[str, Tensor], meta: dict[str, Any], framework: str, expected: list[int]
) -> None:
    for categories in (table(), None):
        found = only(find(checkpoint(state, meta=meta), categories))
        assert found.framework == framework
        assert taken(found) == expected
        assert (found.width, found.background_row) == (7, expected[-1])


def test_background_can_be_said() -> None:
    state = checkpoint(linear(ROI, 7))
    with pytest.raises(InputError, match="--background"):
        find(state)
    assert taken(only(find(state, table(), background="first"))) == FIRST
    assert taken(only(find(state, table(), background="last"))) == LAST
    found = only(find(state, table(np.append(COUNTS, 8)), background="none"))
    assert taken(found)[:-1] == LAST and np.isnan(taken(found)[-1]) and found.background_row is None
    with pytest.raises(InputError, match=r"'--background' is 'middle', expected first, last, none"):
        find(state, background="middle")


def test_a_genuine_torchvision_detector(tmp_path: Path) -> None:
    model = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=11)
    torch.save({"model": model.state_dict(), "epoch": 3}, tmp_path / "tv.pth")
    score = model.roi_heads.box_predictor.cls_score
    found = only(find(read(tmp_path / "tv.pth"), table(np.arange(10))))
    assert (found.tensor, found.stage) == (f"model.{ROI}.weight", "roi_heads.box_predictor")
    assert (found.framework, found.background_row) == ("torchvision", 0)
    np.testing.assert_array_equal(found.weights, score.weight.detach().roll(-1, dims=0))
    np.testing.assert_array_equal(found.biases, score.bias.detach().roll(-1))
    # Six categories with gaps between their ids, scored by row id, as torchvision's own COCO detectors do.
    found = only(find(read(tmp_path / "tv.pth"), table(ids=np.array([1, 3, 4, 7, 9, 10]))))
    np.testing.assert_array_equal(found.weights, score.weight.detach()[[1, 3, 4, 7, 9, 10, 0]])
    assert "category id" in found.framework


def test_stages_in_their_order() -> None:
    for name in ("roi_head.bbox_head.{}.fc_cls", "roi_heads.box_predictor.{}.cls_score"):
        state: dict[str, Tensor] = {}
        for stage in (10, 0, 2, 1):
            state |= linear(name.format(stage), 7, offset=stage)
            state[f"roi_heads.box_predictor.{stage}.bbox_pred.weight"] = rows(4)
        found = find(checkpoint(state), table())
        assert [float(classifier.weights[0, 0]) for classifier in found] == [0, 1, 2, 10]
        assert found[-1].stage == name.format(10).rpartition(".")[0]
    assert checkpoints.stage_order("9" * 5000)
    one = find(checkpoint(state), table(), key="roi_heads.box_predictor.2.cls_score.weight")
    assert only(one).stage == "roi_heads.box_predictor.2"


def test_averaged_weights_stand_behind_the_others() -> None:
    buffers = {
        "ema_roi_head_bbox_head_fc_cls_weight": rows(7, 100),
        "ema_roi_head_bbox_head_fc_cls_bias": rows(7)[:, 0],
    }
    assert only(find(checkpoint(linear(MMDET, 7) | buffers))).tensor == f"{MMDET}.weight"
    found = only(find(checkpoint(buffers)))
    assert (found.tensor, found.framework) == ("ema_roi_head_bbox_head_fc_cls_weight", "mmdet")
    assert found.biases.tolist() == [0, 1, 2, 3, 4, 5, 6]
    other = linear(f"module.{MMDET}", 7, 50)
    assert only(find(checkpoint({"epoch": rows(2)}, linear(MMDET, 7), other))).tensor == f"1.{MMDET}.weight"
    assert only(find(checkpoint({"epoch": rows(2)}, other))).stage == "roi_head.bbox_head"


def test_released_bags_by_hand() -> None:
    # Groups [0,10): classes 1, 4, 5; [10,100): 2; [100,1000): 0; the rest: 3. Rows: background, foreground, then
    # others and classes of each group.
    state = linear("bbox_head.fc_cls", 12) | {"rpn_head.rpn_cls.weight": torch.ones(1)}
    found = only(find(checkpoint(state), table()))
    assert taken(found) == [9, 3, 7, 11, 4, 5, 0]
    assert found.framework == "mmdet 1, group softmax of 4 groups"
    assert taken(only(find(checkpoint(linear(MMDET, 12)), table()))) == [9, 3, 7, 11, 4, 5, 0]
    # Two groups, cut at 100: classes 1, 2, 4, 5 and 0, 3.
    assert taken(only(find(checkpoint(linear(MMDET, 10)), table()))) == [8, 3, 4, 9, 5, 6, 0]
    # SeesawLoss: classes, then objectness of objects and of background.
    assert taken(only(find(checkpoint(linear(MMDET, 8)), table()))) == [0, 1, 2, 3, 4, 5, 7]


def test_released_bags_on_lvis() -> None:
    categories = CategoryTable.from_counts(DATA / "lvis_v0.5_train_counts.csv")
    places = np.array(taken(only(find(checkpoint(linear("bbox_head.fc_cls", 1236)), categories))))
    assert places[-1] == 0
    # Slices (start, length) of the released code; the first row of each is others.
    for number, (start, length) in enumerate([(2, 295), (297, 454), (751, 303), (1054, 182)], start=1):
        inside = places[:-1][categories.bins == number]
        assert inside.tolist() == list(range(start + 1, start + length))


@pytest.mark.parametrize("kind", ["softmax", "bags", "focal", "ncm"])
def test_checkpoints_of_this_suite(kind: str, tmp_path: Path) -> None:
    classifier = {
        "softmax": SoftmaxClassifier(6, 4),
        "bags": GroupSoftmaxClassifier(6, 4, [1, 1, 2, 2, 1, 3]),
        "focal": SigmoidFocalClassifier(6, 4),
        "ncm": NCMClassifier(6, 12, 4, taps=("conv", "fc")),
    }[kind]
    state = {f"{MMDET}.{name}": value for name, value in classifier.state_dict().items()}
    checkpoints.save(tmp_path / "x.pth", state, classifier, table())
    found = only(find(read(tmp_path / "x.pth"), table()))
    np.testing.assert_array_equal(found.weights, classifier.class_weights().detach())
    np.testing.assert_array_equal(found.biases, classifier.class_biases().detach())
    assert found.background_row == {"softmax": 6, "bags": 0, "focal": None, "ncm": None}[kind]
    assert type(classifier).__name__ in found.framework
    if kind == "ncm":
        with pytest.raises(InputError, match="expected a detector with a box classifier"):
            find(read(tmp_path / "x.pth"), background="last")
    state[next(name for name in state if "weight" in name)][0, 0] = torch.inf
    with pytest.raises(InputError, match="NaN or infinite"):
        find(checkpoint(state, meta={"classifier": classifier.config()}))


def test_a_key() -> None:
    state = checkpoint(
        {"head.w": rows(7), "head.cls.weight": rows(7), "head.cls.bias": -rows(7)[:, 0]} | linear(MMDET, 7)
    )
    found = only(find(state, table(), key="head.cls.weight", background="first"))
    assert taken(found) == FIRST and found.framework == "unknown framework"
    assert np.isnan(only(find(state, key="head.w", background="none")).biases).all()
    with pytest.raises(InputError, match="--background"):
        find(state, key="head.w")
    with pytest.raises(InputError, match="'--key' is 'heads', but no tensor"):
        find(state, key="heads")


@pytest.mark.parametrize(
    ("state", "expectation"),
    [
        ({"backbone.weight": rows(3)}, "no '...fc_cls.weight'"),
        ({f"{MMDET}.weight": torch.ones(7)}, r"has shape \(7,\), expected \(C \+ 1, d\)"),
        ({f"{MMDET}.weight": torch.ones(1, 7)}, r"has shape \(1, 7\)"),
        ({f"{MMDET}.weight": torch.ones(7, 2, 1, 1)}, r"has shape \(7, 2, 1, 1\)"),
        ({f"{MMDET}.weight": rows(7), f"{MMDET}.bias": torch.ones(6)}, r"bias of .* has shape \(6,\), expected \(7,\)"),
        ({f"{MMDET}.weight": rows(7), f"{MMDET}.bias": torch.full((7,), torch.nan)}, "bias .* 7 values that are NaN"),
        ({f"{MMDET}.weight": rows(7) * torch.inf}, "NaN or infinite"),
        ({f"{MMDET}.weight": rows(7).int()}, r"torch\.int32"),
        (linear("bbox_head.0.fc_cls", 7) | linear("bbox_head.1.fc_cls", 8), "stages differ in shape"),
        (linear(MMDET, 9), r"has 9 rows, expected 6 \+ 1: the training categories have 6 entries"),
    ],
)
def test_what_does_not_fit(state: dict[str, Tensor], expectation: str) -> None:
    with pytest.raises(InputError, match=expectation) as caught:
        find(checkpoint(state), table() if len(next(iter(state.values()))) == 9 else None)
    assert str(caught.value).startswith("x.pth: ") and "\n" not in str(caught.value)


def test_a_configuration_allocates_no_more_than_the_file_holds() -> None:
    for config in (
        {"type": "SoftmaxClassifier", "num_classes": 1 << 20, "feature_dim": 1 << 20},
        {"type": "GroupSoftmaxClassifier", "num_classes": 3, "feature_dim": 2, "groups": [1, 2, 1 << 40]},
    ):
        for state in (linear(MMDET, 7), {f"{MMDET}.weight": torch.ones(1, 1).expand(1 << 30, 1 << 30)}):
            with pytest.raises(InputError, match=r"x\.pth"):
                find(checkpoint(state, meta={"classifier": config}))


# The file lists four categories in no order of ids; instances tell the classes apart.
LISTED = {40: "d", 10: "a", 30: "c", 20: "b"}
CONTENT: dict[str, Any] = {
    "categories": [{"id": i, "name": name} for i, name in LISTED.items()],
    "images": [{"id": 1}],
    "annotations": [{"category_id": i, "image_id": 1} for i in LISTED for _ in range(i)],
}


def norm_of(found: FoundClassifier) -> dict[str, float]:
    """First weight of each class by its name."""
    assert found.categories is not None
    assert len(found.weights) == found.categories.num_classes + 1
    counts = dict(zip(found.categories.names, found.categories.instance_counts.tolist(), strict=True))
    assert all(counts[name] == i for i, name in LISTED.items() if name in counts)
    return dict(zip(found.categories.names, found.weights[:-1, 0].tolist(), strict=True))


@pytest.mark.parametrize(
    ("state", "meta", "expected"),
    [
        # mmdet, maskrcnn-benchmark and Detectron: the file's order.
        (linear(MMDET, 5), {}, {"d": 0, "a": 1, "c": 2, "b": 3}),
        (linear("module.roi_heads.box.predictor.cls_score", 5), {}, {"d": 1, "a": 2, "c": 3, "b": 4}),
        ({"cls_score_w": rows(5), "cls_score_b": -rows(5)[:, 0]}, {}, {"d": 1, "a": 2, "c": 3, "b": 4}),
        # detectron2: ascending ids.
        (linear(ROI, 5) | {"backbone.bottom_up.w": rows(1)}, {}, {"a": 0, "b": 1, "c": 2, "d": 3}),
        # torchvision: ids themselves.
        (linear(ROI, 91) | {"backbone.body.w": rows(1)}, {}, {"a": 10, "b": 20, "c": 30, "d": 40}),
        # Names, wherever the checkpoint has them.
        (linear(MMDET, 5), {"CLASSES": ("b", "c", "d", "a")}, {"b": 0, "c": 1, "d": 2, "a": 3}),
        (linear(MMDET, 5), {"dataset_meta": {"classes": list("bcda")}}, {"b": 0, "c": 1, "d": 2, "a": 3}),
        (linear("bbox_head.fc_cls", 5), {"mmdet_version": "1.1.0", "CLASSES": list("bcda")},
         {"b": 1, "c": 2, "d": 3, "a": 4}),
        # COCO's 80 names, which mmdet 1 writes whatever was trained on, are not those of four classes.
        (linear(MMDET, 5), {"CLASSES": tuple(map(str, range(80)))}, {"d": 0, "a": 1, "c": 2, "b": 3}),
        # A part of the classes, on either side.
        (linear(MMDET, 4), {"CLASSES": ("c", "a", "x")}, {"c": 0, "a": 1}),
        (linear(MMDET, 7), {"CLASSES": ("x", "d", "c", "y", "a", "b")}, {"d": 1, "c": 2, "a": 4, "b": 5}),
        # Helper rows of SeesawLoss.
        (linear(MMDET, 6), {"CLASSES": ("b", "c", "d", "a")}, {"b": 0, "c": 1, "d": 2, "a": 3}),
    ],
)  # fmt: skip
def test_every_norm_is_its_own_class(
    state: dict[str, Tensor], meta: dict[str, Any], expected: dict[str, float]
) -> None:
    found = only(find(checkpoint(state, meta=meta), CategoryTable.from_annotations(CONTENT)))
    assert norm_of(found) == expected


def test_group_softmax_counts_in_the_order_of_labels() -> None:
    # Edges at 25: a and b in group 1, c and d in group 2; labels are d a c b. Released: background, foreground, then
    # others and classes of each group in label order.
    table = CategoryTable.from_annotations(CONTENT, bin_edges=[25])
    found = only(find(checkpoint(linear(MMDET, 8)), table))
    assert norm_of(found) == {"a": 3, "b": 4, "d": 6, "c": 7}


def test_the_order_of_the_file_can_be_asked_for() -> None:
    named = checkpoint(linear(MMDET, 5), meta={"CLASSES": ("b", "c", "d", "a")})
    found = only(find(named, CategoryTable.from_annotations(CONTENT), by="file"))
    assert norm_of(found) == {"d": 0, "a": 1, "c": 2, "b": 3}


def test_classes_of_another_data_set_are_refused(tmp_path: Path) -> None:
    table = CategoryTable.from_annotations(CONTENT)
    with pytest.raises(InputError, match="none of its 4 class names") as caught:
        find(checkpoint(linear(MMDET, 5), meta={"CLASSES": ("w", "x", "y", "z")}), table)
    assert "\n" not in str(caught.value)
    # One of this suite too, which knows its own categories.
    classifier = SoftmaxClassifier(4, 2)
    state = {f"{MMDET}.{name}": value for name, value in classifier.state_dict().items()}
    checkpoints.save(tmp_path / "x.pth", state, classifier, CategoryTable.from_annotations(CONTENT))
    renamed = {**CONTENT, "categories": [{"id": i, "name": n * 2} for i, n in LISTED.items()]}
    with pytest.raises(InputError, match="none of its 4 class names"):
        find(read(tmp_path / "x.pth"), CategoryTable.from_annotations(renamed))
    other = {"categories": [{"id": i, "name": n} for i, n in enumerate("dcba")], "images": [], "annotations": []}
    found = only(find(read(tmp_path / "x.pth"), CategoryTable.from_annotations(other)))
    assert found.categories is not None and found.categories.names == tuple("dcba")
    np.testing.assert_array_equal(found.weights, classifier.class_weights().detach()[[3, 2, 1, 0, 4]])


def test_counts_in_a_table_go_by_their_rows(tmp_path: Path) -> None:
    (tmp_path / "named.csv").write_text("id,name,instance_count\n40,d,4\n10,a,1\n30,c,3\n20,b,2\n")
    (tmp_path / "plain.csv").write_text("id,instance_count\n40,4\n10,1\n30,3\n20,2\n")
    for name, meta in (("named", {"CLASSES": tuple("bcda")}), ("plain", {"CLASSES": tuple("bcda")}), ("named", {})):
        found = only(find(checkpoint(linear(MMDET, 5), meta=meta), CategoryTable.from_counts(tmp_path / f"{name}.csv")))
        row_of_id = [3, 0, 1, 2] if name == "named" and meta else [1, 3, 2, 0]
        assert found.weights[:-1, 0].tolist() == row_of_id


def regressor(name: str, rows_of: int) -> dict[str, Tensor]:
    return {f"{name}.weight": rows(rows_of)}


@pytest.mark.parametrize(
    ("state", "meta", "framework", "expected"),
    [
        # Upgraded from version 1 by mmdet's script: rows moved, the version kept.
        (linear(MMDET, 7) | {"rpn_head.w": rows(1)}, {"mmdet_version": "1.0.0"}, "mmdet", LAST),
        (linear(MMDET, 7) | regressor("roi_head.bbox_head.fc_reg", 24), {"mmdet_version": "1.2"}, "mmdet", LAST),
        # Named as in version 1 but with a regressor of six classes, or of seven.
        (linear("bbox_head.fc_cls", 7) | regressor("bbox_head.fc_reg", 24), {}, "mmdet", LAST),
        (linear("bbox_head.fc_cls", 7) | regressor("bbox_head.fc_reg", 28), {}, "mmdet 1", FIRST),
        (linear("bbox_head.fc_cls", 7) | {"bbox_head.shared_fcs.0.weight": rows(1)}, {}, "mmdet 1", FIRST),
        # Names of version 2 put on version 1's rows by hand: four rows of the regressor for background, too.
        (linear(MMDET, 7) | regressor("roi_head.bbox_head.fc_reg", 28), {}, "mmdet 1 under new names", FIRST),
        # Nobody else's parts are there: the regressor and the number of categories tell.
        (linear(ROI, 7) | regressor("roi_heads.box_predictor.bbox_pred", 28), {}, "torchvision", FIRST),
    ],
)
def test_structure_beats_metadata(
    state: dict[str, Tensor], meta: dict[str, Any], framework: str, expected: list[int]
) -> None:
    found = only(find(checkpoint(state, meta=meta), table()))
    assert found.framework == framework
    assert taken(found) == expected
    assert any("though its meta says" in note for note in found.notes) == ("mmdet_version" in meta)


def test_a_head_without_background() -> None:
    """EQL's has C rows; class 0 is nobody's background."""
    none = [0, 1, 2, 3, 4, 5]
    for state, framework in (
        (linear(ROI, 6) | regressor("roi_heads.box_predictor.bbox_pred", 24), "detectron2"),
        (linear(MMDET, 6) | regressor("roi_head.bbox_head.fc_reg", 24), "mmdet"),
    ):
        found = only(find(checkpoint(state), table()))
        assert taken(found)[:-1] == none and np.isnan(taken(found)[-1])
        assert (found.framework, found.background_row) == (f"{framework}, a sigmoid without background", None)
        assert taken(only(find(checkpoint(state), background="none")))[:-1] == none
        with pytest.raises(InputError, match=r"nothing tells where background is .*--background \(first, none\)"):
            find(checkpoint(state))
    with pytest.raises(InputError, match=r"6 rows, expected 6 \+ 1: .*'--background none' says that it has no row"):
        find(checkpoint(linear(MMDET, 6)), table())
    with pytest.raises(InputError, match=r"6 rows and the checkpoint names 6 classes, .*'--background none'"):
        find(checkpoint(linear(MMDET, 6), meta={"CLASSES": tuple("abcdef")}))
    assert "'--background none'" in only(find(checkpoint(linear(MMDET, 6)))).notes[0]


def test_a_contradiction_is_asked_about() -> None:
    # Parts of version 1, and a version that has no such parts.
    state = linear("bbox_head.fc_cls", 7) | {"rpn_head.rpn_cls.weight": torch.ones(1)}
    with pytest.raises(InputError, match=r"--background \(first, last\)"):
        find(checkpoint(state, meta={"mmdet_version": "2.3.0"}), table())


def test_one_class() -> None:
    one = table(np.array([3]))
    assert taken(only(find(checkpoint(linear(MMDET, 2)), one))) == [0, 1]
    assert taken(only(find(checkpoint(linear(MMDET, 2) | regressor("roi_head.bbox_head.fc_reg", 4)), one))) == [0, 1]
    assert taken(only(find(checkpoint(linear(MMDET, 1)), one, background="none")))[0] == 0
    with pytest.raises(InputError, match=r"shape \(1, 2\), .*'--background none'"):
        find(checkpoint(linear(MMDET, 1)), one)


def test_weights_that_are_elsewhere() -> None:
    state = {f"{MMDET}.weight": torch.ones(0), "backbone.w": torch.ones(0)}
    with pytest.raises(InputError, match=r"has shape \(0,\), .*ZeRO stage 3"):
        find(checkpoint(state), table())
