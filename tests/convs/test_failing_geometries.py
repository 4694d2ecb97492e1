"""The wide branch in half precision on CPUs. Oracle: the equations in float64. Torch's own fails for the geometries."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from saconv_surgeon import SAConv2d
from saconv_surgeon.convs import failing_geometries
from saconv_surgeon.convs.failing_geometries import has_empty_windows
from tests import oracle

CRASHING = [
    ((8, 1, 4, 2, (3, 1), (2, 1)), (3, 8, 1, 14)),
    ((4, 32, (2, 1), 2, (1, 0), (2, 1)), (2, 4, 2, 9)),
    ((3, 3, (4, 3), 1, (3, 1), (2, 1)), (1, 3, 3, 7)),
    ((64, 8, (2, 3), 3, (0, 2), (1, 2)), (1, 64, 2, 28)),
    ((4, 4, 3, 1, 2), (1, 4, 2, 9)),
]
GARBAGE = [
    ((4, 2, (1, 5), (1, 4), (0, 2)), (2, 4, 6, 4)),
    ((16, 8, 3, (1, 2), 1), (1, 16, 9, 2)),
    ((8, 8, (2, 3), (1, 3), (1, 0), 1, 2), (3, 8, 5, 3)),
]
"""Whose wide branch has an output that is one column wide, with a stride of several columns."""


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("arguments", "shape"), CRASHING + GARBAGE)
def test_what_torch_fails_for_is_computed_in_float32(arguments, shape, dtype, monkeypatch):
    torch.manual_seed(0)
    conv = nn.Conv2d(*arguments).to(dtype)
    layer, x = oracle.shake(SAConv2d.from_conv2d(conv)), torch.randn(shape).to(dtype)
    dtypes, plain = [], F.conv2d

    def watched(x, weight, bias, stride, padding, dilation, groups):
        dtypes.append(x.dtype)
        return plain(x, weight, bias, stride, padding, dilation, groups)

    monkeypatch.setattr(failing_geometries.F, "conv2d", watched)
    with torch.no_grad():
        found = layer(x), layer.eval().folded()(x)
    assert dtypes.count(torch.float32) == 2
    for y in found:
        assert y.dtype == dtype
        assert oracle.relative_error(y, oracle.saconv(layer, x)) < 0.05


WITHOUT_TAPS = [
    ((32, 16, (4, 2), (1, 3), (0, 3), (3, 1), 4), (5, 32, 12, 2)),
    ((8, 8, 3, 1, 1, 2), (2, 8, 4, 4)),
    ((8, 8, 3, 1, "same", 2), (2, 8, 4, 4)),
    ((4, 4, 1, 1, 3), (1, 4, 5, 5)),
]
"""Whose wide branch, or the narrow one too, has windows without a tap inside. torch ends the process for the first in float32."""


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("arguments", "shape"), WITHOUT_TAPS)
def test_windows_without_a_tap_inside(arguments, shape, dtype, memory_format):
    torch.manual_seed(0)
    conv = nn.Conv2d(*arguments).to(dtype=dtype, memory_format=memory_format)
    layer = oracle.shake(SAConv2d.from_conv2d(conv))
    x = torch.randn(shape).to(dtype=dtype, memory_format=memory_format).requires_grad_()
    y = layer(x)
    y.sum().backward()
    assert x.grad.isfinite().all()
    within = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 0.05}[dtype]
    with torch.no_grad():
        wanted = oracle.saconv(layer, x)
        assert oracle.relative_error(y, wanted) < within
        assert oracle.relative_error(layer.eval().folded()(x), wanted) < within


def test_where_no_window_can_be_empty_nothing_is_looked_through():
    """The quick answer never says no where the long one says yes."""
    for size, kernel, stride, padding, dilation in itertools.product(
        range(1, 7), range(1, 5), (1, 2, 3), range(5), (1, 2, 3, 6)
    ):
        if size + 2 * padding < dilation * (kernel - 1) + 1:
            continue
        x, rest = torch.empty(1, 1, size, 20), ((kernel, 1), (padding, 0), (dilation, 1))
        if has_empty_windows(x, rest[0], (stride, 1), *rest[1:]):
            assert failing_geometries.may_have_empty_windows(x, *rest)
    assert not failing_geometries.may_have_empty_windows(torch.empty(1, 1, 6, 6), (3, 3), (6, 6), (6, 6))


def test_under_autocast(monkeypatch):
    layer, x = SAConv2d(8, 4, 4, 2, (3, 1), (2, 1)), torch.randn(3, 8, 1, 14)
    oracle.shake(layer)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert failing_geometries.runs_in_half(x)
        y = layer(x)
    assert not failing_geometries.runs_in_half(x)
    assert oracle.relative_error(y.detach().float(), oracle.saconv(layer, x)) < 0.05


def test_empty_windows_by_hand():
    def empty(height, kernel, stride, padding, dilation):
        x = torch.empty(1, 1, height, 9)
        return has_empty_windows(x, (kernel, 1), (stride, 1), (padding, 0), (dilation, 1))

    assert empty(1, 2, 1, 2, 3)  # taps at -2 and 1, then at -1 and 2
    assert not empty(1, 3, 1, 3, 3)  # its middle tap is inside
    assert empty(2, 2, 1, 2, 3)  # at -1 and 2
    assert not empty(4, 2, 1, 0, 3)
    assert empty(3, 3, 4, 5, 1)  # at -5, -4, -3


def test_other_dtypes_and_devices_are_left_alone():
    for x in (torch.empty(1, 1, 2, 2), torch.empty(1, 1, 2, 2, device="meta", dtype=torch.bfloat16)):
        assert not failing_geometries.runs_in_half(x)
