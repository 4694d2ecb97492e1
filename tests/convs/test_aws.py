"""The standardised kernel and the way weights come into it."""

import copy

import pytest
import torch
from torch import nn

from saconv_surgeon import ConvAWS2d, SAConv2d
from saconv_surgeon.convs.gradients import filter_statistics
from tests import oracle

LAYERS = (ConvAWS2d, SAConv2d)
X = torch.randn(2, 4, 9, 11, generator=torch.Generator().manual_seed(2))


def equal_states(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def trained(layer_type=SAConv2d, **options):
    return oracle.shake(layer_type(4, 6, 3, padding=1, **options))


def test_statistics_against_numpy_style_float64():
    weight = torch.randn(5, 4, 3, 3)
    sigma, mean = filter_statistics(weight)
    flat = weight.double().flatten(1)
    assert torch.allclose(mean.flatten().double(), flat.mean(1), atol=1e-7)
    assert torch.allclose(sigma.flatten().double(), (flat.var(1, correction=1) + 1e-5).sqrt(), rtol=1e-6)


def test_kernel_follows_the_textbook():
    layer = trained(ConvAWS2d)
    state = {name: value.double() for name, value in layer.state_dict().items()}
    wanted = oracle.standardised(state["weight"], state["weight_gamma"], state["weight_beta"])
    assert oracle.relative_error(layer.standardised_weight(), wanted) < 1e-6


@pytest.mark.parametrize("layer_type", LAYERS)
def test_plain_state_dict_gives_the_plain_convolution(layer_type):
    conv, layer = nn.Conv2d(4, 6, 3, padding=1), layer_type(4, 6, 3, padding=1)
    found = layer.load_state_dict(conv.state_dict(), strict=False)
    assert torch.equal(layer(X), conv(X))
    new = set(layer.state_dict()) - {"weight", "bias", "weight_gamma", "weight_beta"}
    assert set(found.missing_keys) == new
    assert not found.unexpected_keys


def test_strict_load_reports_the_new_parameters_but_not_the_statistics():
    with pytest.raises(RuntimeError) as raised:
        SAConv2d(4, 6, 3).load_state_dict(nn.Conv2d(4, 6, 3).state_dict())
    assert "weight_diff" in str(raised.value)
    assert "weight_gamma" not in str(raised.value)
    ConvAWS2d(4, 6, 3).load_state_dict(nn.Conv2d(4, 6, 3).state_dict())  # nothing is missing here


@pytest.mark.parametrize("layer_type", LAYERS)
def test_own_state_dict_changes_nothing(layer_type):
    """The dict aliases the buffers: a version that marks them first destroys them."""
    layer = trained(layer_type)
    before = layer(X)
    layer.load_state_dict(layer.state_dict())
    assert torch.equal(layer(X), before)
    other = layer_type(4, 6, 3, padding=1)
    other.load_state_dict(copy.deepcopy(layer.state_dict()))
    assert torch.equal(other(X), before)


def test_partial_dict_without_the_layer_changes_nothing():
    model = nn.Sequential(trained(), nn.BatchNorm2d(6))
    before = model[0](X)
    model.load_state_dict({"1.weight": torch.zeros(6)}, strict=False)
    assert torch.equal(model[0](X), before)


def test_kernel_of_the_wrong_shape_leaves_the_statistics():
    layer = trained()
    gamma = layer.weight_gamma.clone()
    with pytest.raises(RuntimeError, match="size mismatch"):
        layer.load_state_dict({"weight": torch.zeros(6, 4, 5, 5)}, strict=False)
    assert torch.equal(layer.weight_gamma, gamma)


def test_assign_takes_the_kernel_itself():
    conv = nn.Conv2d(4, 6, 3, padding=1)
    layer = SAConv2d(4, 6, 3, padding=1)
    layer.load_state_dict(conv.state_dict(), strict=False, assign=True)
    assert layer.weight.data_ptr() == conv.weight.data_ptr()
    assert torch.equal(layer(X), conv(X))


@pytest.mark.parametrize("layer_type", LAYERS)
def test_meta_layer_takes_a_whole_state(layer_type):
    layer = trained(layer_type)
    hollow = layer_type(4, 6, 3, padding=1, device="meta")
    hollow.load_state_dict(layer.state_dict(), assign=True)
    assert torch.equal(hollow(X), layer(X))
    hollow = layer_type(4, 6, 3, padding=1, device="meta").to_empty(device="cpu")
    hollow.load_state_dict(layer.state_dict())
    assert torch.equal(hollow(X), layer(X))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layer_type", LAYERS)
def test_half_layers_keep_float32_statistics(layer_type, dtype):
    conv = nn.Conv2d(4, 6, 3, padding=1)
    layer = layer_type.from_conv2d(conv).to(dtype)
    assert layer.weight.dtype == dtype
    assert layer.weight_gamma.dtype == layer.weight_beta.dtype == torch.float32
    assert torch.equal(layer(X.to(dtype)), conv.to(dtype)(X.to(dtype)))
    rounded = {name: value.to(dtype) for name, value in trained(layer_type).state_dict().items()}
    layer.load_state_dict(rounded)
    assert layer.weight_gamma.dtype == torch.float32
    hollow = layer_type(4, 6, 3, padding=1, device="meta", dtype=dtype)
    hollow.load_state_dict(rounded, assign=True)
    assert hollow.weight_gamma.dtype == torch.float32


@pytest.mark.parametrize("layer_type", LAYERS)
def test_untrained_layers_stay_exact_through_casts_and_layouts(layer_type):
    conv = nn.Conv2d(4, 6, 3, padding=1)
    for change in (
        lambda m: m.double(),
        lambda m: m.double().float(),
        lambda m: m.half().float(),
        lambda m: m.to(memory_format=torch.channels_last),
    ):
        layer, plain = change(layer_type.from_conv2d(conv)), change(copy.deepcopy(conv))
        x = X.to(plain.weight.dtype)
        assert torch.equal(layer.standardised_weight().to(plain.weight.dtype), plain.weight)
        assert torch.equal(layer(x), plain(x))


def test_trained_statistics_survive_casts():
    layer = trained()
    gamma = layer.weight_gamma.clone()
    assert torch.equal(copy.deepcopy(layer).half().weight_gamma, gamma)
    assert torch.equal(copy.deepcopy(layer).double().weight_gamma, gamma.double())
    assert torch.equal(copy.deepcopy(layer).to(memory_format=torch.channels_last).weight_gamma, gamma)


def test_shared_memory_stays_shared():
    layer = trained()
    layer.share_memory()
    assert layer.weight_gamma.is_shared()


def test_single_element_and_constant_filters_are_finite():
    pointwise = nn.Conv2d(4, 4, 1, groups=4)
    layer = ConvAWS2d.from_conv2d(pointwise)
    assert torch.equal(layer(X), pointwise(X))
    zero = nn.Conv2d(4, 6, 3, padding=1)
    nn.init.zeros_(zero.weight)
    layer = SAConv2d.from_conv2d(zero)
    assert torch.equal(layer(X), zero(X))
    layer(X).sum().backward()
    assert layer.weight.grad.isfinite().all()


def test_new_layer_is_the_plain_convolution_and_resets():
    layer = SAConv2d(4, 6, 3, padding=1)
    plain = lambda: nn.functional.conv2d(X, layer.weight, layer.bias, padding=1)
    assert torch.equal(layer(X), plain())
    oracle.shake(layer)
    assert not torch.allclose(layer(X), plain())
    layer.reset_parameters()
    assert torch.equal(layer(X), plain())


def test_ratio_of_the_naive_copy():
    """Why the statistics matter: the kernel alone, copied into a layer with γ = 1 and β = 0, is off by a large factor."""
    conv, layer = nn.Conv2d(64, 8, 3), ConvAWS2d(64, 8, 3)
    with torch.no_grad():
        layer.weight.copy_(conv.weight)
        layer.weight_gamma.fill_(1)
        layer.weight_beta.fill_(0)
    assert (layer.standardised_weight().std() / conv.weight.std()) > 20


@pytest.mark.parametrize("kind", [ConvAWS2d, SAConv2d])
def test_halving_twice_keeps_the_statistics(kind):
    layer = kind(3, 4, 3)
    with torch.no_grad():
        layer.weight_gamma.mul_(1.234567)
    wanted = layer.weight_gamma.clone()
    for _ in range(2):
        layer.half()
        assert layer.weight_gamma.dtype == layer.weight_beta.dtype == torch.float32
    assert torch.equal(layer.weight_gamma, wanted)
