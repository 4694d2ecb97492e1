"""Models timed under settings: what is run, what is recorded, and what is left behind."""

import time

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.errors import ModelError, UsageError
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.profiling.timing.time_models import time_models
from saconv_surgeon.records import Timing
from tests import nets
from tests.profiling.timing.timed_models import CPU, QUICK, Watching, X


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


def test_a_batch_beyond_all_memory_says_so():
    with pytest.raises(UsageError, match="a batch of 99999999999 asks for more than there is memory for"):
        timed(nets.chain(), batches=(99999999999,))


@pytest.mark.gpu
@pytest.mark.parametrize("settings", [{"compiled": True}, {"autocast": "bfloat16"}, {"autocast": "float16"}])
def test_cuda_settings(settings):
    pair = (nets.chain().cuda(), nets.chain().cuda())
    found = time_models(pair, Inputs.of(X.cuda()), torch.device("cuda"), Timing(budget_s=0.5, **settings))
    assert found.ratios[0].verdict in ("same", "inconclusive")
