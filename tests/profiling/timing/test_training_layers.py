"""What each layer takes in a training step."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import saconv_surgeon as surgeon
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.profiling.timing import time_layers, training_layers
from saconv_surgeon.profiling.timing.training_layers import layers_in_training
from saconv_surgeon.profiling.timing.training_step import saved_bytes
from saconv_surgeon.records import Timing
from sample_models import tiny_resnet
from tests.profiling.timing.timed_models import CPU

N, C, K, H = 2, 3, 4, 8
X = torch.randn(N, C, H, H)
QUICK = Timing(budget_s=0.02, training=True)


class Clock:
    """Advances by what a backward says that it takes, and by a microsecond for each look at it."""

    now = 0.0

    def perf_counter(self):
        self.now += 1e-6
        return self.now


CLOCK = Clock()


@pytest.fixture
def clock(monkeypatch):
    for module in (time_layers, training_layers):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=CLOCK.perf_counter))


class Slow(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, seconds):
        ctx.seconds = seconds
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        CLOCK.now += ctx.seconds
        return gradient, None


class SlowBackward(nn.Module):
    """Its backward takes its time, after its child's."""

    def __init__(self, seconds, child=None):
        super().__init__()
        self.seconds, self.child = seconds, child
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        x = Slow.apply(x * self.scale, self.seconds)
        return x if self.child is None else Slow.apply(self.child(x), self.seconds)


def test_backward_is_exclusive_and_adds_up_over_calls(clock):
    twice = SlowBackward(0.01)
    model = nn.Sequential(SlowBackward(0.03, child=SlowBackward(0.02)), twice, twice, nn.ReLU(inplace=True))
    found = layers_in_training(model, Inputs.of(X), CPU, QUICK)
    assert found[""].backward_s is None  # it does nothing itself
    seconds = {path: each.backward_s for path, each in found.items() if path}
    expected = {"0": 0.06, "0.child": 0.02, "1": 0.02, "3": 0}
    assert seconds == pytest.approx(expected, abs=1e-4)


def test_saved_memory_by_hand_and_each_piece_once():
    """A convolution keeps what it read, a norm its input and two statistics per channel, ReLU what it wrote."""
    model = nn.Sequential(nn.Conv2d(C, K, 3, padding=1), nn.BatchNorm2d(K), nn.ReLU(), nn.Conv2d(K, K, 1))
    found = layers_in_training(model, Inputs.of(X), CPU, QUICK)
    x, y = 4 * N * C * H * H, 4 * N * K * H * H
    assert {path: each.saved_bytes for path, each in found.items()} == {
        "": 0,
        "0": x,
        "1": y + 4 * 2 * K,
        "2": y,
        "3": 0,  # what it reads is what ReLU keeps
    }


@pytest.mark.parametrize("converted", [False, True])
def test_rows_add_up_to_what_the_model_keeps(converted):
    model, x = tiny_resnet.build(), tiny_resnet.example_inputs()
    if converted:
        model = surgeon.convert(model, x).model
    found = surgeon.profile(model, x, timing=QUICK)
    assert found.training.layers_note is None
    assert found.training.saved_bytes > 0
    assert sum(row.saved_bytes or 0 for row in found.layers) == found.training.saved_bytes
    with torch.enable_grad():
        assert saved_bytes(model.train(), Inputs.of(x)) == found.training.saved_bytes
    assert all(row.backward_s > 0 for row in found.layers if "Conv" in row.type)
    assert all(".pre_context" not in row.path for row in found.layers)


class OnlyInTraining(nn.Module):
    """A head and a dropout that inference does not run."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(C, K, 3, padding=1)
        self.aux = nn.Sequential(nn.Conv2d(K, K, 3), nn.ReLU(), nn.Conv2d(K, 2, 1))

    def forward(self, x):
        y = self.conv(x)
        return (F.dropout(y, 0.5), self.aux(y)) if self.training else y


class Checkpointed(nn.Module):
    def __init__(self, use_reentrant):
        super().__init__()
        self.a, self.b, self.use_reentrant = nn.Conv2d(C, K, 3), nn.Conv2d(K, K, 3), use_reentrant

    def forward(self, x):
        return checkpoint(self.b, self.a(x), use_reentrant=self.use_reentrant)


@pytest.mark.parametrize(
    "model", [OnlyInTraining(), Checkpointed(True), Checkpointed(False)], ids=["auxiliary", "reentrant", "checkpoint"]
)
@pytest.mark.filterwarnings("default:None of the inputs")
def test_what_has_no_row_in_inference_gets_one(model):
    found = surgeon.profile(model, X, timing=QUICK)
    assert sum(row.saved_bytes or 0 for row in found.layers) == found.training.saved_bytes
    assert sum(row.macs for row in found.layers) == found.macs
    rows = {row.path: row for row in found.layers}
    if isinstance(model, OnlyInTraining):
        assert rows["aux.1"].saved_bytes > 0
        assert rows[""].type == "OnlyInTraining"
    elif model.use_reentrant:
        assert rows["b"].backward_s is None  # made anew in the backward of its caller
        assert rows[""].backward_s > rows["a"].backward_s


def test_leaves_the_model_as_it_was():
    model = nn.Sequential(nn.Conv2d(C, K, 3), nn.BatchNorm2d(K), nn.Dropout()).eval()
    model[0].weight.grad = torch.full_like(model[0].weight, 7.0)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    layers_in_training(model, Inputs.of(X), CPU, QUICK)
    assert not model.training
    assert (model[0].weight.grad == 7).all()
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())


def test_what_cannot_be_followed_is_said(monkeypatch):
    def fails(*args):
        raise RuntimeError("no such hook")

    monkeypatch.setattr("saconv_surgeon.profiling.profile.layers_in_training", fails)
    found = surgeon.profile(nn.Conv2d(C, K, 3), X, timing=QUICK)
    assert "no such hook" in found.training.layers_note
    assert found.training.backward_s > 0
    assert all(row.backward_s is None for row in found.layers)
