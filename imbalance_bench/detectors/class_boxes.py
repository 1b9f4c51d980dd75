"""Class-specific boxes from cached features, decoded for the (proposal, class) pairs that are asked for."""

from __future__ import annotations

from collections.abc import Callable

import torch
from mmdet.models.roi_heads.bbox_heads import ConvFCBBoxHead
from mmdet.structures.bbox import get_box_tensor
from torch import Tensor

BoxesOfPairs = Callable[[Tensor, Tensor], Tensor]
"""((K,) proposals, (K,) labels) -> (K, 4) boxes in the original image."""


class ClassBoxes:
    """The frozen class-specific regressor of a box head.

    A thousand proposals of a thousand classes are a million boxes an image; detection looks at a few hundred.

    Args:
        head: with ``reg_class_agnostic=False``, whose regressor reads the classifier's features.
    """

    def __init__(self, head: ConvFCBBoxHead) -> None:
        self._coder = head.bbox_coder
        self._weight = head.fc_reg.weight.detach().view(head.num_classes, 4, -1)
        self._bias = head.fc_reg.bias.detach().view(head.num_classes, 4)

    def of_image(self, features: Tensor, proposals: Tensor, frame: Tensor) -> BoxesOfPairs:
        """Boxes of one image's pairs, clipped and scaled back in the order of mmdet's box head.

        Args:
            features: (P, d) what the regressor reads (tap ``fc``).
            proposals: (P, 4) xyxy in the network's image.
            frame: (4,) height and width of the network's image, its scale in x and y.
        """
        height, width, *scale = frame.tolist()

        @torch.no_grad()
        def decode(proposal: Tensor, label: Tensor) -> Tensor:
            weight, bias = self._weight[label.to(self._weight.device)], self._bias[label.to(self._bias.device)]
            deltas = torch.einsum("kd,kcd->kc", features[proposal].to(weight), weight) + bias
            boxes = self._coder.decode(proposals[proposal].to(deltas), deltas, max_shape=(height, width))
            return get_box_tensor(boxes).cpu() / torch.tensor([*scale, *scale])

        return decode
