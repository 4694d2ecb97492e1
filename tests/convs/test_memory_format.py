"""A layer lays its output out as the convolution does, so that what follows adds in the same order. Oracle: the convolution."""

import copy

import pytest
import torch
from torch import nn

from saconv_surgeon import ConvAWS2d, SAConv2d
from saconv_surgeon.convs.memory_format import laid_out_like

GEOMETRIES = {
    "grey stem": (nn.Conv2d(1, 32, 3, padding=1), (28, 28)),
    "grey stem, 7x7 /2": (nn.Conv2d(1, 32, 7, 2, 3), (64, 64)),
    "depthwise": (nn.Conv2d(8, 8, 3, 3, 1, groups=8), (7, 25)),
    "depthwise, circular": (nn.Conv2d(7, 7, 2, groups=7, padding_mode="circular"), (23, 29)),
    "reflected": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (11, 13)),
    "one output channel": (nn.Conv2d(6, 1, 3, padding=1), (9, 9)),
    "one column": (nn.Conv2d(6, 5, 3, padding=1), (9, 1)),
    "one pixel": (nn.Conv2d(6, 5, 3, padding=1), (1, 1)),
    "one row left": (nn.Conv2d(3, 5, 3, stride=(9, 2), padding=1), (9, 12)),
    "same": (nn.Conv2d(3, 5, 3, padding="same", dilation=2), (9, 12)),
}
MAPS = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "a slice": lambda x: torch.cat([x, x], 1)[:, : x.shape[1]],
    "permuted from (N, H, W, C)": lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
}


@pytest.mark.parametrize("layer_type", [SAConv2d, ConvAWS2d])
@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("kernel_last", [False, True])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_strides_are_those_of_the_convolution(geometry, kernel_last, gradients, layer_type):
    conv, sides = GEOMETRIES[geometry]
    conv = copy.deepcopy(conv)
    conv = conv.to(memory_format=torch.channels_last) if kernel_last else conv
    layer = layer_type.from_conv2d(conv)
    torch.manual_seed(0)
    for name, placed in MAPS.items():
        x = placed(torch.randn(3, conv.in_channels, *sides))
        with torch.set_grad_enabled(gradients):
            wanted, found = conv(x), layer(x)
        assert found.stride() == wanted.stride(), name
        assert torch.equal(found, wanted), name
        norm = nn.GroupNorm(1, conv.out_channels)
        assert torch.equal(norm(found), norm(wanted)), name


def test_laid_out_like():
    x = torch.randn(2, 1, 4, 5)
    last = x.contiguous(memory_format=torch.channels_last)
    other = torch.empty(x.shape).as_strided(x.shape, (20, 1, 5, 1))
    assert laid_out_like(x, x) is x
    assert laid_out_like(x, last).stride() == last.stride()
    assert laid_out_like(x, other).stride() == (20, 1, 5, 1)
    moved = laid_out_like(torch.randn(2, 3, 4, 5), torch.randn(2, 4, 5, 3).permute(0, 3, 1, 2))
    assert moved.stride() == (60, 1, 15, 3)
    leaf = torch.randn(2, 3, 4, 5, requires_grad=True)
    laid_out_like(leaf, moved).sum().backward()
    assert torch.equal(leaf.grad, torch.ones_like(leaf))
