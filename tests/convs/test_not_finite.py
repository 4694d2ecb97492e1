"""What is not finite stays at the place that the plain convolution leaves it at. Oracle: the convolution; the equations."""

import pytest
import torch
from torch import nn

from saconv_surgeon import ConvAWS2d, DeformableSAConv2d, SAConv2d, SPConv2d
from saconv_surgeon.convs.deformable import missing_operator
from saconv_surgeon.convs.gradients import blended
from tests import oracle

BAD = (float("inf"), -float("inf"), float("nan"))
X = torch.randn(2, 3, 20, 24, generator=torch.Generator().manual_seed(0))


def same(a, b):
    return torch.equal(a, b) or bool(((a == b) | (a.isnan() & b.isnan())).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("layer_type", [SAConv2d, ConvAWS2d])
def test_at_rest_a_bad_pixel_stays_where_it_is(layer_type, gradients, bad, dtype):
    for conv in (nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 6, 5, 2, 2, groups=3), nn.Conv2d(3, 4, 2, dilation=2)):
        conv, x = conv.to(dtype), X.to(dtype).clone()
        x[1, 2, 7, 9] = bad
        with torch.set_grad_enabled(gradients):
            wanted, found = conv(x), layer_type.from_conv2d(conv)(x)
        assert same(found, wanted)
        assert not wanted.isfinite().all()


def test_an_overflow_of_the_plain_output_stays_where_it_is():
    conv = nn.Conv2d(16, 16, 3, padding=1, bias=False).half()
    x = torch.randn(1, 16, 24, 24).half()
    conv.weight.data.mul_(4)
    x[0, :, 8, 8] = 60000 * torch.sign(conv.weight[0, :, 1, 1])
    wanted = conv(x)
    assert not wanted.isfinite().all()
    assert same(SAConv2d.from_conv2d(conv)(x), wanted)


def overflowing_wide_branch():
    """A kernel that adds two pixels, and a map on which only those six apart add up to more than float16 holds."""
    conv = nn.Conv2d(1, 1, 3, padding=1, bias=False).half()
    conv.weight.data.zero_()[0, 0, 1, 0::2] = 1.0
    x = torch.zeros(1, 1, 16, 16).half()
    x[0, 0, 8, 5] = x[0, 0, 8, 11] = 40000.0
    return conv, x


def test_an_overflow_of_the_wide_branch_alone_does_not_count_at_a_switch_of_one():
    conv, x = overflowing_wide_branch()
    layer = SAConv2d.from_conv2d(conv)
    for gradients in (False, True):
        with torch.set_grad_enabled(gradients):
            assert torch.equal(layer(x), conv(x))
    x = x.requires_grad_()
    layer(x)[0, 0, 8, 8].backward()
    wanted = torch.autograd.grad(conv(x)[0, 0, 8, 8], [x, conv.weight])
    assert torch.equal(x.grad, wanted[0])
    assert all(p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("kind", ["eager", "by hand", "compiled", "forward mode"])
def test_blend_at_a_switch_of_one(kind):
    small, large = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    switch = torch.ones(2, 1, 4, 4)
    switch[0, 0, 1] = 0.25
    large[1, 1, 2, 2] = float("inf")
    large[0, 1, 1, 1] = float("inf")
    wanted = switch * small + (1 - switch) * large
    wanted[1, 1, 2, 2] = small[1, 1, 2, 2]
    assert wanted.isfinite().sum() == wanted.numel() - 1
    leaves = [t.clone().requires_grad_(kind != "eager") for t in (small, large, switch)]

    def run(*given):
        return blended(*(t.clone() for t in given))

    if kind == "forward mode":
        found, slope = torch.func.jvp(run, (small, large, switch), tuple(map(torch.ones_like, (small, large, switch))))
        assert slope[1, 1, 2, 2].isfinite()
    else:
        found = (torch.compile(run, backend="aot_eager") if kind == "compiled" else run)(*leaves)
    finite = wanted.isfinite()
    assert torch.allclose(found[finite], wanted[finite], atol=1e-6)
    if kind in ("by hand", "compiled"):
        found[0, :, 2:].sum().backward()  # finite there
        difference = (small - large).sum(1, keepdim=True)
        assert torch.allclose(leaves[2].grad[0, :, 2:], difference[0, :, 2:], atol=1e-6)  # also at a switch of 1
        assert leaves[2].grad[1].isfinite().all()


@pytest.mark.parametrize("bad", BAD)
def test_a_trained_layer_spreads_it_no_further_than_its_reach(bad):
    """Contexts leave the channel out; the switch is 1 in the windows that hold the pixel; the wide branch reaches three steps."""
    layer = oracle.shake(SAConv2d(3, 5, 3, padding=1))
    x = X.clone()
    x[0, 1, 9, 9] = bad
    with torch.no_grad():
        found, clean = layer(x), layer(X)
    assert torch.equal(found[1], clean[1])  # another image
    reached = ~found[0].isfinite().all(0)
    assert reached[8:11, 8:11].all()
    reached[6:13, 6:13] = False
    assert not reached.any()


def test_folded_layers_as_well():
    layer = oracle.shake(SAConv2d(3, 5, 3, padding=1)).eval()
    folded = layer.folded()
    x = X.clone()
    x[0, 1, 9, 9] = float("inf")
    with torch.no_grad():
        a, b = layer(x), folded(x)
    assert torch.equal(a.isfinite(), b.isfinite())
    assert oracle.relative_error(b[a.isfinite()], a[a.isfinite()]) < 1e-5


def test_split_convolutions_as_well():
    layer = SPConv2d.from_conv2d(nn.Conv2d(4, 6, 3, padding=1)).eval()
    x = torch.randn(1, 4, 12, 12)
    x[0, 3, 5, 5] = float("inf")
    with torch.no_grad():
        assert int((~layer(x).isfinite()).sum()) <= 6 * 9


@pytest.mark.skipif(missing_operator() is not None, reason=str(missing_operator()))
def test_deformable_branches_as_well():
    conv = nn.Conv2d(3, 6, 3, padding=1)
    layer = DeformableSAConv2d.from_conv2d(conv)
    x = X.clone()
    x[0, 1, 9, 9] = float("inf")
    with torch.no_grad():
        bad = ~layer(x).isfinite()
    bad[0, :, 7:12, 7:12] = False  # torchvision's operator also reads the neighbours, times 0
    assert not bad.any()


@pytest.mark.parametrize("how", ["compiled", "vmap", "forward mode"])
@pytest.mark.parametrize("bad", BAD)
def test_at_rest_with_gradients_however_it_is_run(bad, how):
    conv = nn.Conv2d(3, 4, 3, padding=1)
    layer, x = SAConv2d.from_conv2d(conv), X[:1].clone()
    x[0, 1, 6, 6] = bad
    if how == "compiled":
        found = torch.compile(layer, backend="aot_eager")(x)
    elif how == "vmap":
        found = torch.vmap(layer)(x[:, None])[:, 0]
    else:
        found = torch.func.jvp(layer, (x,), (torch.ones_like(x),))[0]
    assert same(found, conv(x))
