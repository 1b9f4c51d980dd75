"""The RoI extractor of our own detectors: on a CPU it pools the RoIs of all levels at once."""

from __future__ import annotations

from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.registry import MODELS
from torch import Tensor

from imbalance_bench.detectors.mmcv_ops.roi_align import Pooling, RoIAlign, to_maps


@MODELS.register_module()
class AllLevelsRoIExtractor(SingleRoIExtractor):
    """mmdet's extractor, whose RoIs are pooled from one level each; its layers are RoIAlign.

    mmdet pools level by level and copies the results into one tensor; the (N, C, h, w) result here is channels last.
    """

    def forward(self, feats: tuple[Tensor, ...], rois: Tensor, roi_scale_factor: float | None = None) -> Tensor:
        """Pool (N, 5) RoIs from L (B, C, H, W) features to (N, C, h, w)."""
        if rois.is_cuda:
            return super().forward(feats, rois, roi_scale_factor)
        rois = rois.type_as(feats[0])
        level = self.map_roi_levels(rois, len(feats))
        if roi_scale_factor is not None:
            rois = self.roi_rescale(rois, roi_scale_factor)
        layers = self.roi_layers[: len(feats)]
        height, width = layers[0].output_size
        pooling = Pooling(height, width, layers[0].sampling_ratio, layers[0].aligned)
        rows = RoIAlign.apply(rois, level, [layer.spatial_scale for layer in layers], pooling, *feats)
        return to_maps(rows, len(rois), pooling)
