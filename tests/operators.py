"""torchvision's ``deform_conv2d``, or the plain one of the oracle where torchvision is absent."""

import sys
import types
from functools import cache

import pytest
import torch

from saconv_surgeon.convs import deformable
from tests.oracle_targets import deform_conv2d

REAL = deformable.missing_operator() is None
SCHEMA = (
    "deform_conv2d(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, SymInt stride_h, SymInt stride_w, "
    "SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w, SymInt groups, SymInt offset_groups, bool use_mask) "
    "-> Tensor"
)


@pytest.fixture(
    params=["plain", pytest.param("real", marks=pytest.mark.skipif(not REAL, reason="no torchvision operator"))]
)
def operator(request, monkeypatch):
    """The operator that the layer finds; with ``real``, torchvision's own."""
    if request.param == "plain":
        _stand_in_torchvision(monkeypatch, deform_conv2d)
    return request.param


@pytest.fixture
def whole_operator(monkeypatch):
    """An operator that tracers and counters see as one, as they see torchvision's; without gradients."""
    if REAL:
        return
    _register()

    def call(input, offset, weight, bias=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1)):
        bias = input.new_zeros(weight.shape[0]) if bias is None else bias
        groups, mask = input.shape[1] // weight.shape[1], input.new_zeros(input.shape[0], 1)
        return torch.ops.torchvision.deform_conv2d(
            input, weight, offset, mask, bias, *stride, *padding, *dilation, groups, 1, False
        )

    _stand_in_torchvision(monkeypatch, call)


@cache
def _register():
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define(SCHEMA)
    library.impl("deform_conv2d", _as_torchvision_calls_it, "CPU")
    return library


def _as_torchvision_calls_it(
    input, weight, offset, mask, bias, sh, sw, ph, pw, dh, dw, groups, offset_groups, use_mask
):
    return deform_conv2d(input, offset, weight, bias, (sh, sw), (ph, pw), (dh, dw))


def _stand_in_torchvision(monkeypatch, function):
    package, ops = types.ModuleType("torchvision"), types.ModuleType("torchvision.ops")
    package.ops, ops.deform_conv2d = ops, function
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.ops", ops)
    monkeypatch.setattr(deformable, "missing_operator", lambda: None)
