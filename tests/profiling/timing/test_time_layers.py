"""How long each layer takes."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.profiling.timing import time_layers as module
from saconv_surgeon.profiling.timing.time_layers import time_layers
from saconv_surgeon.records import Timing
from tests import nets
from tests.profiling.timing.timed_models import CPU, QUICK, Watching, X


class Clock:
    """A second is what a part says that it takes, however busy the machine is; each look at it costs a microsecond."""

    now = 0.0

    def perf_counter(self):
        self.now += 1e-6
        return self.now


CLOCK = Clock()


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=CLOCK.perf_counter))


class Sleep(nn.Module):
    """Takes its time, and its child's."""

    def __init__(self, seconds, child=None):
        super().__init__()
        self.seconds, self.child = seconds, child

    def forward(self, x):
        CLOCK.now += self.seconds
        return x if self.child is None else self.child(x)


def test_layer_times_are_exclusive_and_add_up_over_calls(clock):
    twice = Sleep(0.01)
    model = nn.Sequential(Sleep(0.03, child=Sleep(0.02)), twice, twice)
    found = time_layers(model, Inputs.of(X), CPU, Timing(budget_s=QUICK))
    assert found == pytest.approx({"": 0, "0": 0.03, "0.child": 0.02, "1": 0.02}, abs=1e-4)
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())


def test_converted_layer_is_one_row_and_hooks_go_even_if_forward_raises():
    model = nn.Sequential(surgeon.SAConv2d(3, 4, 3), nn.ReLU())
    assert set(time_layers(model, Inputs.of(X), CPU, Timing(budget_s=QUICK))) == {"", "0", "1"}
    calls = iter(range(3))

    def fails_at_the_third(x):
        if next(calls, 9) >= 2:
            raise ValueError("enough")
        return x

    model[1].forward = fails_at_the_third
    with pytest.raises(ValueError, match="enough"):
        time_layers(model, Inputs.of(X), CPU, Timing(budget_s=QUICK))
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())


def test_layer_times_follow_the_settings_and_survive_hooks_that_raise():
    model = Watching()
    time_layers(model, Inputs.of(X), CPU, Timing(budget_s=QUICK, threads=2, autocast="bfloat16"))
    assert {(dtype, threads) for _, dtype, threads, *_ in model.seen} == {(torch.bfloat16, 2)}

    class Recovers(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.ReLU(), nn.Sigmoid()
            self.first.register_forward_pre_hook(lambda m, args: 1 / 0)

        def forward(self, x):
            try:
                return self.first(x)
            except ZeroDivisionError:
                return self.second(x)

    assert "second" in time_layers(Recovers(), Inputs.of(X), CPU, Timing(budget_s=QUICK))


def test_profile_has_the_times_in_its_rows_unless_told_not_to():
    timing = Timing(budget_s=QUICK)
    rows = surgeon.profile(nets.chain(), X, timing=timing).layers
    assert all(row.latency_s > 0 for row in rows)
    without = surgeon.profile(nets.chain(), X, timing=Timing(budget_s=QUICK, per_layer=False))
    assert all(row.latency_s is None for row in without.layers)
    assert surgeon.profile(nets.chain(), X, timing=None).latency is None


@pytest.mark.gpu
def test_cuda_layers_and_training_and_memory():
    device = torch.device("cuda")
    model, x = (
        nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3)).to(device),
        torch.randn(8, 3, 64, 64, device=device),
    )
    found = surgeon.profile(model, x, timing=Timing(budget_s=0.5, training=True, batches=(1, 8)))
    assert found.latency.clock == "CUDA events"
    assert found.latency.enqueue_s > 0
    assert found.peak_memory_source == "CUDA allocator"
    assert found.peak_memory_bytes > found.parameter_bytes
    assert found.training.peak_memory_bytes > found.training.saved_bytes
    rows = {row.path: row.latency_s for row in found.layers}
    assert rows["2"] > rows["1"] > 0
    assert found.environment["driver"] is None or "." in found.environment["driver"]


class MakesOne(nn.Module):
    """Makes a child in its first forward."""

    def forward(self, x):
        if not hasattr(self, "late"):
            self.late = Sleep(0.02)
        return self.late(x)


class Replaces(nn.Module):
    """Puts a new child in the place of the old one in every forward."""

    def __init__(self):
        super().__init__()
        self.late = nn.ReLU()

    def forward(self, x):
        self.late = Sleep(0.02)
        return self.late(x)


class Wraps(nn.Module):
    """Puts its child into a new one in its first forward."""

    def __init__(self):
        super().__init__()
        self.late = Sleep(0.01)

    def forward(self, x):
        if self.late.child is None:
            self.late = Sleep(0.02, child=self.late)
        return self.late(x)


@pytest.mark.parametrize("kind", [MakesOne, Replaces, Wraps])
def test_children_that_forward_makes_count_under_their_caller(kind, clock):
    model = nn.Sequential(nn.Conv2d(3, 3, 1), kind())
    found = time_layers(model, Inputs.of(X), CPU, Timing(budget_s=QUICK))
    assert found["1"] == pytest.approx(0.02, abs=1e-4)
    assert "1.late" not in found or kind is Wraps
    assert surgeon.profile(model, X, timing=Timing(budget_s=QUICK)).layers
    assert hasattr(model[1], "late") is (kind is not MakesOne)
