"""Models timed under settings: what is run, what is recorded, and what is left behind."""

import time

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.errors import ModelError, UsageError
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.profiling.timing.time_layers import time_layers
from saconv_surgeon.profiling.timing.time_models import time_models
from saconv_surgeon.records import Timing
from tests import nets

CPU = torch.device("cpu")
QUICK = 0.05


class Watching(nn.Module):
    """Remembers how it was called."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.seen = seen = set()
        self.note = seen.add  # goes to the same place from a copy

    def forward(self, x):
        y = self.norm(self.conv(x))
        self.note((tuple(x.shape), y.dtype, torch.get_num_threads(), self.training, torch.is_grad_enabled()))
        return y


X = torch.randn(2, 3, 8, 8)


def timed(model, inputs=X, **settings):
    return time_models([model], Inputs.of(inputs), CPU, Timing(budget_s=QUICK, **settings)).latencies[0]


def test_plain_run_is_in_eval_mode_without_gradients_and_described():
    model = Watching()
    (found,) = timed(model)
    assert model.seen == {((2, 3, 8, 8), torch.float32, torch.get_num_threads(), False, False)}
    assert model.training
    assert (found.batch, found.dtype, found.autocast, found.compiled, found.compile_s) == (
        2,
        "float32",
        None,
        False,
        None,
    )
    assert found.threads == torch.get_num_threads()
    assert not found.channels_last


def test_batches_are_run_and_the_budget_is_shared():
    model = Watching()
    start = time.perf_counter()
    found = timed(model, batches=(1, 5))
    assert {shape for shape, *_ in model.seen} == {(1, 3, 8, 8), (5, 3, 8, 8)}
    assert [latency.batch for latency in found] == [1, 5]
    assert time.perf_counter() - start < 3


def test_autocast_and_channels_last_and_threads():
    model = Watching().to(memory_format=torch.channels_last)
    before = torch.get_num_threads()
    (found,) = timed(model, autocast="bfloat16", threads=2)
    assert {(dtype, threads) for _, dtype, threads, *_ in model.seen} == {(torch.bfloat16, 2)}
    assert (found.autocast, found.threads, found.channels_last) == ("bfloat16", 2, True)
    assert torch.get_num_threads() == before


def test_two_models_have_a_ratio_for_each_batch():
    pair = (nets.chain(), nets.chain())
    found = time_models(pair, Inputs.of(X), CPU, Timing(budget_s=QUICK, batches=(1, 2)))
    assert [ratio.batch for ratio in found.ratios] == [1, 2]
    assert [[t.batch for t in latencies] for latencies in found.latencies] == [[1, 2], [1, 2]]


def test_compiled_model_runs_and_leaves_no_mark():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    before = dict(vars(model))
    (found,) = timed(model, torch.randn(2, 8), compiled=True)
    assert found.compiled
    assert found.compile_s > found.median_s
    assert vars(model) == before


def test_model_that_cannot_be_compiled_says_so(monkeypatch):
    def broken(function):
        def call(*args, **kwargs):
            raise RuntimeError("no compiler here")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(ModelError, match=r"torch.compile cannot compile this model \(RuntimeError: no compiler here\)"):
        timed(nets.chain(), compiled=True)


def test_model_of_one_batch_size_says_so():
    class Fixed(nn.Module):
        def forward(self, x):
            return x.reshape(2, -1)

    with pytest.raises(ModelError, match=r"cannot be run with a batch of 3 .*leave that size out of --batch"):
        timed(Fixed(), torch.randn(2, 3, 5, 5), batches=(3,))


def test_users_own_exception_goes_through():
    model, calls = nets.chain(), iter(range(4))
    model.forward = lambda x: x / 0 if next(calls) < 3 else 1 / 0
    with pytest.raises(surgeon.UserCodeError, match="raised ZeroDivisionError when it was run again") as raised:
        timed(model)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


# ------------------------------------------------------------------ nothing stays


class InPlace(nn.Module):
    """Writes to its input, grows lists, keeps what it sees."""

    def __init__(self):
        super().__init__()
        self.conv, self.log, self.last = nn.Conv2d(3, 3, 3, padding=1), [], None

    def forward(self, x):
        x.mul_(1.1)
        self.log.append(1)
        self.last = self.conv(x)
        return self.last


def test_inputs_and_attributes_stay_and_every_run_sees_the_same_input():
    seen = []

    class Looks(InPlace):
        def forward(self, x):
            seen.append(float(x.max()))
            return super().forward(x)

    model, x = Looks(), torch.ones(1, 3, 6, 6)
    found = surgeon.profile(model, x, timing=Timing(budget_s=QUICK, training=True))
    assert found.latency.n >= 3
    assert found.training.saved_bytes > 0
    assert torch.equal(x, torch.ones(1, 3, 6, 6))
    assert set(seen) == {1.0}
    assert (model.log, model.last) == ([], None)
    assert all(not m._forward_hooks for m in model.modules())


def test_containers_of_inputs_are_made_anew_for_every_run():
    class Pops(nn.Module):
        def forward(self, batch):
            return batch.pop("x") + len(batch)

    given = {"x": torch.ones(2, 3), "y": torch.ones(2)}
    assert surgeon.profile(Pops(), (given,), timing=Timing(budget_s=QUICK)).latency.n >= 3
    assert set(given) == {"x", "y"}


def test_inputs_under_inference_mode_are_timed():
    with torch.inference_mode():
        assert timed(InPlace(), torch.ones(1, 3, 6, 6))[0].n >= 3


# ------------------------------------------------------------------ batches of inputs


@pytest.mark.parametrize(
    ("given", "batch", "shapes"),
    [
        (torch.randn(2, 3, 8, 8), 2, [(5, 3, 8, 8)]),
        ((torch.randn(2, 3, 8, 8), torch.randn(2, 7), torch.tensor(3.0)), 2, [(5, 3, 8, 8), (5, 7), ()]),
        ({"pixels": torch.randn(1, 3, 8, 8), "ids": torch.zeros(1, 4, dtype=torch.int64)}, 1, [(5, 3, 8, 8), (5, 4)]),
        ((torch.randn(2, 3, 8, 8), torch.randn(9, 4)), 2, [(5, 3, 8, 8), (9, 4)]),
        ([torch.randn(3, 8, 9), torch.randn(3, 6, 6)], 2, [(3, 8, 9), (3, 6, 6), (3, 8, 9), (3, 6, 6), (3, 8, 9)]),
        (torch.zeros(4, dtype=torch.int64), 4, [(5,)]),
        ((torch.zeros(2, 5, dtype=torch.int64), torch.randn(5, 4)), 2, [(5, 5), (5, 4)]),
    ],
    ids=["images", "several", "keywords", "others", "list", "indices", "indices and a table"],
)
def test_batches_of_inputs(given, batch, shapes):
    inputs = Inputs.of(given)
    assert inputs.batch == batch
    assert list(inputs.with_batch(5).shapes) == shapes
    assert inputs.with_batch(5).batch == 5
    assert list(inputs.with_batch(batch).shapes) == list(inputs.shapes)


def test_batches_repeat_the_samples_and_keep_the_layout():
    x = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    (found,) = Inputs.of(x).with_batch(3).tensors
    assert torch.equal(found, x[[0, 1, 0]])
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_a_batch_beyond_all_memory_says_so():
    with pytest.raises(UsageError, match="a batch of 99999999999 asks for more than there is memory for"):
        timed(nets.chain(), batches=(99999999999,))


def test_inputs_without_a_batch_say_so():
    with pytest.raises(UsageError, match="no batch to change"):
        Inputs.of(torch.tensor(1.0)).with_batch(2)


# ------------------------------------------------------------------ layers


class Sleep(nn.Module):
    """Takes its time, and its child's."""

    def __init__(self, seconds, child=None):
        super().__init__()
        self.seconds, self.child = seconds, child

    def forward(self, x):
        time.sleep(self.seconds)
        return x if self.child is None else self.child(x)


def test_layer_times_are_exclusive_and_add_up_over_calls():
    twice = Sleep(0.01)
    model = nn.Sequential(Sleep(0.03, child=Sleep(0.02)), twice, twice)
    found = time_layers(model, Inputs.of(X), CPU, Timing(budget_s=QUICK))
    assert set(found) == {"", "0", "0.child", "1"}
    assert 0.03 <= found["0"] < 0.045
    assert 0.02 <= found["0.child"] < 0.03
    assert 0.02 <= found["1"] < 0.035
    assert found[""] < 0.01
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


@pytest.mark.gpu
@pytest.mark.parametrize("settings", [{"compiled": True}, {"autocast": "bfloat16"}, {"autocast": "float16"}])
def test_cuda_settings(settings):
    pair = (nets.chain().cuda(), nets.chain().cuda())
    found = time_models(pair, Inputs.of(X.cuda()), torch.device("cuda"), Timing(budget_s=0.5, **settings))
    assert found.ratios[0].verdict in ("same", "inconclusive")
