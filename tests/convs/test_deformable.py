"""``DeformableSAConv2d`` against a slow implementation in plain torch; on torchvision's own operator where it loads."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import saconv_surgeon as surgeon
from saconv_surgeon import DeformableSAConv2d, SAConv2d, load_published, published_state
from saconv_surgeon.convs import deformable
from tests import nets, oracle, oracle_targets, published
from tests.operators import operator  # noqa: F401 - a fixture

GEOMETRIES = [
    {"padding": 1},
    {"padding": 1, "stride": 2},
    {"padding": 1, "stride": (2, 1)},
    {"padding": 2, "dilation": 2},
    {"padding": 1, "groups": 2},
    {"padding": "same"},
    {"padding": 1, "padding_mode": "reflect"},
    {"padding": 1, "padding_mode": "circular", "stride": 2},
    {"padding": 1, "bias": False},
]
geometries = pytest.mark.parametrize("options", GEOMETRIES, ids=str)
X = torch.randn(2, 4, 11, 13, generator=torch.Generator().manual_seed(3))


def test_the_slow_operator_without_offsets_is_a_convolution():
    weight, bias = torch.randn(6, 2, 3, 3), torch.randn(6)
    found = oracle_targets.deform_conv2d(X, torch.zeros(2, 18, 6, 7), weight, bias, (2, 2), (2, 2), (2, 2))
    wanted = F.conv2d(X, weight, bias, 2, 2, 2, groups=2)
    assert oracle.relative_error(found, wanted.double()) < 1e-6


def test_the_slow_operator_reads_between_pixels():
    image = torch.arange(12.0).reshape(1, 1, 3, 4)
    offset = torch.zeros(1, 2, 3, 4)
    offset[:, 0], offset[:, 1] = 0.5, -0.25
    found = oracle_targets.deform_conv2d(image, offset, torch.ones(1, 1, 1, 1))
    assert found[0, 0, 0, 1] == 0.5 * (0.75 * 1 + 0.25 * 0) + 0.5 * (0.75 * 5 + 0.25 * 4)
    assert found[0, 0, 2, 2] == 0.5 * (0.75 * 10 + 0.25 * 9)  # half of it is outside
    assert found[0, 0, 0, 0] == 0.5 * 0.75 * 0 + 0.5 * 0.75 * 4


@geometries
def test_follows_the_equations(options, operator):  # noqa: F811
    layer = oracle.shake(DeformableSAConv2d(4, 6, 3, **options), size=0.4)
    found, wanted = layer(X), oracle_targets.deformable(layer, X)
    assert oracle.relative_error(found, wanted) < 2e-5
    still = DeformableSAConv2d(4, 6, 3, **options)
    still.load_state_dict({k: v * 0 if "offset" in k else v for k, v in layer.state_dict().items()})
    assert oracle.relative_error(still(X), wanted) > 1e-3  # the offsets matter


@geometries
def test_without_offsets_it_is_saconv(options, operator):  # noqa: F811
    conv = nn.Conv2d(4, 6, 3, **options)
    fresh = DeformableSAConv2d.from_conv2d(conv)
    assert oracle.relative_error(fresh(X), conv(X).detach().double()) < 1e-6
    assert fresh.is_at_rest()
    assert torch.equal(fresh.to_conv2d()(X), conv(X))
    plain = oracle.shake(SAConv2d(4, 6, 3, **options))
    moved = DeformableSAConv2d(4, 6, 3, **options)
    moved.load_state_dict(plain.state_dict(), strict=False)
    assert oracle.relative_error(moved(X), oracle.saconv(plain, X)) < 1e-5


def test_training_moves_the_offsets(operator):  # noqa: F811
    layer = DeformableSAConv2d.from_conv2d(nn.Conv2d(4, 6, 3, padding=1))
    layer(X).square().mean().backward()
    assert layer.offset_s.weight.grad.any()  # at S = 1 the wide branch is not felt yet
    oracle.shake(layer)(X).square().mean().backward()
    assert layer.offset_l.weight.grad.any()
    layer.reset_parameters()
    assert layer.is_at_rest()


@pytest.mark.parametrize("options", [{"kernel_size": 5, "padding": 2}, {"kernel_size": 3}, {"kernel_size": 1}])
def test_other_kernels_and_paddings_are_errors(options):
    with pytest.raises(ValueError, match="for 3×3 kernels whose padding is their dilation"):
        DeformableSAConv2d(4, 4, **options)


def mmcv_state(seed=0):
    state = published.random_state(seed=seed)
    g = torch.Generator().manual_seed(seed + 1)
    for name in ("offset_s", "offset_l"):
        state[f"{name}.weight"] = torch.randn(18, 4, 3, 3, generator=g) * 0.2
        state[f"{name}.bias"] = torch.randn(18, generator=g) * 0.2
    return state


@pytest.mark.parametrize("stride", [1, 2])
def test_published_checkpoints(stride, operator):  # noqa: F811
    state = mmcv_state()
    layer = DeformableSAConv2d(4, 6, 3, stride, 1)
    load_published(layer, state, "mmcv")
    wanted = published.deformable(state, X, stride=stride)
    assert oracle.relative_error(layer(X), wanted.double()) < 1e-5
    with torch.no_grad():
        layer.bias += 0.5
    back = published_state(layer, "mmcv")
    assert set(back) == set(state)
    assert oracle.relative_error(published.deformable(back, X, stride=stride), layer(X).detach().double()) < 1e-5


def test_refusals(operator):  # noqa: F811
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 5, padding=2), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 1)
    )
    sites = surgeon.inspect(model, nets.X, target="saconv-deform")
    assert [site.reason_code for site in sites] == [None, "kernel-not-3x3", "padding", "kernel-1x1"]
    (first, *_) = surgeon.inspect(model.bfloat16(), nets.X.bfloat16(), target="saconv-deform")
    assert first.reason == "torchvision's deform_conv2d would round in half precision: convert in float32"


def test_says_why_outputs_move_at_all(operator):  # noqa: F811
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
    conversion = surgeon.convert(model, nets.X, target="saconv-deform")
    assert conversion.converted == 2
    assert conversion.equivalence.passed
    if not conversion.equivalence.bit_equal:
        assert conversion.equivalence.note == "torchvision's deform_conv2d adds in another order than a convolution"


def test_absent_operator_is_the_reason(monkeypatch):
    monkeypatch.setattr(deformable, "missing_operator", lambda: "this torchvision has no compiled deform_conv2d")
    (site, *_) = surgeon.inspect(nets.chain(), nets.X, target="saconv-deform")
    assert site.reason_code == "no-operator"
    assert site.reason == (
        "deformable branches need torchvision's deform_conv2d: this torchvision has no compiled deform_conv2d"
    )


def test_torchvision_without_the_operator_is_found_out(monkeypatch):
    """That it can be imported, or says that it has operators, is not enough."""
    import sys
    import types

    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setattr(torch.ops, "torchvision", types.SimpleNamespace(), raising=False)
    assert deformable.missing_operator.__wrapped__() == "this torchvision has no compiled deform_conv2d"
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert "cannot be imported" in deformable.missing_operator.__wrapped__()


@pytest.mark.gpu
def test_on_a_gpu():
    if deformable.missing_operator() is not None:
        pytest.skip("no torchvision operator")
    layer = oracle.shake(DeformableSAConv2d(4, 6, 3, padding=1), size=0.4)
    wanted = oracle_targets.deformable(layer, X)
    assert oracle.relative_error(layer.cuda()(X.cuda()).cpu(), wanted) < 1e-4


def test_under_autocast(operator):  # noqa: F811
    layer = DeformableSAConv2d.from_conv2d(nn.Conv2d(4, 6, 3, padding=1))
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(X)
    assert oracle.relative_error(found, layer(X).detach().double()) < 0.02
