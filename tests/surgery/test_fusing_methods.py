"""Whether ``convert`` says that a model has methods that merge convolutions."""

import warnings

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.errors import FusingMethodWarning
from saconv_surgeon.surgery.fusing_methods import fusing_methods

X = torch.randn(1, 3, 9, 9)


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.bn(self.conv(x))

    def fused_shape(self):
        return (3, 3)


def named(name):
    return type("Block", (Plain,), {name: lambda self: None})


@pytest.mark.parametrize(
    "name", ["fuse", "fuse_model", "switch_to_deploy", "reparameterize", "merge_kernel", "fuseforward"]
)
def test_a_method_that_merges_is_named(name):
    model = nn.Sequential(nn.Sequential(named(name)().eval()))
    with pytest.warns(FusingMethodWarning, match=rf"Block\.{name}\(\) \('0\.0'\).*saconv-surgeon fold"):
        surgeon.convert(model, X, trials=1)
    assert fusing_methods(model, ["0.0.conv"]) == {f"Block.{name}": "0.0"}


def test_nothing_is_said_without_one():
    model = nn.Sequential(Plain(), nn.MultiheadAttention(4, 2)).eval()  # which has merge_masks()
    assert fusing_methods(model, ["0.conv", "1.out_proj"]) == {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        surgeon.convert(model[0], X, trials=1)


def test_only_around_converted_layers():
    model = nn.Sequential(nn.Conv2d(3, 3, 3), named("fuse")()).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        surgeon.convert(model, X, include=["0"], trials=1)


def test_the_root_is_the_model_itself():
    with pytest.warns(FusingMethodWarning, match=r"Block\.fuse\(\) \(the model itself\)"):
        surgeon.convert(named("fuse")().eval(), X, trials=1)
