"""``SAConvBlock``: the seed's argument order, names and outputs."""

import pytest
import torch
from torch import nn

from saconv_surgeon import SAConv2d, SAConvBlock, load_published, published_state
from tests import oracle, published

X = torch.randn(2, 4, 11, 13, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(("arguments", "options"), [((3,), {}), ((3, 2), {"stride": 2}), ((3, 1, None, 2, 2), {})])
def test_state_dict_of_the_seeds_block_loads_and_gives_the_same(arguments, options):
    groups, dilation = (arguments + (1,) * 5)[3:5] if len(arguments) > 2 else (1, 1)
    if dilation == 2:
        options = {"padding": 2, "dilation": 2, "groups": 2}
    state = published.random_state(bn=True, groups=groups)
    block = SAConvBlock(4, 6, *arguments).eval()
    assert set(block.state_dict()) == set(state)
    load_published(block, state, "seed")
    wanted = published.block(state, X, **options)
    assert oracle.relative_error(block(X), wanted.double()) < 1e-6
    with torch.no_grad():
        block.bias += 0.3  # live here, dead there
    back = published_state(block, "seed")
    assert oracle.relative_error(published.block(back, X, **options), block(X).detach().double()) < 1e-6


def test_argument_order_is_that_of_yolos_conv():
    block = SAConvBlock(4, 6, 3, 2, 0, 2, 3, False)
    assert block.extra_repr() == "4, 6, kernel_size=(3, 3), stride=(2, 2), dilation=(3, 3), groups=2"
    assert isinstance(block.act, nn.Identity)
    assert isinstance(SAConvBlock(4, 6).act, nn.SiLU)
    assert isinstance(SAConvBlock(4, 6, act=nn.ReLU()).act, nn.ReLU)
    assert isinstance(SAConvBlock(4, 6, act=None).act, nn.Identity)
    assert SAConvBlock(4, 6, (3, 5), d=(2, 1)).padding == (2, 2)
    assert SAConvBlock(4, 6, bias=False).bias is None
    assert SAConvBlock(4, 6, dtype=torch.float64).bn.weight.dtype == torch.float64
    assert SAConvBlock(4, 6, device="meta").bn.weight.is_meta


def test_starts_as_convolution_norm_and_activation():
    block = SAConvBlock(4, 6, 3).eval()
    plain = block(X)
    wanted = nn.functional.silu(block.bn(nn.functional.conv2d(X, block.weight, block.bias, padding=1)))
    assert torch.equal(plain, wanted)
    with pytest.raises(ValueError, match="norm or an activation of its own"):
        block.to_conv2d()


def test_in_place_of_a_convolution_stands_no_block():
    layer = SAConvBlock.from_conv2d(nn.Conv2d(4, 6, 3))
    assert type(layer) is SAConv2d
    assert layer.bn is None
