"""Results of other libraries are converted to our detections; stand-ins with the same fields replace their objects."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.runtime.errors import InputError

TABLE = CategoryTable.from_arrays([4, 120, 9], names=["ladle", "kite", "cat"], ids=[3, 18, 90])
NAMES = {0: "kite", 1: "cat", 2: "ladle"}
BOXES = [[0.0, 0.0, 8.0, 8.0], [2.0, 2.0, 6.0, 7.0]]
MASKS = np.zeros((2, 10, 12), dtype=bool)
MASKS[0, 1:4, 2:9] = MASKS[1, 5:, :3] = True


def supervision(n: int) -> Any:
    return SimpleNamespace(
        xyxy=np.array(BOXES[:n]).reshape(-1, 4),
        confidence=np.array([0.9, 0.5][:n]),
        class_id=np.array([2, 0][:n], int),
        mask=MASKS[:n] if n else None,
        data={"class_name": np.array(["ladle", "kite"][:n])},
    )


def ultralytics(n: int) -> Any:
    boxes = SimpleNamespace(
        xyxy=torch.tensor(BOXES[:n]).reshape(-1, 4), conf=torch.tensor([0.9, 0.5][:n]), cls=torch.tensor([2.0, 0.0][:n])
    )
    return SimpleNamespace(boxes=boxes, names=NAMES)


def torchvision(n: int) -> Any:
    return {
        "boxes": torch.tensor(BOXES[:n]).reshape(-1, 4),
        "scores": torch.tensor([0.9, 0.5][:n]),
        "labels": torch.tensor([3, 1][:n]),
        "masks": 0.8 * torch.from_numpy(MASKS[:n, None]),
    }


def transformers(n: int) -> Any:
    return {
        "boxes": torch.tensor(BOXES[:n]).reshape(-1, 4),
        "scores": torch.tensor([0.9, 0.5][:n]).bfloat16().float(),
        "labels": torch.tensor([2, 0][:n]),
    }


def detectron2(n: int) -> Any:
    instances = SimpleNamespace(
        pred_boxes=SimpleNamespace(tensor=torch.tensor(BOXES[:n]).reshape(-1, 4)),
        scores=torch.tensor([0.9, 0.5][:n]),
        pred_classes=torch.tensor([2, 0][:n]),
        pred_masks=torch.from_numpy(MASKS[:n]),
    )
    return {"instances": instances}


LIBRARIES = {
    "supervision": (Detections.from_supervision, supervision, None, True),
    "ultralytics": (Detections.from_ultralytics, ultralytics, None, False),
    "torchvision": (Detections.from_torchvision, torchvision, ["background", "kite", "cat", "ladle"], True),
    "transformers": (Detections.from_transformers, transformers, NAMES, False),
    "detectron2": (Detections.from_detectron2, detectron2, ["kite", "cat", "ladle"], True),
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_one_image_and_several(library: str) -> None:
    take, make, names, with_masks = LIBRARIES[library]
    one = take(make(2), 7)
    assert (one.image_ids.tolist(), one.labels.tolist()) == ([7, 7], [2, 0])
    assert one.boxes.tolist() == BOXES
    assert one.scores == pytest.approx([0.9, 0.5], abs=2e-3)
    assert (one.masks is not None) == with_masks
    if with_masks:
        np.testing.assert_array_equal(one.masks.boxes([0, 1]), [[2, 1, 7, 3], [0, 5, 3, 5]])
    several = take([make(2), make(0), make(1)], [7, 9, 4])
    assert several.image_ids.tolist() == [7, 7, 4]
    named = take([make(2), make(1)], np.array([7, 4]), categories=TABLE, names=names)
    assert named.labels.tolist() == [0, 1, 0]
    assert len(take([], [])) == 0


@pytest.mark.parametrize("library", LIBRARIES)
def test_what_is_wrong_is_said(library: str) -> None:
    take, make, names, _ = LIBRARIES[library]
    with pytest.raises(InputError, match="image_ids: 1 of 2 images"):
        take([make(1), make(1)], 7)
    with pytest.raises(InputError, match=r"field '(boxes|xyxy|pred_boxes)' is missing|expected a dictionary"):
        take(SimpleNamespace(), 7)
    other = CategoryTable.from_arrays([1], names=["kite"])
    with pytest.raises(InputError, match=r"image 7: class [23] is 'ladle', which 'categories' does not have"):
        take(make(2), 7, categories=other, names=names)
    if library in ("torchvision", "transformers", "detectron2"):
        with pytest.raises(InputError, match="names: missing"):
            take(make(2), 7, categories=TABLE)
    with pytest.raises(InputError, match=r"image 7: class [123] has no name among the 1 given"):
        take(make(2), 7, categories=TABLE, names=["kite"])


def test_values_that_cannot_be() -> None:
    relative = transformers(1) | {"boxes": torch.tensor([[0.0, 0.1, 0.5, 1.0]])}
    with pytest.raises(InputError, match="lies within 0 and 1, expected pixels"):
        Detections.from_transformers(relative, 7)
    with pytest.raises(InputError, match="class 0 is below the first, 1"):
        Detections.from_torchvision(torchvision(1) | {"labels": torch.tensor([0])}, 7)
    with pytest.raises(InputError, match="'confidence' or 'class_id' is None"):
        Detections.from_supervision(SimpleNamespace(xyxy=np.zeros((1, 4)), confidence=None, class_id=np.zeros(1)), 7)
    with pytest.raises(InputError, match="no whole numbers"):
        Detections.from_torchvision(torchvision(1) | {"labels": torch.tensor([0.5])}, 7)
    with pytest.raises(InputError, match="scores: shape is"):
        Detections.from_torchvision(torchvision(1) | {"scores": torch.rand(2)}, 7)
    with pytest.raises(InputError, match="detections: field 'scores' holds NaN or infinity"):
        Detections.from_torchvision(torchvision(1) | {"scores": torch.tensor([torch.nan])}, 7)
    with pytest.raises(InputError, match="some images have them and others do not"):
        Detections.from_torchvision([torchvision(1), {k: v for k, v in torchvision(1).items() if k != "masks"}], [1, 2])


def test_arrays_and_coco() -> None:
    found = Detections.from_arrays([7, 7], torch.tensor(BOXES), [0.9, 0.5], torch.tensor([2, 0]))
    results = [
        {"image_id": 7, "category_id": 90, "score": 0.9, "bbox": [0, 0, 8, 8]},
        {"image_id": 7, "category_id": 3, "score": 0.5, "bbox": [2, 2, 4, 5]},
    ]
    theirs = Detections.from_coco(results, TABLE)
    assert theirs.labels.tolist() == found.labels.tolist() and theirs.boxes.tolist() == found.boxes.tolist()
    for wrong, message in (
        (([7], BOXES, [0.9, 0.5], [2, 0]), r"labels: shape is \(2,\), expected \(1,\)"),
        (([7.5, 7], BOXES, [0.9, 0.5], [2, 0]), "image_ids: values are float64, expected integers"),
        (([7, 7], BOXES, [0.9, float("nan")], [2, 0]), "field 'scores' holds NaN or infinity"),
        (([7, 7], [[1, 2], [3]], [0.9, 0.5], [2, 0]), "boxes: not an array"),
    ):
        with pytest.raises(InputError, match=message):
            Detections.from_arrays(*wrong)
    with pytest.raises(InputError, match=r"results: results\[0\]: field 'category_id' is 4"):
        Detections.from_coco([results[0] | {"category_id": 4}], TABLE)
