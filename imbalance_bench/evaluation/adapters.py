"""Read the detections of other libraries: objects are read by their fields, and no library is imported.

Each function returns (boxes, scores, labels[, masks]) of one image, as ``Detections.from_images`` expects them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation.rle import encode
from imbalance_bench.runtime.arrays import as_array, numpy_of
from imbalance_bench.runtime.errors import InputError

Names = Mapping[int, str] | Sequence[str]
"""Names of classes, by the class number of the library."""
Image = tuple[Any, ...]


def supervision(found: Any) -> tuple[Image, Names | None]:
    """Read ``supervision.Detections``: ``xyxy``, ``confidence``, ``class_id``, ``mask``; names in ``data``."""
    boxes, scores, numbers = (
        _field(found, field, "supervision.Detections") for field in ("xyxy", "confidence", "class_id")
    )
    if scores is None or numbers is None:
        raise InputError("supervision.Detections: 'confidence' or 'class_id' is None, expected both")
    labels = numpy_of(numbers)
    names = (getattr(found, "data", None) or {}).get("class_name")
    image = _image(boxes, scores, numbers, masks=getattr(found, "mask", None))
    return image, None if names is None else _named(labels, names)


def ultralytics(found: Any) -> tuple[Image, Names | None]:
    """Read ``ultralytics`` ``Results``: ``boxes.xyxy``, ``.conf``, ``.cls`` (whole numbers as floats); ``names``."""
    boxes = _field(found, "boxes", "ultralytics.Results")
    if boxes is None:
        raise InputError("ultralytics.Results: 'boxes' is None, expected the results of a detector")
    columns = [_field(boxes, field, "ultralytics.Results.boxes") for field in ("xyxy", "conf", "cls")]
    return _image(*columns), getattr(found, "names", None)


def torchvision(found: Any) -> tuple[Image, Names | None]:
    """Read a dictionary of torchvision: ``boxes``, ``scores``, ``labels`` from 1, ``masks`` (N, 1, H, W) of 0 to 1."""
    boxes, scores, labels = _keys(found, "torchvision output")
    masks = found.get("masks")
    if masks is not None:
        masks = numpy_of(masks)[:, 0] > 0.5
    return _image(boxes, scores, labels, masks=masks), None


def transformers(found: Any) -> tuple[Image, Names | None]:
    """Read a dictionary of ``post_process_object_detection``: ``boxes`` in pixels, ``scores``, ``labels``."""
    boxes, scores, labels = _keys(found, "transformers output")
    corners = numpy_of(boxes)
    if corners.size and corners.max() <= 1:
        raise InputError(
            "transformers output: field 'boxes' lies within 0 and 1, expected pixels: give "
            "'post_process_object_detection' the 'target_sizes' of the images"
        )
    return _image(boxes, scores, labels), None


def detectron2(found: Any) -> tuple[Image, Names | None]:
    """Read ``Instances``, or the dictionary around it: ``pred_boxes.tensor``, ``scores``, ``pred_classes``."""
    found = found["instances"] if isinstance(found, Mapping) and "instances" in found else found
    boxes = _field(_field(found, "pred_boxes", "detectron2.Instances"), "tensor", "detectron2.Instances.pred_boxes")
    scores, labels = (_field(found, field, "detectron2.Instances") for field in ("scores", "pred_classes"))
    masks = found.pred_masks if hasattr(found, "pred_masks") else None
    return _image(boxes, scores, labels, masks=masks), None


Reader = Callable[[Any], tuple[Image, Names | None]]


def read(
    reader: Reader,
    found: Any,
    image_ids: int | Sequence[int] | np.ndarray,
    categories: CategoryTable | None,
    names: Names | None,
    first: int = 0,
) -> tuple[np.ndarray, list[Image]]:
    """Read the results of one image or of several.

    Args:
        reader: reads one object of this library.
        found: the object of one image, or a list of objects, one per image.
        image_ids: id of each image.
        categories: labels are found in it by name; None: class numbers count from ``first`` in category order.
        names: names of the library's classes, if its objects do not contain them.
        first: the library's number of the first class.

    Raises:
        InputError: objects of another kind, another number of ids, or a detection of an unknown class.
    """
    ids = np.atleast_1d(as_array("image_ids", np.atleast_1d(numpy_of(image_ids)), (None,), "integers"))
    objects = list(found) if isinstance(found, (list, tuple)) else [found]
    if len(ids) != len(objects):
        raise InputError(f"image_ids: {len(ids)} of {len(objects)} images, expected one each")
    images = []
    for image_id, item in zip(ids.tolist(), objects, strict=True):
        (boxes, scores, labels, *masks), own_names = reader(item)
        known = own_names if names is None else names
        if categories is None:
            labels = labels - first
            if len(labels) and labels.min() < 0:
                raise InputError(f"image {image_id}: class {labels.min() + first} is below the first, {first}")
        else:
            if known is None:
                raise InputError("names: missing, expected the name of each class, to find its label in 'categories'")
            labels = _by_name(labels, known, categories, image_id)
        images.append((boxes, scores, labels, *masks))
    if any(len(image) == 4 for image in images):  # images without detections may lack masks
        images = [image if len(image) == 4 or len(image[1]) else (*image, []) for image in images]
    if len({len(image) for image in images}) > 1:
        raise InputError("masks: some images have them and others do not, expected all or none")
    return ids, images


def _by_name(labels: np.ndarray, names: Names, categories: CategoryTable, image_id: int) -> np.ndarray:
    """Find the label of each detection in ``categories`` by the name of its class."""
    label_of = {name: label for label, name in enumerate(categories.names)}
    found = np.zeros(len(labels), dtype=np.int64)
    for own in np.unique(labels).tolist():
        try:
            name = names[own]
        except (KeyError, IndexError) as error:
            raise InputError(f"image {image_id}: class {own} has no name among the {len(names)} given") from error
        if name not in label_of:
            raise InputError(f"image {image_id}: class {own} is '{name}', which 'categories' does not have")
        found[labels == own] = label_of[name]
    return found


def _named(labels: np.ndarray, names: ArrayLike) -> dict[int, str]:
    """Return the name of each class number, from the names of the detections."""
    return dict(zip(labels.tolist(), map(str, numpy_of(names).tolist()), strict=True))


def _image(boxes: Any, scores: Any, labels: Any, *, masks: Any = None) -> Image:
    """Check the columns of one image, and encode its masks (N, H, W) as run lengths."""
    corners = as_array("boxes", boxes, (None, 4), "numbers")
    count = len(corners)
    numbers = as_array("labels", labels, (count,), "numbers")
    if (numbers != np.floor(numbers)).any():
        raise InputError("labels: values are no whole numbers, expected the class of each detection")
    columns = (corners, as_array("scores", scores, (count,), "numbers"), numbers.astype(np.int64))
    if masks is None:
        return columns
    bits = as_array("masks", numpy_of(masks).astype(np.uint8), (count, None, None), "integers")
    return *columns, encode(bits)


def _field(found: Any, field: str, what: str) -> Any:
    if not hasattr(found, field):
        raise InputError(f"{what}: field '{field}' is missing, found {type(found).__name__}")
    return getattr(found, field)


def _keys(found: Any, what: str) -> list[Any]:
    """Return ``boxes``, ``scores`` and ``labels`` of a dictionary."""
    if not isinstance(found, Mapping):
        raise InputError(f"{what}: found {type(found).__name__}, expected a dictionary an image")
    missing = [key for key in ("boxes", "scores", "labels") if key not in found]
    if missing:
        raise InputError(f"{what}: field '{missing[0]}' is missing, found {', '.join(map(str, found))}")
    return [found[key] for key in ("boxes", "scores", "labels")]
