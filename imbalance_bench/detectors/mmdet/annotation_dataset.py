"""An mmdet data set for COCO- or LVIS-format annotations; labels come from the CategoryTable alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.datasets.base_det_dataset import BaseDetDataset
from mmdet.registry import DATASETS
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope

from imbalance_bench.datasets.annotations import check_records, image_records


@DATASETS.register_module()
class AnnotationDataset(BaseDetDataset):
    """The images and boxes of a COCO- or LVIS-format file, with labels by ascending category id.

    Args:
        category_ids: C ids; label j is ``category_ids[j]``.
        keep_labels: annotations of other labels are dropped (finetune-tail); None keeps all.
        kwargs: of mmdet's BaseDetDataset; ``filter_cfg=dict(filter_empty_gt=True)`` drops images without a box.
    """

    def __init__(self, category_ids: Sequence[int], keep_labels: Sequence[int] | None = None, **kwargs: Any) -> None:
        self.category_ids, self.keep_labels = category_ids, keep_labels
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Return one record for each image, in the order of image ids."""
        return image_records(
            self.ann_file,
            self.data_prefix["img_path"],
            self.category_ids,
            keep_labels=self.keep_labels,
            stuff_maps=self.data_prefix.get("seg_map_path"),
        )

    def filter_data(self) -> list[dict[str, Any]]:
        """Return the records, without images that have no box if the configuration asks for it (training only)."""
        if self.test_mode or not (self.filter_cfg or {}).get("filter_empty_gt", False):
            return self.data_list
        return [record for record in self.data_list if record["instances"]]

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the labels in image ``idx`` without crowd regions (mmengine's class-balanced wrapper needs them)."""
        instances = self.get_data_info(idx)["instances"]
        return sorted({instance["bbox_label"] for instance in instances if not instance["ignore_flag"]})


def image_labels(dataset: BaseDataset) -> list[np.ndarray]:
    """Return the distinct labels of each image of a data set, in ascending order."""
    return [np.array(dataset.get_cat_ids(index), dtype=np.int64) for index in range(len(dataset))]


def build_dataset(
    annotations: str | Path,
    images: str | Path,
    category_ids: Sequence[int] | np.ndarray,
    pipeline: Sequence[Mapping[str, Any]],
    *,
    training: bool,
    keep_labels: Sequence[int] | None = None,
    stuff_maps: str | Path | None = None,
) -> AnnotationDataset:
    """Build an mmdet data set from an annotation file and an image folder.

    Args:
        annotations: COCO or LVIS format.
        images: folder that the file's image names are relative to.
        category_ids: C ids in label order.
        pipeline: mmdet transforms.
        training: drop images without a box.
        keep_labels: drop annotations of other labels.
        stuff_maps: folder of the stuff maps, PNG files with the images' names.

    Raises:
        InputError: there is no image to train on, or images or stuff maps are missing.
    """
    init_default_scope("mmdet")
    dataset = AnnotationDataset(
        category_ids=[int(category_id) for category_id in category_ids],
        keep_labels=keep_labels,
        ann_file=str(annotations),
        data_prefix={"img_path": str(images), **({"seg_map_path": str(stuff_maps)} if stuff_maps else {})},
        pipeline=list(pipeline),
        filter_cfg={"filter_empty_gt": True},
        test_mode=not training,
        # Images are small beside their records' serialisation, and a data set lives in one process.
        serialize_data=False,
    )
    check_records(dataset.data_list, annotations)
    return dataset
