"""Files for the commands that read."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from reading import MEASURED
from safetensors.numpy import save_file

from imbalance_bench.categories import read_json
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.evaluation.detections import Detections


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoint of a detector of LVIS's classes, and with a study as 'export' copies it."""
    folder = tmp_path_factory.mktemp("light")
    for name in ("baseline", "x2-cls", "bags"):
        place = Path("emoji-lt-small", "tiny", "seed0", name)
        shutil.copytree(MEASURED / place, folder / "study" / place)
    random = np.random.default_rng(0)
    tensors = {
        "roi_head.bbox_head.fc_cls.weight": random.normal(size=(1231, 8)).astype(np.float32),
        "roi_head.bbox_head.fc_cls.bias": np.zeros(1231, np.float32),
    }
    save_file(tensors, folder / "detector.safetensors")
    return folder


@pytest.fixture(scope="session")
def runs(folder: Path, mini: DataSet) -> Path:
    """The same folder, with two finished runs: the boxes of the ground truth, all of them and the half of them."""
    content, categories = read_json(mini.val_annotations), mini.categories()
    boxes = np.array([a["bbox"] for a in content["annotations"]], np.float32)
    boxes[:, 2:] += boxes[:, :2]
    images = np.array([a["image_id"] for a in content["annotations"]])
    labels = categories.labels_of([a["category_id"] for a in content["annotations"]])
    for name, step in (("a", 1), ("b", 2)):
        path = folder / "runs" / name
        path.mkdir(parents=True)
        Detections(images[::step], labels[::step], boxes[::step], np.ones(len(images[::step]), np.float32)).save(
            path / "detections.npz"
        )
        record = {"settings": {"dataset": mini.name}, "provenance": {}, "metrics": {}}
        (path / "record.json").write_text(json.dumps(record))
        (path / "per_category.csv").write_text("")
    return folder
