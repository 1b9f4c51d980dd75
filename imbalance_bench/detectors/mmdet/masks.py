"""Masks of given detections: the mask branch of a frozen detector, run after any classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from mmdet.models.detectors import TwoStageDetector
from mmengine.structures import InstanceData
from torch import Tensor


@torch.no_grad()
def predict_masks(
    detector: TwoStageDetector, batches: Iterable[dict], detections_of: Callable[[int], tuple[Tensor, Tensor]]
) -> Iterator[tuple[int, np.ndarray]]:
    """Predict masks for the given detections of each image.

    Args:
        detector: with a mask branch, in evaluation mode.
        batches: of the data loader, test pipeline.
        detections_of: image id -> (D, 4) boxes in the original image, (D,) labels.

    Yields:
        Image id and (D, height, width) bool masks in the original image, in the order of its detections.
    """
    for batch in batches:
        data = detector.data_preprocessor(batch, training=False)
        pyramid, samples = detector.extract_feat(data["inputs"]), data["data_samples"]
        roi_head = detector.roi_head
        semantic = {}
        if hasattr(roi_head, "semantic_fusion"):
            semantic["semantic_heat"] = roi_head.semantic_head(pyramid)[1] if roi_head.with_semantic else None
        for number, sample in enumerate(samples):
            # Image by image: three hundred masks of the original size are as much as should be held.
            boxes, labels = detections_of(int(sample.img_id))
            device = pyramid[0].device
            scale = torch.tensor([*sample.scale_factor, *sample.scale_factor])
            found = InstanceData(
                bboxes=(boxes * scale).to(device), labels=labels.to(device), scores=torch.ones(len(labels))
            )
            (result,) = roi_head.predict_mask(
                tuple(level[number : number + 1] for level in pyramid),
                batch_img_metas=[sample.metainfo],
                results_list=[found],
                rescale=True,
                **{name: value if value is None else value[number : number + 1] for name, value in semantic.items()},
            )
            yield int(sample.img_id), result.masks.cpu().numpy().astype(bool)
