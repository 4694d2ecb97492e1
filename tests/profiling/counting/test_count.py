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
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.state import preserved
from saconv_surgeon.profiling.counting import count as counting
from saconv_surgeon.profiling.counting.fvcore_engine import count_by_trace
from saconv_surgeon.profiling.counting.operation_table import FORMULAS, formula_of
from saconv_surgeon.profiling.counting.shape_formulas import Cost
from sample_models import awkward, tiny_attention, tiny_mobilenet, tiny_resnet, tiny_segmenter, tiny_unet, tiny_yolo
from tests import published

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


def count(model, *args, **kwargs):
    return counting.count(model, Inputs(args, kwargs))


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
    counted = count(model, x)
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
    assert count(model, x, x, x).macs == projections + products == torch_macs(model, x, x, x)


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("options", [{"padding": 1}, {"padding": "same"}, {"stride": 2, "padding": 1}, {}])
def test_saconv_by_hand(groups, options):
    model = surgeon.SAConv2d(8, 8, 3, groups=groups, **options)
    x = torch.randn(N, 8, H, W)
    outputs = model(x).numel()
    convolutions = 2 * outputs * (8 // groups) * 9
    switch, contexts = N * H * W * 8, 2 * N * 8 * 8
    counted = count(model, x)
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
        counted = count(each, *inputs.args, **inputs.kwargs)
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
    assert count(model, x).fvcore_flops == plain


def test_flops_by_hand():
    """2·MACs, 2 for each element of the norm, 1 for each of ReLU, the kernel for each of the pool, and a broadcast add."""
    model = nn.Sequential(
        nn.Conv2d(C, K, 3, padding=1), nn.BatchNorm2d(K), nn.ReLU(), nn.AvgPool2d(2), Call(lambda x: x + x[:, :1])
    )
    whole, pooled = N * K * H * W, N * K * (H // 2) * (W // 2)
    counted = count(model, torch.randn(N, C, H, W))
    assert counted.flops == 2 * whole * C * 9 + 2 * whole + whole + 4 * pooled + pooled
    assert counted.activations == whole


def test_arithmetic_on_sizes_is_not_counted():
    counted = count(Call(lambda x: x.reshape(x.shape[0] * x.shape[1], -1)), torch.randn(N, C, H))
    assert counted.flops == 0
    assert counted.uncounted_ops == {}


def test_module_called_twice_counts_twice_and_shared_parameters_once():
    conv = nn.Conv2d(C, C, 3, padding=1)
    counted = count(nn.Sequential(conv, conv), torch.randn(1, C, H, W))
    assert counted.macs == 2 * C * H * W * C * 9
    assert [row.parameters for row in counted.layers] == [C * C * 9 + C]


def test_what_is_unknown_is_listed_with_its_place():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Call(lambda x: torch.special.bessel_j0(x) + torch.special.bessel_j0(2 * x))

        def forward(self, x):
            return self.inner(x)

    counted = count(Odd(), torch.randn(3))
    ((op, seen),) = counted.uncounted_ops.items()
    assert "bessel_j0" in op
    assert (seen.calls, seen.modules) == (2, ("inner",))


@dataclass
class Result:
    a: torch.Tensor
    b: dict


def test_operation_of_a_library_that_is_imported_after_the_first_count(monkeypatch):
    monkeypatch.setitem(FORMULAS, "surgeon_late::scaled", lambda op: Cost(macs=1000, activations=op.out[0]))
    surgeon.profile(nn.Linear(3, 5), torch.randn(2, 3), timing=None)
    library = torch.library.Library("surgeon_late", "FRAGMENT")
    library.define("scaled(Tensor x) -> Tensor")
    library.impl("scaled", lambda x: x * 2, "CPU")

    class Late(nn.Module):
        def forward(self, x):
            return torch.ops.surgeon_late.scaled(x)

    found = surgeon.profile(Late(), torch.randn(2, 3), timing=None)
    assert found.macs == 1000
    assert found.activations == 2
    assert not found.uncounted_ops


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
    counted = count(Nested(), x, scale=2)
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
    count(model, x)
    assert same(snapshot(model), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.backends.mha.get_fastpath_enabled()


def test_models_own_exception_goes_through_and_leaves_nothing():
    model = nn.Sequential(nn.Conv2d(C, K, 3), Call(lambda x: 1 / 0))
    before = snapshot(model)
    with pytest.raises(ZeroDivisionError):
        count(model, torch.randn(1, C, H, W))
    assert same(snapshot(model), before)


# ------------------------------------------------------------------ two engines


def engines(model, *args, **kwargs):
    """What each engine sees, module by module."""
    inputs = Inputs(args, kwargs)
    with counting._fast_path_off():
        traced = counting._on_stand_in(model, inputs, count_by_trace, torch.no_grad)
        seen = counting._on_stand_in(model, inputs, counting._dispatch, torch.inference_mode)
    return traced.by_module(path for path, _ in model.named_modules()), seen.by_module


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda m: m.__name__.rpartition(".")[2])
def test_engines_agree_on_every_module_of_the_samples(sample):
    inputs = Inputs.of(sample.example_inputs())
    model = sample.build()
    for each in (model, surgeon.convert(model, inputs).model):
        traced, seen = engines(each, *inputs.args, **inputs.kwargs)
        for path in {*traced, *seen}:
            for figure in ("macs", "flops", "activations"):
                assert traced[path][figure] == seen.get(path, {}).get(figure, 0), (path, figure)
        counted = count(each, *inputs.args, **inputs.kwargs)
        assert counted.cross_check.agrees
        assert counted.engine == "fvcore"
        assert counted.note is None
        for figure in ("ops", "bytes_moved"):
            assert sum(getattr(layer, figure) for layer in counted.layers) == getattr(counted, figure)


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_engines_agree_on_saconv(groups):
    check = count(surgeon.SAConv2d(8, 8, 3, padding=1, groups=groups), torch.randn(N, 8, H, W)).cross_check
    assert check.agrees
    assert check.fvcore_macs == check.flop_counter_macs > 0


class Untraceable(nn.Module):
    """Runs, but not under a tracer."""

    def forward(self, x):
        if torch.jit.is_tracing():
            raise RuntimeError("not under a tracer")
        return x


def test_model_that_cannot_be_traced_is_counted_by_the_other_engine():
    counted = count(nn.Sequential(nn.Conv2d(C, K, 3), Untraceable()), torch.randn(1, C, H, W))
    assert counted.macs == K * 8 * 10 * C * 9
    assert (counted.engine, counted.fvcore_flops, counted.cross_check) == ("FlopCounterMode", None, None)
    assert counted.note == (
        "counted by FlopCounterMode: fvcore cannot trace this model (RuntimeError: not under a tracer)"
    )


def test_model_that_only_fvcore_can_count_says_so(monkeypatch):
    def fails(*args):
        raise RuntimeError("no modes today")

    monkeypatch.setattr(counting, "count_by_dispatch", fails)
    counted = count(nn.Sequential(nn.Conv2d(C, K, 3)), torch.randn(1, C, H, W))
    assert counted.macs == sum(row.macs for row in counted.layers) == K * 8 * 10 * C * 9
    assert (counted.engine, counted.ops, counted.bytes_moved) == ("fvcore", None, None)
    assert "not cross-checked" in counted.note
    assert "no modes today" in counted.note


def test_neither_engine_leaves_none_not_zero(monkeypatch):
    monkeypatch.setattr(counting, "count_by_dispatch", lambda *a: 1 / 0)
    counted = count(nn.Sequential(nn.Conv2d(C, K, 3), Untraceable()), torch.randn(1, C, H, W))
    assert (counted.macs, counted.flops, counted.fvcore_flops, counted.activations, counted.ops) == (None,) * 5
    assert counted.note.startswith("not counted: fvcore cannot trace this model")
    assert [row.macs for row in counted.layers] == [None]
    assert [row.parameters for row in counted.layers] == [K * C * 9 + K]


class DeadBranch(nn.Module):
    """Computes something that leads to no output."""

    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Conv2d(C, K, 3), nn.Conv2d(C, K, 1)

    def forward(self, x):
        self.unused(x)
        return self.used(x)


def test_work_that_leads_nowhere_is_counted_since_it_is_done():
    counted = count(DeadBranch(), torch.randn(1, C, H, W))
    used, unused = K * 8 * 10 * C * 9, K * H * W * C
    assert counted.macs == used + unused == torch_macs(DeadBranch(), torch.randn(1, C, H, W))
    assert (counted.cross_check.fvcore_macs, counted.cross_check.flop_counter_macs) == (used, used + unused)
    assert counted.cross_check.differing == ("macs", "flops", "activations")
    assert counted.engine == "FlopCounterMode"
    assert "fvcore's trace drops what leads to no output, or" in counted.note
    assert "(macs, flops, activations differ)" in counted.note


class Doubled(torch.autograd.Function):
    """A function with a backward of its own."""

    @staticmethod
    def forward(ctx, x, weight):
        return F.conv2d(x, weight) * 2

    @staticmethod
    def backward(ctx, grad):
        return grad, None


def test_autograd_functions_are_looked_into():
    model = Call(lambda x: Doubled.apply(x, torch.ones(K, C, 3, 3)))
    counted = count(model, torch.randn(1, C, H, W))
    assert counted.macs == K * 8 * 10 * C * 9
    assert counted.uncounted_ops == {}
    assert counted.engine == "FlopCounterMode"
    assert "does not look into Doubled" in counted.note


def test_model_without_a_copy_is_counted_itself_and_keeps_no_inference_tensor():
    class Stubborn(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.seen = nn.Conv2d(C, K, 3), None

        def __deepcopy__(self, memo):
            raise TypeError("no copies")

        def forward(self, x):
            self.seen = self.conv(x)
            return self.seen

    model = Stubborn()
    counted = count(model, torch.randn(1, C, H, W))
    assert counted.macs == K * 8 * 10 * C * 9
    assert counted.cross_check.agrees
    assert not model.seen.is_inference()


def test_model_that_wants_gradients_inside_is_counted():
    class Differentiates(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(C, K, 3)

        def forward(self, x):
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                (gradient,) = torch.autograd.grad((x**2).sum(), x)
            return self.conv(x - gradient)

    counted = count(Differentiates(), torch.randn(1, C, H, W))
    assert counted.macs == K * 8 * 10 * C * 9
    assert counted.ops > 3


def test_fused_attention_is_one_launch_and_two_products():
    counted = count(Call(F.scaled_dot_product_attention), *torch.randn(3, 2, 4, 64, 16))
    assert counted.macs == 2 * 2 * 4 * 64 * 64 * 16
    assert counted.ops == 1
    assert counted.cross_check.agrees


def test_what_a_run_leaves_in_attributes_is_thrown_away():
    class Caching(nn.Module):
        def __init__(self):
            super().__init__()
            self.grid, self.log = None, []

        def forward(self, x):
            if self.grid is None:
                self.grid = torch.ones_like(x) * 2
            self.log.append(1)
            return x + self.grid

    model = Caching()
    counted = count(model, torch.randn(3, 4))
    assert counted.flops == 24
    assert counted.cross_check.agrees
    assert (model.grid, model.log) == (None, [])


# ------------------------------------------------------------------ where torch's own counter is wrong


def recurrent_macs(model, steps):
    return steps * sum(p.numel() for name, p in model.named_parameters() if name.startswith("weight"))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2}])
def test_recurrent_layers_by_hand(kind, options):
    model = kind(C, K, batch_first=True, **options)
    counted = count(model, torch.randn(N, 5, C))
    assert counted.macs == recurrent_macs(model, N * 5)
    assert counted.cross_check.agrees
    assert counted.uncounted_ops == {}


def test_lstm_with_projection_and_packed_sequence_by_hand():
    model = nn.LSTM(C, K, proj_size=3, batch_first=True)
    assert count(model, torch.randn(N, 5, C)).macs == recurrent_macs(model, N * 5)

    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(C, K, batch_first=True)

        def forward(self, x):
            packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 2]), batch_first=True)
            return self.lstm(packed)[0].data

    packed = Packed()
    assert count(packed, torch.randn(2, 5, C)).macs == recurrent_macs(packed.lstm, 5 + 2)


