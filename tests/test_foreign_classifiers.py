"""Classifiers in other frameworks' checkpoints: found by name, background where the framework has it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models.detection import fasterrcnn_resnet50_fpn

from imbalance_bench import checkpoints
from imbalance_bench.categories import CategoryTable
from imbalance_bench.checkpoint_formats import Checkpoint, read
from imbalance_bench.classifiers import GroupSoftmaxClassifier, NCMClassifier, SigmoidFocalClassifier, SoftmaxClassifier
from imbalance_bench.errors import InputError
from imbalance_bench.foreign_classifiers import FoundClassifier, find

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
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
    assert torch.equal(taken.nan_to_num(-9), (-found.biases).nan_to_num(-9))
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
    assert torch.equal(found.weights, score.weight.roll(-1, dims=0))
    assert torch.equal(found.biases, score.bias.roll(-1))
    # Six categories with gaps between their ids, scored by row id, as torchvision's own COCO detectors do.
    found = only(find(read(tmp_path / "tv.pth"), table(ids=np.array([1, 3, 4, 7, 9, 10]))))
    assert torch.equal(found.weights, score.weight[[1, 3, 4, 7, 9, 10, 0]])
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
    path = SHARED / "lvis_v0.5_train_counts.csv"
    if not path.exists():
        pytest.skip("shared/data is not there")
    categories = CategoryTable.from_counts(path)
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
    assert torch.equal(found.weights.nan_to_num(9), classifier.class_weights().nan_to_num(9))
    assert torch.equal(found.biases.nan_to_num(9), classifier.class_biases().nan_to_num(9))
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
    assert only(find(state, key="head.w", background="none")).biases.isnan().all()
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
