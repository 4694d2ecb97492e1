"""Compiled code and control flow operators: run as Python while surgery looks, and compiled again for the user."""

import pytest
import torch
from torch import nn
from torch._higher_order_ops import associative_scan, scan, while_loop
from torch._higher_order_ops import map as map_over
from torch.nn.attention.flex_attention import flex_attention
from torch.torch_version import TorchVersion

import saconv_surgeon as surgeon
from saconv_surgeon import Timing
from tests.verbs import VERBS, assert_left_alone

X = torch.randn(2, 3, 9, 9)
RUNS = []
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # the compiler asks for it


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def counting(graph, example):
    def call(*args):
        RUNS.append(1)
        return graph.forward(*args)

    return call


def compiled_runs(call):
    RUNS.clear()
    with torch.no_grad():
        call()
    return len(RUNS)


# ------------------------------------------------------------------ compiled code


@torch.compile(backend=counting)
def swish(x):
    return x * torch.sigmoid(x)


class Function(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return swish(self.conv(x))


class Attribute(Function):
    def __init__(self):
        super().__init__()
        self.part = torch.compile(lambda x: self.conv(x).relu(), backend=counting)

    def forward(self, x):
        return self.part(x)


class Method(Function):
    def __init__(self):
        super().__init__()
        self.part = torch.compile(self.convolve, backend=counting)

    def convolve(self, x):
        return self.conv(x) + 1

    def forward(self, x):
        return self.part(x)


class Decorated(Function):
    @torch.compile(backend=counting)
    def forward(self, x):
        return self.conv(x) * 2


def wrapped_part():
    return nn.Sequential(torch.compile(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), backend=counting), nn.ReLU())


class Inside(Function):
    def forward(self, x):
        return self.conv(x) * 3


def part_compiled_in_place():
    model = nn.Sequential(Inside(), nn.ReLU())
    model[0].compile(backend=counting)
    return model


COMPILED = [Function, Attribute, Method, Decorated, wrapped_part, part_compiled_in_place]


@pytest.mark.parametrize("make", COMPILED)
def test_compiled_code_stays_compiled(make):
    model = make().eval()
    assert compiled_runs(lambda: model(X)) == 1
    for name, verb in VERBS.items():
        assert_left_alone(model, verb, X)
        assert compiled_runs(lambda: model(X)) == 1, name


@pytest.mark.parametrize("make", COMPILED)
def test_what_is_timed_is_compiled(make):
    model = make().eval()
    timing = Timing(budget_s=0.02, per_layer=False)
    said = []
    for _ in range(10):  # as often as torch would compile the same code, and more
        runs = compiled_runs(lambda: said.append(surgeon.profile(model, X, timing=timing)))
        assert runs >= said[-1].latency.n >= 3  # on a busy machine few runs fit the budget
    assert compiled_runs(lambda: model(X)) == 1


@pytest.mark.parametrize("make", COMPILED)
def test_converted_model_is_compiled_as_the_model_was(make):
    model = make().eval()
    conversion = surgeon.convert(model, X)
    assert conversion.equivalence.bit_equal
    assert conversion.converted == 1
    wanted = model(X)
    assert compiled_runs(lambda: conversion.model(X)) >= 1
    with torch.no_grad():
        assert torch.equal(conversion.model(X), wanted)


def test_scripted_functions_stay():
    @torch.jit.script
    def scripted(x):
        return x * 2 if x.dim() == 4 else x

    class Net(Function):
        def forward(self, x):
            return scripted(self.conv(x))

    model = Net().eval()
    wanted = model(X)
    for verb in VERBS.values():
        assert_left_alone(model, verb, X)
    assert torch.equal(model(X), wanted)
    assert surgeon.convert(model, X).equivalence.bit_equal


@pytest.mark.parametrize("stance", ["default", "force_eager", "eager_on_recompile"])
def test_the_users_stance_is_kept(stance):
    model = Function().eval()
    with torch.compiler.set_stance(stance):
        surgeon.convert(model, X)
        assert torch._dynamo.eval_frame._stance.stance == stance
    assert compiled_runs(lambda: model(X)) == 1


# ------------------------------------------------------------------ control flow


class Conv(nn.Module):
    calls = 1

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 3, 3, padding=1)


class Cond(Conv):
    def __init__(self):
        super().__init__()
        self.b = nn.Conv2d(3, 3, 5, padding=2)

    def forward(self, x):
        return torch.cond(x.sum() > -1e9, lambda y: self.a(y), lambda y: self.b(y), (x,))


class While(Conv):
    calls = 3

    def forward(self, x):
        return while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, self.a(y)), (torch.tensor(0), x))[1]


class Map(Conv):
    calls = 2

    def forward(self, x):
        return map_over(lambda y: self.a(y), x.unsqueeze(1))


class Scan(Conv):
    calls = (
        2 if TorchVersion(torch.__version__) >= "2.11" else 3
    )  # torch 2.10 runs the function once more, to see what it gives

    def forward(self, x):
        def step(carry, y):
            y = self.a(y.unsqueeze(0))[0]
            return carry + y, y + 0

        return scan(step, torch.zeros_like(x[0]), x)[1]


class AssociativeScan(Conv):
    def forward(self, x):
        return associative_scan(lambda a, b: a + b, self.a(x), 0, combine_mode="generic")


class Attention(nn.Module):
    calls = 1

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 16, 3, padding=1)

    def forward(self, x):
        q = self.a(x).flatten(2).transpose(1, 2).unsqueeze(1)
        return flex_attention(q, q, q)


CONTROL_FLOW = [Cond, While, Map, Scan, AssociativeScan, Attention]
UNTRAINED = [name for name in VERBS if "train" not in name]


@pytest.mark.parametrize("make", CONTROL_FLOW)
@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_control_flow_runs_afterwards_as_before(make):
    model = make().eval()
    with torch.no_grad():
        wanted = model(X)
    for name in UNTRAINED:
        assert_left_alone(model, VERBS[name], X)
        with torch.no_grad():
            assert torch.equal(model(X), wanted), name


@pytest.mark.parametrize("make", CONTROL_FLOW)
@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_control_flow_is_seen_and_converted(make):
    model = make().eval()
    conversion = surgeon.convert(model, X)
    calls = {site.path: site.calls for site in conversion.plan.sites}
    assert calls == {"a": make.calls} | ({"b": 0} if make is Cond else {})
    assert conversion.converted == 1
    assert conversion.equivalence.bit_equal
    with torch.no_grad():
        assert torch.equal(conversion.model(X), model(X))  # compiled, as the user runs it


def test_training_step_of_a_branch_is_timed():
    found = surgeon.profile(Cond(), X, timing=Timing(budget_s=0.02, training=True, per_layer=False)).training
    assert found.saved_bytes > 0
    assert found.peak_memory_bytes is None  # as Python, the branch has no gradient
