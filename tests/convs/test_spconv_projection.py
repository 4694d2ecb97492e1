"""The projection of a kernel on what SPConv can express."""

import pytest
import torch
from torch.nn import functional as F

from saconv_surgeon import SPConv2d
from saconv_surgeon.convs.spconv_projection import CORRELATION
from tests import oracle, oracle_targets
from tests.convs.correlated_images import cases, convolution, correlated


def linear_part(layer, x):
    """Half of each branch: what the blend gives where both are equally strong."""
    u, v = oracle_targets.spconv(layer, x, fused=False)
    return (u + v) / 2


@cases
def test_projection_is_the_least_squares_fit_for_correlated_inputs(sizes, options):
    """The best of all linear layers of that form, found by least squares on many such inputs, is where the projection is."""
    conv = convolution(sizes, options).double()
    layer = SPConv2d.from_conv2d(conv).eval()
    x = correlated(220, sizes[0], 24, CORRELATION)
    (top, bottom), (left, right) = oracle.padding_per_axis(layer)
    with torch.no_grad():
        target, ours = conv(x), linear_part(layer, x)
    height, width = target.shape[-2:]
    near = F.unfold(F.pad(x, (left, right, top, bottom)), layer.kernel_size, layer.dilation, 0, layer.stride)
    near = near.reshape(len(x), sizes[0], -1, height, width)
    pooled = oracle_targets.under(layer, x, (height, width))
    inner = (..., slice(3, height - 3), slice(3, width - 3))  # away from the edges, where there are zeros
    target, ours, near, pooled = target[inner], ours[inner], near[inner], pooled[inner]
    least = missed = 0.0
    for src, dst, _ in oracle_targets.groups(layer.state_dict(), layer.representative, sizes[1]):
        rest = [c for c in range(sizes[0]) if not src.start <= c < src.stop]
        design = torch.cat([near[:, src].flatten(1, 2), pooled[:, rest]], 1).transpose(0, 1).flatten(1).T
        wanted = (target[:, dst] - conv.bias.detach()[dst, None, None]).transpose(0, 1).flatten(1).T
        best = torch.linalg.lstsq(design, wanted).solution
        least += float((wanted - design @ best).square().sum())
        missed += float((target[:, dst] - ours[:, dst]).square().sum())
    assert least <= missed * (1 + 1e-9)
    assert missed < 1.02 * least


def test_kernels_that_the_layer_can_express_are_kept():
    conv = convolution((8, 6, 3), {"padding": 1}).double()
    with torch.no_grad():
        keep = torch.zeros(6, 8, 3, 3, dtype=torch.bool)
        keep[:, :, 1, 1] = True
        keep[:3, :2] = True
        keep[3:, 2:4] = True
        conv.weight.mul_(keep)
        layer = SPConv2d.from_conv2d(conv).eval()
        x = correlated(2, 8, 12, 0.5)
        assert oracle.relative_error(linear_part(layer, x), conv(x)) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_norms_undo_their_own_rounding(dtype):
    conv = convolution((8, 6, 3), {"padding": 1})
    whole, half = (SPConv2d.from_conv2d(c).eval() for c in (conv, convolution((8, 6, 3), {"padding": 1}).to(dtype)))
    x = correlated(2, 8, 12, 0.5).float()
    assert oracle.relative_error(half(x.to(dtype)), whole(x).detach().double()) < 8 * torch.finfo(dtype).eps
