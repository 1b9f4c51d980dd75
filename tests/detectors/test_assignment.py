"""Labels of test-time proposals are mmdet's."""

import pytest
import torch
from mmdet.models.task_modules.assigners import MaxIoUAssigner
from mmengine.structures import InstanceData

from imbalance_bench.detectors.assignment import assigned_labels
from imbalance_bench.detectors.mmdet.passes import ACCURACY_ASSIGNER


@pytest.mark.parametrize("seed", range(20))
def test_equal_to_mmdets_assigner(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    corner = 40 * torch.rand(30, 2, generator=generator)
    proposals = torch.cat([corner, corner + 5 + 20 * torch.rand(30, 2, generator=generator)], dim=1).round()
    boxes = proposals[:6] + torch.randint(-2, 3, (6, 4), generator=generator)
    labels = torch.randint(5, (6,), generator=generator)
    truth = InstanceData(bboxes=boxes, labels=labels)
    found = MaxIoUAssigner(**ACCURACY_ASSIGNER).assign(InstanceData(priors=proposals), truth)
    expected = torch.where(found.gt_inds > 0, found.labels, 5)
    assert torch.equal(assigned_labels(proposals, boxes, labels, 5), expected)
    assert (expected < 5).any()


def test_without_boxes_all_is_background() -> None:
    none = torch.zeros(0, 4)
    assert assigned_labels(torch.rand(3, 4), none, torch.zeros(0, dtype=torch.long), 7).tolist() == [7, 7, 7]
    assert len(assigned_labels(none, torch.rand(2, 4), torch.tensor([0, 1]), 7)) == 0