@pytest.mark.parametrize(
    ("model", "inputs", "macs"),
    [
        (Call(lambda x, w: x @ w), (torch.randn(N, H, C), torch.randn(C)), N * H * C),
        (Call(torch.dot), (torch.randn(H), torch.randn(H)), H),
        (nn.Bilinear(C, K, 3), (torch.randn(N, C), torch.randn(N, K)), N * C * K * 3),
        (Call(torch.cdist), (torch.randn(N, H, C), torch.randn(N, W, C)), N * H * W * C),
        (nn.Linear(C, 1), (torch.randn(C),), C),
    ],
    ids=["mv", "dot", "bilinear", "cdist", "linear-1d"],
)
def test_products_that_the_counter_misses_by_hand(model, inputs, macs):
    counted = count(model, *inputs)
    assert counted.macs == macs
    assert counted.cross_check.agrees
    assert counted.uncounted_ops == {}


R = torch.randn


@pytest.mark.parametrize(
    ("call", "inputs", "macs"),
    [
        (lambda a, b: torch.einsum("...ij,...jk->...ik", a, b), (R(5, 3, 4), R(1, 4, 6)), 5 * 3 * 4 * 6),
        (lambda a, b: torch.einsum("bij,bjk->bik", a, b), (R(1, 3, 4), R(5, 4, 6)), 5 * 3 * 4 * 6),
        (lambda a, b: torch.einsum("bij,bjk->bik", a, b), (R(5, 3, 1), R(5, 4, 6)), None),
        (lambda a, b: torch.einsum("ij,ij->i", a, b), (R(3, 4), R(3, 4)), 12),
        (lambda a, b, c: torch.addbmm(a, b, c), (R(3, 5), R(10, 3, 4), R(10, 4, 5)), 10 * 3 * 4 * 5),
        (lambda a, b, c: a.addbmm_(b, c), (R(3, 5), R(10, 3, 4), R(10, 4, 5)), 10 * 3 * 4 * 5),
        (F.scaled_dot_product_attention, (R(1, 4, 10, 8), R(2, 4, 12, 8), R(2, 4, 12, 6)), 2 * 4 * 10 * 12 * (8 + 6)),
        (
            lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True),
            (R(2, 8, 10, 4), R(2, 2, 10, 4), R(2, 2, 10, 4)),
            2 * 2 * 8 * 10 * 10 * 4,
        ),
        (torch.linalg.vecdot, (R(1, 4), R(5, 4)), 20),
        (lambda a, b: torch._int_mm(a.to(torch.int8), b.to(torch.int8)), (R(32, 16), R(16, 32)), 32 * 16 * 32),
        (lambda a, b: torch.chain_matmul(a, b), (R(3, 4), R(4, 5)), 60),
    ],
)
@pytest.mark.filterwarnings("ignore:torch.chain_matmul")
def test_products_that_broadcast_by_hand(call, inputs, macs):
    counted = count(Call(call), *inputs)
    if macs is not None:
        assert counted.macs == macs
    assert counted.uncounted_ops == {}
    assert counted.macs == sum(row.macs for row in counted.layers)


