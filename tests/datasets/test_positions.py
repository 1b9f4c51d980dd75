"""The positions of boxes in their images."""

import json
from pathlib import Path

import numpy as np

from imbalance_bench.categories import CategoryTable
from imbalance_bench.datasets.positions import box_centres


def test_box_centres(tmp_path: Path) -> None:
    content = {
        "images": [{"id": 5, "width": 200, "height": 100}, {"id": 2, "width": 10, "height": 10}],
        "categories": [{"id": 9, "name": "b"}, {"id": 4, "name": "a"}],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 9, "bbox": [50, 10, 100, 20]},
            {"id": 2, "image_id": 2, "category_id": 4, "bbox": [0, 0, 10, 5]},
            {"id": 3, "image_id": 2, "category_id": 4, "bbox": [0, 0, 10, 5], "iscrowd": 1},
        ],
    }
    path = tmp_path / "train.json"
    path.write_text(json.dumps(content))
    labels, centres = box_centres(path, CategoryTable.from_annotations(path))
    assert labels.tolist() == [1, 0]
    np.testing.assert_allclose(centres, [[0.5, 0.2], [0.5, 0.25]])
    path.write_text(json.dumps({**content, "annotations": []}))
    labels, centres = box_centres(path, CategoryTable.from_annotations(path))
    assert labels.shape == (0,) and centres.shape == (0, 2)
