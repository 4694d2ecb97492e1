"""Where an ``SPConv2d`` starts: projection and fit, each against an oracle that knows nothing of how they are computed."""

import torch

from saconv_surgeon import SPConv2d
from saconv_surgeon.convs import spconv_calibration
from tests.convs.correlated_images import cases, convolution, correlated


def share(a, b):
    mean = a.mean((0, 2, 3), keepdim=True)
    return 1 - float((a - b).square().sum() / (a - mean).square().sum())


@cases
def test_fit_explains_what_projection_and_chance_do_not(sizes, options):
    conv = convolution(sizes, options)
    mix = torch.randn(sizes[0], sizes[0], generator=torch.Generator().manual_seed(9))
    seen, other = (
        torch.einsum("oc,nchw->nohw", mix, correlated(8, sizes[0], 26, 0.8, seed).float()).relu() for seed in (1, 2)
    )
    with torch.no_grad():
        chance, start = (SPConv2d.from_conv2d(conv, init=init).eval() for init in ("random", "project"))
        before = {k: v.clone() for k, v in conv.state_dict().items()}
        layer = SPConv2d.from_conv2d(conv).eval()
        layer.fit([seen[:3], seen[3:]], [conv(seen[:3]), conv(seen[3:])])
        shares = [share(conv(other), each(other)) for each in (chance, start, layer)]
        assert shares == sorted(shares)
        assert shares[2] > max(0.3, shares[1] + 0.05)
        assert share(conv(seen), layer(seen)) > 0.9 * shares[2]
        # the statistics are those of the data, so that training sees the same function
        assert share(layer(seen), layer.train()(seen)) > 0.98
    assert all(torch.equal(v, before[k]) for k, v in conv.state_dict().items())


def test_fit_finds_an_expressible_function():
    """A target that the layer can give, on images whose averages are alike, is found but for the blend's own sway."""
    conv = convolution((8, 6, 3), {"padding": 1})
    with torch.no_grad():
        conv.weight[:, 4:, [0, 0, 2, 2, 0, 1, 1, 2], [0, 2, 0, 2, 1, 0, 2, 1]] = 0
        conv.weight[:3, 2:4, [0, 0, 2, 2, 0, 1, 1, 2], [0, 2, 0, 2, 1, 0, 2, 1]] = 0
        conv.weight[3:, :2, [0, 0, 2, 2, 0, 1, 1, 2], [0, 2, 0, 2, 1, 0, 2, 1]] = 0
        x = torch.randn(12, 8, 40, 40, generator=torch.Generator().manual_seed(0))
        layer = SPConv2d.from_conv2d(conv, init="random").eval()
        layer.fit([x[:8]], [conv(x[:8])])
        assert share(conv(x[8:]), layer(x[8:])) > 0.998


def test_fit_on_next_to_nothing_stays_near_the_projection():
    """Sixty-four outputs of one image cannot say much about two hundred numbers."""
    conv = convolution((8, 6, 3), {"padding": 1})
    other = correlated(4, 8, 20, 0.7).float()
    with torch.no_grad():
        start, layer = (SPConv2d.from_conv2d(conv).eval() for _ in range(2))
        x = correlated(1, 8, 8, 0.7, seed=3).float()
        layer.fit([x], [conv(x)])
        assert all(v.isfinite().all() for v in layer.state_dict().values())
        assert share(conv(other), layer(other)) > share(conv(other), start(other)) - 0.3


def test_dead_channels_and_constant_inputs_leave_finite_layers():
    conv = convolution((8, 6, 3), {"padding": 1})
    with torch.no_grad():
        conv.weight[0] = 0
        layer = SPConv2d.from_conv2d(conv).eval()
        x = torch.ones(2, 8, 9, 9)
        x[:, 3] = 0
        layer.fit([x], [conv(x)])
        assert all(v.isfinite().all() for v in layer.state_dict().values())
        assert layer(x).isfinite().all()


def test_norms_are_fitted_to_the_blend_as_it_sways(monkeypatch):
    """Images of very different brightness move the blend away from one half; the kernels are fitted as if it stayed there."""
    conv = convolution((8, 6, 3), {"padding": 1})
    brightness = torch.tensor([-2.0, 1.5, 0.5, -1.0, 2.0, -0.5, 1.0, -1.5, 0.0, 1.8, -1.8, 0.2])
    x = correlated(12, 8, 14, 0.7).float() + brightness[:, None, None, None]
    errors = []
    for rounds in (0, spconv_calibration.ROUNDS):
        monkeypatch.setattr(spconv_calibration, "ROUNDS", rounds)
        with torch.no_grad():
            layer = SPConv2d.from_conv2d(conv).eval()
            layer.fit([x], [conv(x)])
            errors.append(float((layer(x) - conv(x)).square().mean()))
    assert errors[1] < 0.9 * errors[0]


def test_features_too_large_for_the_blend_are_given_in_part():
    """With averages in the hundreds the blend takes one branch or the other, and which says nothing about the next image."""
    conv = convolution((8, 6, 3), {"padding": 1})
    seen, other = (1000 * correlated(8, 8, 14, 0.9, seed).float() for seed in (1, 2))
    with torch.no_grad():
        start, layer = (SPConv2d.from_conv2d(conv).eval() for _ in range(2))
        layer.fit([seen], [conv(seen)])
        assert share(conv(other), layer(other)) > max(0.0, share(conv(other), start(other)))


def test_images_left_out_are_left_out_of_every_layer():
    """Behind layers that had been fitted to them they would say that anything goes."""
    conv = convolution((8, 6, 3), {"padding": 1})
    x = correlated(8, 8, 14, 0.7).float()
    with torch.no_grad():
        y = conv(x)
        kernels = []
        for last in (y[6:], y[6:] + 0.01 * torch.randn_like(y[6:])):
            layer = SPConv2d.from_conv2d(conv).eval()
            layer.fit([x], [torch.cat([y[:6], last])])
            kernels.append(layer.gwc.weight.clone())
    assert torch.equal(*kernels)
