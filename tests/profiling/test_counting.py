"""Counts against numbers worked out by hand, against torch's own counter, and against plain fvcore."""

import logging
import warnings
from dataclasses import dataclass

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import saconv_surgeon as surgeon
from saconv_surgeon.models.inputs import Inputs
from saconv_surgeon.profiling.counting import count
from sample_models import awkward, tiny_attention, tiny_mobilenet, tiny_resnet, tiny_segmenter, tiny_unet, tiny_yolo

SAMPLES = (awkward, tiny_attention, tiny_mobilenet, tiny_resnet, tiny_segmenter, tiny_unet, tiny_yolo)


def torch_macs(model, *args, **kwargs):
    """Half of what ``FlopCounterMode`` counts, with attention in the open."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
            model.eval()(*args, **kwargs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    assert counter.get_total_flops() % 2 == 0
    return counter.get_total_flops() // 2


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args):
        return self.function(*args)


N, C, K, H, W = 2, 6, 8, 10, 12


@pytest.mark.parametrize(
    ("model", "shape", "macs"),
    [
        (nn.Conv2d(C, K, 3, padding=1), (N, C, H, W), N * K * H * W * C * 9),
        (nn.Conv2d(C, K, 3, stride=2, padding=1), (N, C, H, W), N * K * 5 * 6 * C * 9),
        (nn.Conv2d(C, K, 3, padding="same", dilation=2), (N, C, H, W), N * K * H * W * C * 9),
        (nn.Conv2d(C, K, 3, padding="valid"), (N, C, H, W), N * K * 8 * 10 * C * 9),
        (nn.Conv2d(C, 12, 3, padding=1, groups=3), (N, C, H, W), N * 12 * H * W * 2 * 9),
        (nn.Conv2d(C, C, 5, padding=2, groups=C), (N, C, H, W), N * C * H * W * 25),
        (nn.ConvTranspose2d(C, K, 4, stride=2, padding=1), (N, C, H, W), N * C * H * W * K * 16),
        (nn.ConvTranspose2d(C, 12, 4, stride=2, groups=3), (N, C, H, W), N * C * H * W * 4 * 16),
        (nn.Conv1d(C, K, 3), (N, C, H), N * K * 8 * C * 3),
        (nn.Conv3d(C, K, 3), (N, C, 5, 6, 7), N * K * 3 * 4 * 5 * C * 27),
        (nn.Linear(C, K), (N, 5, C), N * 5 * C * K),
        (Call(lambda x: F.conv2d(x, torch.ones(K, C, 3, 3))), (N, C, H, W), N * K * 8 * 10 * C * 9),
        (Call(lambda x: torch.einsum("nchw,nkhw->nck", x, x)), (N, C, H, W), N * C * C * H * W),
        (Call(lambda x: torch.einsum("bij,bjk,bkl->bil", x, x, x)), (N, H, H), 2 * N * H**3),
        (Call(lambda x: torch.einsum("...ij,...kj->...ik", x, x)), (N, 3, H, W), N * 3 * H * H * W),
        (Call(lambda x: x @ x.mT), (N, H, W), N * H * W * H),
        (Call(lambda x: torch.baddbmm(x, x, x)), (N, H, H), N * H**3),
        (Call(lambda x: F.scaled_dot_product_attention(x, x, x)), (N, 4, 10, 8), 2 * N * 4 * 10 * 10 * 8),
    ],
)
def test_macs_by_hand(model, shape, macs):
    x = torch.randn(shape)
    counted = count(model, (x,), {})
    assert counted.macs == macs
    assert counted.macs == torch_macs(model, x)
    assert counted.uncounted_ops == {}
    assert counted.note is None


def test_multihead_attention_by_hand():
    length, size, heads = 10, 16, 4
    x = torch.randn(N, length, size)
    model = nn.MultiheadAttention(size, heads, batch_first=True)
    projections = N * length * size * size * 4
    products = 2 * N * length * length * size
    assert count(model, (x, x, x), {}).macs == projections + products == torch_macs(model, x, x, x)


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("options", [{"padding": 1}, {"padding": "same"}, {"stride": 2, "padding": 1}, {}])
def test_saconv_by_hand(groups, options):
    model = surgeon.SAConv2d(8, 8, 3, groups=groups, **options)
    x = torch.randn(N, 8, H, W)
    outputs = model(x).numel()
    convolutions = 2 * outputs * (8 // groups) * 9
    switch, contexts = N * H * W * 8, 2 * N * 8 * 8
    counted = count(model, (x,), {})
    assert counted.macs == convolutions + switch + contexts == torch_macs(model, x)
    assert counted.uncounted_ops == {}
    (row,) = counted.layers
    assert (row.path, row.type, row.macs) == ("", "SAConv2d", counted.macs)
    assert row.parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda m: m.__name__.rpartition(".")[2])
def test_samples_and_their_conversions(sample):
    inputs = Inputs.of(sample.example_inputs())
    model = sample.build()
    for each in (model, surgeon.convert(model, inputs).model):
        counted = count(each, inputs.args, inputs.kwargs)
        products_the_counter_misses = 8 + 8 * 72 if sample is awkward else 0  # spectral_norm's vdot and mv
        assert counted.macs - products_the_counter_misses == torch_macs(each, *inputs.args, **inputs.kwargs)
        assert counted.uncounted_ops == {}
        assert sum(layer.macs for layer in counted.layers) == counted.macs
        assert sum(layer.flops for layer in counted.layers) == counted.flops
        assert sum(layer.activations for layer in counted.layers) == counted.activations
        assert sum(layer.parameters for layer in counted.layers) == sum(p.numel() for p in each.parameters())
        paths = {path for path, _ in each.named_modules()}
        assert {layer.path for layer in counted.layers} <= paths


@pytest.mark.parametrize("sample", [tiny_resnet, tiny_mobilenet, tiny_unet], ids=["resnet", "mobilenet", "unet"])
def test_fvcore_flops_is_what_plain_fvcore_says(sample):
    model, x = sample.build().eval(), sample.example_inputs()
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = FlopCountAnalysis(model, x).unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()
    assert count(model, (x,), {}).fvcore_flops == plain


def test_flops_by_hand():
    """2·MACs, 2 for each element of the norm, 1 for each of ReLU, the kernel for each of the pool, and a broadcast add."""
    model = nn.Sequential(
        nn.Conv2d(C, K, 3, padding=1), nn.BatchNorm2d(K), nn.ReLU(), nn.AvgPool2d(2), Call(lambda x: x + x[:, :1])
    )
    whole, pooled = N * K * H * W, N * K * (H // 2) * (W // 2)
    counted = count(model, (torch.randn(N, C, H, W),), {})
    assert counted.flops == 2 * whole * C * 9 + 2 * whole + whole + 4 * pooled + pooled
    assert counted.activations == whole


def test_arithmetic_on_sizes_is_not_counted():
    counted = count(Call(lambda x: x.reshape(x.shape[0] * x.shape[1], -1)), (torch.randn(N, C, H),), {})
    assert counted.flops == 0
    assert counted.uncounted_ops == {}


def test_module_called_twice_counts_twice_and_shared_parameters_once():
    conv = nn.Conv2d(C, C, 3, padding=1)
    counted = count(nn.Sequential(conv, conv), (torch.randn(1, C, H, W),), {})
    assert counted.macs == 2 * C * H * W * C * 9
    assert [row.parameters for row in counted.layers] == [C * C * 9 + C]


def test_what_is_unknown_is_listed_with_its_place():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Call(lambda x: torch.special.bessel_j0(x) + torch.special.bessel_j0(2 * x))

        def forward(self, x):
            return self.inner(x)

    counted = count(Odd(), (torch.randn(3),), {})
    ((op, seen),) = counted.uncounted_ops.items()
    assert "bessel_j0" in op
    assert (seen.calls, seen.modules) == (2, ("inner",))


@dataclass
class Result:
    a: torch.Tensor
    b: dict


def test_nested_inputs_and_outputs():
    class Nested(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(C, K, 3)

        def forward(self, items, *, flag=None, scale=1):
            assert flag is None
            assert scale == 2
            return Result(self.conv(items["x"][0]), {"y": [self.conv(items["x"][1]), "text", None]})

    x = {"x": [torch.randn(1, C, H, W), torch.randn(1, C, H, W)]}
    counted = count(Nested(), (x,), {"scale": 2})
    assert counted.macs == 2 * K * 8 * 10 * C * 9
    assert [row.path for row in counted.layers] == ["conv"]


def snapshot(model):
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    return hooks, [m.training for m in model.modules()], {k: v.clone() for k, v in model.state_dict().items()}


def same(a, b):
    return a[:2] == b[:2] and all(torch.equal(a[2][key], b[2][key]) for key in a[2])


def test_model_is_left_as_it_was():
    model = nn.Sequential(nn.Conv2d(C, K, 3), nn.BatchNorm2d(K), nn.Dropout())
    model[1].eval()
    x = torch.randn(1, C, H, W)
    before, state = snapshot(model), torch.get_rng_state()
    count(model, (x,), {})
    assert same(snapshot(model), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.backends.mha.get_fastpath_enabled()


def test_models_own_exception_goes_through_and_leaves_nothing():
    model = nn.Sequential(nn.Conv2d(C, K, 3), Call(lambda x: 1 / 0))
    before = snapshot(model)
    with pytest.raises(ZeroDivisionError):
        count(model, (torch.randn(1, C, H, W),), {})
    assert same(snapshot(model), before)


def test_model_that_runs_but_cannot_be_traced_says_so():
    def untraceable(x):
        if torch.jit.is_tracing():
            raise RuntimeError("not under a tracer")
        return x

    model = nn.Sequential(nn.Conv2d(C, K, 3), Call(untraceable))
    counted = count(model, (torch.randn(1, C, H, W),), {})
    assert (counted.macs, counted.flops, counted.fvcore_flops, counted.activations) == (None,) * 4
    assert "RuntimeError: not under a tracer" in counted.note
    assert [row.macs for row in counted.layers] == [None]
