"""Counts against numbers worked out by hand, against torch's own counter, and against plain fvcore."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import saconv_surgeon as surgeon
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.state import preserved
from saconv_surgeon.profiling.counting import count as counting
from saconv_surgeon.profiling.counting.fvcore_engine import count_by_trace
from saconv_surgeon.profiling.counting.operation_table import FORMULAS
from saconv_surgeon.profiling.counting.shape_formulas import Cost
from sample_models import awkward, tiny_attention, tiny_mobilenet, tiny_resnet, tiny_segmenter, tiny_unet, tiny_yolo
from tests.profiling.counting.counted import C, Call, H, K, N, R, W, count, same, torch_macs

SAMPLES = (awkward, tiny_attention, tiny_mobilenet, tiny_resnet, tiny_segmenter, tiny_unet, tiny_yolo)


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


def engines(model, *args, **kwargs):
    """What each engine sees, module by module."""
    inputs = Inputs(args, kwargs)
    with counting._fast_path_off():
        traced = counting._on_stand_in(model, inputs, count_by_trace, torch.no_grad)
        seen = counting._on_stand_in(model, inputs, counting._dispatch, torch.inference_mode)
    return traced.by_module(path for path, _ in model.named_modules()), seen.by_module


@pytest.mark.parametrize(
    "sample",
    [pytest.param(m, marks=[pytest.mark.slow] * m.__name__.endswith("tiny_yolo")) for m in SAMPLES],
    ids=lambda m: m.__name__.rpartition(".")[2],
)
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
            kept.append(self.seen)
            return self.seen

    kept = []
    model = Stubborn()
    counted = count(model, torch.randn(1, C, H, W))
    assert counted.macs == K * 8 * 10 * C * 9
    assert counted.cross_check.agrees
    assert kept
    assert not any(t.is_inference() for t in kept)
    assert model.seen is None


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
