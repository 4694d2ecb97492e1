import pytest
import torch
from torch import nn

from saconv_surgeon.convs.saconv import SAConv2d
from saconv_surgeon.planning.scores.part_gradients import PARTS, Convolution
from saconv_surgeon.planning.scores.sketch import projected, projection

GEOMETRIES = [
    {"padding": 1},
    {"padding": 1, "bias": False, "stride": 2},
    {"padding": 2, "dilation": 2, "groups": 2},
    {"padding": 1, "padding_mode": "reflect"},
    {"padding": 1, "padding_mode": "circular", "groups": 4},
    {"padding": 2, "padding_mode": "replicate", "stride": 3},
    {"padding": "same"},
    {"padding": "same", "kernel_size": (3, 5)},
    {"padding": (2, 1), "kernel_size": (4, 3)},
    {"padding": 0},
    {"padding": 4, "stride": 3},
    {"padding": (2, 0), "kernel_size": (5, 2)},
]


def with_bias(part):
    return torch.cat([part.weight.grad.flatten(1), part.bias.grad[:, None]], 1).flatten()


@pytest.mark.parametrize("options", GEOMETRIES, ids=str)
def test_of_every_sample_as_autograd_finds_them_in_the_converted_layer(options):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 8, **{"kernel_size": 3, **options}).double()
    x = torch.randn(3, 4, 17, 18, dtype=torch.float64)
    u = conv(x).detach()
    delta = torch.randn_like(u) + 0.3
    found = Convolution(conv, conv.weight.detach()).gradients(x, delta, u.mean((2, 3)))
    assert tuple(found) == PARTS
    layer = SAConv2d.from_conv2d(conv)
    wide = torch.zeros_like(layer.weight, requires_grad=True)
    for n in range(3):
        layer.zero_grad()
        wide.grad = None
        one = x[n : n + 1]
        switched_on = layer._wide_forward(one, wide) - (0 if conv.bias is None else conv.bias[:, None, None])
        ((layer(one) + switched_on) * delta[n : n + 1]).sum().backward()
        for part in ("pre_context", "post_context", "switch"):
            torch.testing.assert_close(
                found[part].rows[n].flatten(), with_bias(getattr(layer, part)), rtol=1e-9, atol=1e-9
            )
        by_tap = wide.grad.unflatten(0, (conv.groups, -1)).flatten(3).permute(0, 3, 1, 2).flatten()
        torch.testing.assert_close(found["wide"].rows[n].flatten(), by_tap, rtol=1e-9, atol=1e-9)


def test_of_the_kernel_of_the_wide_branch_itself_there_is_none():
    layer = SAConv2d.from_conv2d(nn.Conv2d(2, 2, 3, padding=1))
    layer(torch.randn(1, 2, 9, 9)).square().sum().backward()
    assert not layer.weight_diff.grad.any()


def test_a_map_too_small_for_a_wide_branch_still_has_contexts():
    conv = nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect")
    x = torch.randn(1, 2, 3, 3)
    found = Convolution(conv, conv.weight.detach()).gradients(x, torch.ones(1, 2, 3, 3), torch.ones(1, 2))
    assert set(found) == {"pre_context", "post_context"}


def test_few_channels_are_not_projected():
    t = torch.randn(5, 32)
    assert projection(32, 0) is None
    assert projected(t, None) is t


def test_inner_products_of_projections_are_right_on_average():
    torch.manual_seed(0)
    a, b = torch.randn(2, 100, dtype=torch.float64)
    found = torch.stack([projected(a, p) @ projected(b, p) for p in (projection(100, s) for s in range(2000))])
    error = found.std() / 2000**0.5
    assert abs(found.mean() - a @ b) < 4 * error
    assert error < 1


def test_projections_are_the_same_each_time_and_differ_by_seed():
    assert torch.equal(projection(64, 3), projection(64, 3))
    assert not torch.equal(projection(64, 3), projection(64, 4))


def test_many_channels_give_gradients_of_a_bounded_size():
    conv = nn.Conv2d(128, 96, 3, padding=1)
    found = Convolution(conv, conv.weight.detach()).gradients(
        torch.randn(2, 128, 6, 6), torch.randn(2, 96, 6, 6), torch.randn(2, 96)
    )
    assert {part: t.rows[0].numel() for part, t in found.items()} == {
        "pre_context": 32 * 33,
        "post_context": 32 * 33,
        "switch": 33,
        "wide": 9 * 16 * 16,
    }