@pytest.mark.parametrize(
    ("call", "inputs", "flops"),
    [
        (lambda a: torch.einsum("ij->i", a), (R(5, 3),), 15),
        (lambda a: torch.einsum("ii->", a), (R(5, 5),), 5),
        (lambda a: torch.einsum("ij->ji", a), (R(5, 3),), 0),
        (torch.fft.fft, (R(1000, 8),), 5 * 8000 * 3),
        (torch.fft.fft2, (R(10, 8, 8),), 5 * 640 * 6),
        (lambda a: torch.fft.rfft(a, dim=0), (R(16, 3),), 5 * 48 * 4),
        (torch.fft.fftn, (R(4, 4),), 5 * 16 * 4),
        (lambda w, i: F.embedding_bag(i, w, mode="sum"), (R(3000, 64), torch.tensor([[1, 2]])), 2 * 64),
        (lambda a: F.interpolate(a, scale_factor=2, mode="bicubic"), (R(1, 2, 3, 3),), 32 * 2 * 36),
        (lambda a: F.interpolate(a, scale_factor=2, mode="bilinear"), (R(1, 2, 3, 3),), 4 * 2 * 36),
        (lambda a: F.rms_norm(a, (4,)), (R(3, 4),), 3 * 12),
        (lambda a, w: F.rms_norm(a, (4,), w), (R(3, 4), R(4)), 4 * 12),
        (lambda a: F.fold(a, (4, 4), 2), (R(1, 4, 9),), 36),
        (lambda a: a // 2.0, (R(3, 4),), 12),
        (lambda a: F.layer_norm(a, (4,)), (R(3, 4),), 4 * 12),
        (lambda a: F.group_norm(a, 2), (R(2, 4, 3),), 4 * 24),
    ],
)
def test_other_work_by_hand(call, inputs, flops):
    counted = count(Call(call), *inputs)
    assert (counted.flops, counted.macs) == (flops, 0)
    assert counted.uncounted_ops == {}
    assert counted.cross_check.agrees


def test_lstm_flops_and_activations_by_hand():
    """Per step: 8 rows of gates for the input, 8 for the state; four operations for each of the 4·K gates."""
    counted = count(nn.LSTM(C, K, batch_first=True), R(N, 5, C))
    steps = N * 5
    assert counted.activations == steps * 2 * 4 * K
    assert counted.flops == 2 * counted.macs + steps * 4 * 4 * K


def test_deformable_convolution_formula_by_hand():
    """No torchvision here: the formula on a call that is made up. Each of 9·C samples takes eight operations."""

    class MadeUp:
        out = (N, K, 8, 10)
        is_floating = True

        def shape(self, i):
            return ((N, C, H, W), (K, C, 3, 3))[i]

    cost = formula_of("torchvision::deform_conv2d")(MadeUp())
    assert cost.macs == N * K * 8 * 10 * C * 9
    assert cost.other_flops == 8 * C * 9 * N * 8 * 10


# ------------------------------------------------------------------ awkward models


class Recovers(nn.Module):
    """Tries one layer, and takes another when that raises."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(5, 4), nn.Linear(4, 4)

    def forward(self, x):
        try:
            return self.first(x)
        except RuntimeError:
            return self.second(x)


def test_model_that_survives_a_raising_layer_is_counted_and_no_trace_is_tried():
    counted = count(nn.Sequential(Recovers()), R(3, 4))
    assert counted.macs == 3 * 4 * 4
    assert "0.first raises, and the model goes on" in counted.note
    assert counted.engine == "FlopCounterMode"


def test_hooks_on_the_model_are_counted_by_both_engines():
    model = nn.Linear(4, 4)
    model.register_forward_pre_hook(lambda m, args: (args[0] @ torch.ones(4, 4),))
    counted = count(model, R(1, 4))
    assert counted.macs == 32
    assert counted.cross_check.agrees


def test_operations_that_a_trace_does_not_open_are_named():
    counted = count(Call(lambda a, b: torch.tensordot(a, b, 1)), R(3, 4), R(4, 5))
    assert counted.macs == 60
    assert "shows aten::tensordot as one operation of unknown cost" in counted.note
    assert counted.uncounted_ops == {}


def test_parameters_keep_their_class_their_attributes_and_their_flag():
    class Scaled(nn.Parameter):
        pass

    class Uses(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = Scaled(torch.ones(4, 4))
            self.weight.scale = 2.0

        def forward(self, x):
            assert isinstance(self.weight, Scaled)
            assert self.weight.requires_grad
            return x @ self.weight * self.weight.scale

    counted = count(Uses(), R(3, 4))
    assert (counted.macs, counted.note) == (48, None)


def test_method_put_on_a_module_does_not_move_its_statistics():
    model = nn.Sequential(nn.Conv2d(C, K, 3), nn.BatchNorm2d(K)).train()
    original = model[1].forward
    model[1].forward = lambda x: original(x)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    assert count(model, R(2, C, H, W)).macs == 2 * K * 8 * 10 * C * 9
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_buffers_that_forward_adds_resizes_and_sparse_ones():
    class Buffers(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("pe", torch.zeros(2))
            self.register_buffer("adjacency", torch.eye(4).to_sparse())

        def forward(self, x):
            self.register_buffer("mask", torch.ones(3))
            self.pe.resize_(5).fill_(1)
            return torch.sparse.mm(self.adjacency, x)

    model = Buffers()
    surgeon.profile(model, R(4, 3), timing=surgeon.Timing(budget_s=0.05))
    assert set(model.state_dict()) == {"pe", "adjacency"}
    assert torch.equal(model.pe, torch.zeros(2))
    with preserved(model):
        model(R(4, 3))
    assert set(model.state_dict()) == {"pe", "adjacency"}
    assert torch.equal(model.pe, torch.zeros(2))


def test_views_in_place_are_neither_work_nor_launched():
    def views(x):
        x = x.clone()
        x.transpose_(0, 1).t_().unsqueeze_(0).squeeze_(0)
        return x

    counted = count(Call(views), R(3, 4))
    assert (counted.ops, counted.bytes_moved, counted.uncounted_ops) == (1, 2 * 4 * 12, {})


def test_asking_for_memory_launches_nothing_and_look_ups_read_what_they_give():
    assert count(Call(lambda x: torch.empty(5, 5)), R(3)).ops == 0
    table = nn.Embedding(3000, 64)
    assert count(table, torch.tensor([1, 2])).bytes_moved == 2 * (4 * 2 * 64) + 2 * 8
    assert count(Call(lambda x: torch.zeros(4).copy_(x)), R(4)).bytes_moved == 4 * 4 + 4 * 8


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantised_work_is_not_passed_over():
    conv = torch.ao.nn.quantized.Conv2d(C, K, 3)
    x = torch.quantize_per_tensor(R(1, C, H, W), 0.1, 0, torch.quint8)
    assert (
        "quantized::conv2d.new" in count(conv, x).uncounted_ops or "quantized::conv2d" in count(conv, x).uncounted_ops
    )


def test_where_plain_fvcore_raises_its_figure_is_unknown_and_no_other():
    counted = count(Call(lambda x, w: x @ w), torch.randn(N, H, C), torch.randn(C))
    assert (counted.fvcore_flops, counted.macs, counted.note) == (None, N * H * C, None)


# ------------------------------------------------------------------ launches, bytes, memory


def test_ops_and_bytes_by_hand():
    model = nn.Sequential(nn.Conv2d(C, K, 3, padding=1), nn.ReLU(inplace=True), Call(lambda x: x.flatten(1).t()))
    counted = count(model, torch.randn(N, C, H, W))
    x, weight, out = N * C * H * W, K * C * 9 + K, N * K * H * W
    rows = {row.path: row for row in counted.layers}
    assert (rows["0"].ops, rows["0"].bytes_moved) == (1, 4 * (x + weight + out))
    assert (rows["1"].ops, rows["1"].bytes_moved) == (1, 4 * 2 * out)
    assert "2" not in rows  # views launch nothing
    assert counted.ops == 2


def test_expanded_tensors_are_read_once_and_halves_are_half():
    model = Call(lambda x: x + x[:, :1].expand(-1, C))
    assert count(model, torch.randn(N, C)).bytes_moved == 4 * (N * C + N + N * C)
    assert count(model, torch.randn(N, C, dtype=torch.bfloat16)).bytes_moved == 2 * (N * C + N + N * C)


def test_published_order_launches_many_and_moves_more():
    state, x = published.random_state(64, 64), torch.randn(1, 64, 28, 28)
    plain = count(nn.Conv2d(64, 64, 3, padding=1, bias=False), x)
    theirs = count(Call(lambda x: published.saconv(state, x)), x)
    ours = count(surgeon.SAConv2d(64, 64, 3, padding=1, bias=False), x)
    assert (plain.ops, theirs.macs, ours.macs) == (1, ours.macs, theirs.macs)
    assert theirs.ops > 20
    assert theirs.bytes_moved > ours.bytes_moved > 4 * plain.bytes_moved


def test_calls_are_counted():
    conv = nn.Conv2d(C, C, 3, padding=1)
    counted = count(nn.Sequential(conv, conv, nn.ReLU()), torch.randn(1, C, H, W))
    assert {row.path: row.calls for row in counted.layers} == {"0": 2, "2": 1}


def test_peak_of_live_tensors_by_hand():
    """x stays, a is there while b is made of it, and gone before c is."""
    x = torch.randn(1000)
    model = Call(lambda x: (x * 2).repeat(3).sum() + x.exp())
    a, b, c = 1000, 3000, 1000
    assert count(model, x).peak_live_bytes == 4 * (1000 + a + b)
    assert count(Call(lambda x: x.exp()), x).peak_live_bytes == 4 * (1000 + c)
    linear = nn.Linear(1000, 10, bias=False)
    assert count(linear, x).peak_live_bytes == 4 * (1000 + 10000 + 10)
