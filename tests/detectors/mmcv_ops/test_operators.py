"""The stand-ins for mmcv's compiled operators, through mmcv's own interface."""

import subprocess
import sys
import textwrap

import pytest
import torch
from mmcv.ops import DeformConv2d, ModulatedDeformConv2d, RoIAlign, batched_nms, nms, roi_align, sigmoid_focal_loss
from mmcv.utils import collect_env
from torch import Tensor

from imbalance_bench.detectors.mmcv_ops.operators import StandIns

pytestmark = pytest.mark.skipif(
    not isinstance(sys.modules.get("mmcv._ext"), StandIns), reason="mmcv has its compiled operators"
)


def test_nms_by_hand() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8], [20, 20, 30, 30], [5, 0, 15, 10]])
    scores = torch.tensor([0.8, 0.9, 0.5, 0.7])
    # Box 1 is best. IoU with 0: 80 / 100 = .8; with 3: 40 / (80 + 100 - 40) = .286; with 2: 0.
    kept, indices = nms(boxes, scores, 0.5)
    assert indices.tolist() == [1, 3, 2]
    assert kept[:, 4].tolist() == pytest.approx([0.9, 0.7, 0.5])
    assert nms(boxes, scores, 0.25)[1].tolist() == [1, 2]
    assert nms(boxes, scores, 0.85)[1].tolist() == [1, 0, 3, 2]


def test_nms_that_counts_pixels() -> None:
    boxes, scores = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 4]]), torch.tensor([0.9, 0.8])
    # As pixels 10 x 10 and 10 x 5: IoU .5. As coordinates 81 and 36: .444.
    assert nms(boxes, scores, 0.47)[1].tolist() == [0, 1]
    assert nms(boxes, scores, 0.47, offset=1)[1].tolist() == [0]


def test_batched_nms_keeps_classes_apart() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10]]).repeat(3, 1)
    _, kept = batched_nms(
        boxes, torch.tensor([0.5, 0.9, 0.7]), torch.tensor([0, 1, 0]), {"type": "nms", "iou_threshold": 0.5}
    )
    assert kept.tolist() == [1, 2]


def test_roi_align_by_hand() -> None:
    # On the ramp f(x, y) = x + 10 y bilinear sampling is exact: the value at a point is f at that point.
    ramp = (torch.arange(8.0)[None, :] + 10 * torch.arange(8.0)[:, None])[None, None]
    # An aligned RoI (1, 1)-(5, 5) at scale 1 covers .5 to 4.5 of the pixel centres; its four bins are centred at
    # 1.5 and 3.5 in both directions.
    pooled = RoIAlign(2, 1.0, sampling_ratio=2)(ramp, torch.tensor([[0.0, 1, 1, 5, 5]]))
    assert pooled[0, 0].flatten().tolist() == pytest.approx([16.5, 18.5, 36.5, 38.5])
    # Without alignment there is no half-pixel shift: 2 and 4.
    pooled = RoIAlign(2, 1.0, sampling_ratio=2, aligned=False)(ramp, torch.tensor([[0.0, 1, 1, 5, 5]]))
    assert pooled[0, 0].flatten().tolist() == pytest.approx([22.0, 24.0, 42.0, 44.0])
    # Scale one half: the RoI (2, 2)-(10, 10) of the image is the one above.
    pooled = RoIAlign(2, 0.5, sampling_ratio=0)(ramp, torch.tensor([[0.0, 2, 2, 10, 10]]))
    assert pooled[0, 0].flatten().tolist() == pytest.approx([16.5, 18.5, 36.5, 38.5])


def shuffled_rois(images: int, count: int, dtype: torch.dtype) -> Tensor:
    corners = torch.rand(count, 2, dtype=dtype) * 4
    sizes = torch.rand(count, 2, dtype=dtype) * 3 + 1
    return torch.cat([torch.randint(images, (count, 1)).to(dtype), corners, corners + sizes], dim=1)


