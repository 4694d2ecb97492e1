"""Convolutions whose kernel is not what their attributes say."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import saconv_surgeon as surgeon
from saconv_surgeon.models.tree.kernel_shape import by_kernel
from tests import nets


def kernel(*shape):
    return nn.Parameter(torch.randn(*shape, generator=torch.Generator().manual_seed(3)))


def grey(conv):
    conv.weight = kernel(8, 1, 3, 3)


def rows(conv):
    conv.weight, conv.bias = kernel(5, 3, 3, 3), kernel(5)


def rows_of_the_data(conv):
    conv.weight.data, conv.bias.data = conv.weight.data[:5], conv.bias.data[:5]


def larger(conv):
    conv.weight, conv.padding = kernel(8, 3, 5, 5), (2, 2)


def uneven_same(conv):
    conv.weight, conv.padding, conv.dilation = kernel(8, 3, 2, 4), "same", 2


def grouped(conv):
    conv.weight, conv.groups = kernel(9, 1, 3, 3), 3
    conv.bias = kernel(9)


def unbiased(conv):
    conv.bias, conv.weight = None, kernel(6, 3, 3, 3)


def expanded(conv):
    conv.weight = nn.Parameter(kernel(8, 1, 3, 3).detach().expand(8, 3, 3, 3))


CHANGES = [grey, rows, rows_of_the_data, larger, uneven_same, grouped, unbiased, expanded]


@pytest.mark.parametrize("target", ["saconv", "aws"])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_converted_by_the_kernel_and_back(tmp_path, change, target):
    def make():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        change(model[0])
        return model

    model = make()
    x = nets.X[:, :1] if change is grey else nets.X
    c = model[0]
    wanted = F.conv2d(x, c.weight, c.bias, c.stride, c.padding, c.dilation, c.groups).relu()
    conversion = surgeon.convert(model, x, target=target, allow_depthwise=True)
    layer = conversion.model[0]
    assert conversion.converted == 1
    assert torch.equal(conversion.model(x), wanted)
    assert (layer.out_channels, layer.in_channels) == (wanted.shape[1], x.shape[1])
    assert layer.kernel_size == tuple(c.weight.shape[2:])
    assert conversion.plan.sites[0].arguments.in_channels == x.shape[1]
    surgeon.save(conversion, tmp_path / "out")
    assert torch.equal(surgeon.restore(make(), tmp_path / "out")(x), wanted)
    assert torch.equal(surgeon.revert(conversion.model)(x), wanted)
    assert torch.equal(surgeon.fold(conversion.model, x).model(x), wanted)
    assert surgeon.profile(model, x, timing=None).macs == wanted.numel() * c.weight[0].numel()


def test_wide_branch_reads_three_times_as_far():
    """A kernel that grew to 5×5 under ``same``: the wide branch is F.conv2d with dilation 3, padded by 6."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding="same"))
    model[0].weight = kernel(4, 3, 5, 5)
    converted = surgeon.convert(model, nets.X).model
    with torch.no_grad():
        converted[0].switch.bias.zero_()
        wanted = F.conv2d(nets.X.double(), model[0].weight.double(), model[0].bias.double(), padding=6, dilation=3)
        torch.testing.assert_close(converted(nets.X).double(), wanted, atol=1e-5, rtol=1e-5)


def test_small_kernels_are_refused_by_their_size():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1))
    model[0].weight, model[0].padding = kernel(4, 3, 1, 1), 0
    assert surgeon.inspect(model, nets.X)[0].reason_code == "kernel-1x1"


def test_what_agrees_is_not_copied():
    conv = nn.Conv2d(3, 4, 3)
    assert by_kernel(conv) is conv
    conv.weight = kernel(4, 1, 3, 3)
    twin = by_kernel(conv)
    assert (twin.in_channels, conv.in_channels) == (1, 3)
    assert twin.weight is conv.weight


@pytest.mark.parametrize(("size", "dilation"), [((5, 5), 1), ((2, 4), 2), ((3, 1), (1, 3))])
def test_padding_is_that_of_a_convolution_built_with_the_kernel(size, dilation):
    conv = nn.Conv2d(3, 4, 3, padding="same", dilation=dilation)
    conv.weight = kernel(4, 3, *size)
    built = nn.Conv2d(3, 4, size, padding="same", dilation=dilation)
    assert list(by_kernel(conv)._reversed_padding_repeated_twice) == list(built._reversed_padding_repeated_twice)