def test_roi_align_gradient() -> None:
    torch.manual_seed(0)
    features = torch.randn(3, 2, 6, 6, dtype=torch.float64, requires_grad=True)
    rois = shuffled_rois(3, 5, torch.float64)
    assert torch.autograd.gradcheck(lambda x: roi_align(x, rois, (2, 2), 1.0, 2, "avg", True), features)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_roi_align_as_torchvision(ratio: int, aligned: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    features = torch.randn(5, 4, 9, 11, dtype=dtype, requires_grad=True)
    rois = shuffled_rois(5, 60, dtype)
    rois[:, 1:] *= 4
    rois[:20, 1:3] -= 30  # from outside the image into it, and wholly outside
    rois[20:30, 3:] += 60
    rois[30, 3:] = rois[30, 1:3]  # a point
    rois[31, 3] = rois[31, 1]  # a line
    expected = torch.ops.torchvision.roi_align(features, rois, 0.5, 3, 2, ratio, aligned)
    grad = torch.randn_like(expected)
    expected_grad = torch.ops.torchvision._roi_align_backward(grad, rois, 0.5, 3, 2, 5, 4, 9, 11, ratio, aligned)
    pooled = RoIAlign((3, 2), 0.5, sampling_ratio=ratio, aligned=aligned)(features, rois)
    pooled.backward(grad)
    torch.testing.assert_close(pooled, expected)
    torch.testing.assert_close(features.grad, expected_grad)


def test_roi_align_of_no_rois() -> None:
    features = torch.randn(2, 3, 6, 6, requires_grad=True)
    pooled = RoIAlign(2, 1.0)(features, torch.zeros(0, 5))
    assert pooled.shape == (0, 3, 2, 2)
    pooled.sum().backward()
    assert features.grad is not None
    assert features.grad.abs().sum() == 0


def test_an_image_without_rois() -> None:
    features = torch.randn(4, 2, 6, 6, requires_grad=True)
    RoIAlign(2, 1.0)(features, torch.tensor([[2.0, 0, 0, 3, 3]])).sum().backward()
    assert features.grad is not None
    assert features.grad[[0, 1, 3]].abs().sum() == 0
    assert features.grad[2].abs().sum() > 0


def test_focal_loss() -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, 1, 2, 3, 3, 1])  # 3 is background
    expected = 0.0
    for i in range(6):
        for j in range(3):
            p = logits[i, j].sigmoid().item()
            if target[i] == j:
                expected -= 0.25 * (1 - p) ** 2 * torch.tensor(p).log().item()
            else:
                expected -= 0.75 * p**2 * torch.tensor(1 - p).log().item()
    assert sigmoid_focal_loss(logits, target, 2.0, 0.25, None, "sum").item() == pytest.approx(expected, rel=1e-5)
    assert torch.autograd.gradcheck(lambda x: sigmoid_focal_loss(x, target, 2.0, 0.25, None, "sum"), logits)
    weight = torch.tensor([2.0, 0.5, 1.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: sigmoid_focal_loss(x, target, 2.0, 0.25, weight, "sum"), logits)


def test_deformable_convolution_without_offsets_is_a_convolution() -> None:
    torch.manual_seed(0)
    layer = DeformConv2d(4, 6, 3, stride=2, padding=1).double()
    x = torch.randn(2, 4, 7, 7, dtype=torch.float64, requires_grad=True)
    offset = torch.zeros(2, 18, 4, 4, dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.conv2d(x, layer.weight, stride=2, padding=1)
    assert torch.allclose(layer(x, offset), expected)
    x, offset = x.detach()[:1, :, :5, :5].requires_grad_(), 0.3 * torch.rand(1, 18, 3, 3, dtype=torch.float64)
    offset.requires_grad_()
    assert torch.autograd.gradcheck(layer, (x, offset), atol=1e-4)
    assert torch.autograd.gradcheck(
        lambda w: torch.func.functional_call(layer, {"weight": w}, (x.detach(), offset.detach())), layer.weight
    )


def test_modulated_deformable_convolution() -> None:
    torch.manual_seed(0)
    layer = ModulatedDeformConv2d(4, 6, 3, stride=2, padding=1, bias=True).double()
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 4, 7, 7, dtype=torch.float64)
    offset, ones = torch.zeros(2, 18, 4, 4, dtype=torch.float64), torch.ones(2, 9, 4, 4, dtype=torch.float64)
    expected = torch.nn.functional.conv2d(x, layer.weight, layer.bias, stride=2, padding=1)
    assert torch.allclose(layer(x, offset, ones), expected)
    halved = torch.nn.functional.conv2d(x, layer.weight, stride=2, padding=1) / 2 + layer.bias[:, None, None]
    assert torch.allclose(layer(x, offset, ones / 2), halved)
    inputs = (
        x[:1, :, :5, :5].clone().requires_grad_(),
        (0.3 * torch.rand(1, 18, 3, 3, dtype=torch.float64)).requires_grad_(),
        torch.rand(1, 9, 3, 3, dtype=torch.float64, requires_grad=True),
    )
    assert torch.autograd.gradcheck(layer, inputs, atol=1e-4)


def test_the_report_of_the_environment() -> None:
    assert collect_env()["MMCV Compiler"] == "n/a"


def test_an_operator_without_a_stand_in_says_what_to_do() -> None:
    from mmcv.ops import CARAFENaive  # importing works, as for every operator

    with pytest.raises(RuntimeError, match=r"'carafe_naive_forward' is not there.*MMCV_WITH_OPS=1"):
        CARAFENaive(3, 1, 2)(torch.randn(1, 4, 3, 3), torch.randn(1, 9, 6, 6))
    with pytest.raises(RuntimeError, match="pool_mode='max'"):
        RoIAlign(2, 1.0, pool_mode="max")(torch.randn(1, 1, 4, 4), torch.tensor([[0.0, 0, 0, 3, 3]]))


def test_a_compiled_module_comes_first() -> None:
    """A real ``mmcv._ext`` is found before the finder is asked."""
    script = """
        import sys, types, pathlib, tempfile, importlib
        import imbalance_bench, mmcv
        from imbalance_bench.detectors.mmcv_ops import finder
        folder = tempfile.mkdtemp()
        pathlib.Path(folder, "_ext.py").write_text("compiled = True")
        mmcv.__path__.append(folder)
        assert importlib.import_module("mmcv._ext").compiled
        finder.install()
        finders = [f for f in sys.meta_path if type(f).__name__ == "StandInFinder"]
        assert len(finders) == 1 and sys.meta_path[-1] is finders[0]
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=120)


def test_deformable_convolution_in_bf16() -> None:
    """Under autocast: values and gradients are those of the same numbers in single precision, rounded."""
    torch.manual_seed(0)

    def rounded(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.bfloat16().float()

    images = rounded(torch.randn(2, 4, 9, 9))
    for layer, of_offsets in (
        (DeformConv2d(4, 6, 3, padding=1), ()),
        (ModulatedDeformConv2d(4, 6, 3, padding=1), (1,)),
    ):
        offset = rounded(torch.randn(2, 18, 9, 9))
        layer.weight.data = rounded(layer.weight.data)
        more = [rounded(torch.rand(2, 9, 9, 9)) for _ in of_offsets]
        found = {}
        for dtype in (torch.float32, torch.bfloat16):
            inputs = [tensor.detach().to(dtype, copy=True).requires_grad_() for tensor in (images, offset, *more)]
            layer.to(dtype).zero_grad()
            output = layer(*inputs)
            output.float().square().sum().backward()
            found[dtype] = [output.detach(), *(tensor.grad for tensor in inputs), layer.weight.grad.clone()]
        for single, half in zip(found[torch.float32], found[torch.bfloat16], strict=True):
            assert half.dtype == torch.bfloat16
            torch.testing.assert_close(half.float(), single, rtol=0.05, atol=0.05 * float(single.abs().max()))
