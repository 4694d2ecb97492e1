"""Prices of candidates. A clock that shows multiply-accumulates makes times exact; counts are worked out by hand."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.planning import prices as room
from saconv_surgeon.planning.candidates import candidates_of_targets, offer
from saconv_surgeon.planning.layer_inputs import layer_calls
from saconv_surgeon.planning.prices import Wanted, price_candidates
from saconv_surgeon.planning.variants import Variants
from saconv_surgeon.profiling.timing.alternating_runs import Samples

X = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))


class Twice(nn.Module):
    """``a`` and ``b`` are alike, each with a norm; ``c`` is called twice, on maps of different size, without a norm."""

    def __init__(self):
        super().__init__()
        self.a, self.norm_a = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.b, self.norm_b = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.c = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        x = self.norm_b(self.b(self.norm_a(self.a(x)).relu())).relu()
        return self.c(self.c(x)[..., ::2, ::2])


@pytest.fixture
def mac_clock(monkeypatch):
    """Each run takes as many seconds as it has multiply-accumulates; ``made`` holds how many runs each measurement had."""
    made = []

    def measure(runs, device, **settings):
        made.append(len(runs))
        found = []
        for run in runs:
            if run.prepare is not None:
                run.prepare()
            with FlopCounterMode(display=False) as counter:
                for stage in run.stages:
                    stage()
            found.append(Samples(tuple((counter.get_total_flops() / 2,) for _ in run.stages)))
        return found

    monkeypatch.setattr(room, "measure", measure)
    monkeypatch.setattr(room, "undisturbed", lambda samples, meters, device: [_array(s) for s in samples])
    return made


def _array(samples):
    import numpy as np

    return np.array(samples.totals)


def priced(model=None, targets=("saconv",), x=X, **wanted):
    model = (model or Twice()).eval()
    inputs = Inputs.of(x)
    variants = Variants(model, inputs, offer(model, inputs, candidates_of_targets(targets)))
    return price_candidates(variants, Wanted(**wanted), budget_s=0.1)


CONV = 2 * 4 * 4 * 9 * 16 * 16
CONTEXTS = 2 * 2 * 4 * 4


def test_parameters_and_macs_by_hand(mac_clock):
    found = priced()["a"]
    assert {name: p.parameters for name, p in found.items()} == {
        "contexts": 2 * (16 + 4),
        "branches": 4 * 4 * 9 + 5,
        "all": 2 * (16 + 4) + 4 * 4 * 9 + 5,
    }
    assert found["contexts"].macs == CONTEXTS
    assert found["branches"].macs == CONV + 2 * 4 * 256


def test_latency_is_of_the_folded_layer_and_sums_over_calls(mac_clock):
    found = priced()
    switch = 2 * 4 * 256  # a 1×1 convolution to one channel
    assert found["a"]["all"].latency_s >= CONV + switch
    assert found["a"]["all"].latency_s == pytest.approx(CONV + switch, rel=0.1)
    assert 0 <= found["a"]["contexts"].latency_s <= CONTEXTS
    whole, quarter = found["c"]["branches"].latency_s, found["a"]["branches"].latency_s
    assert whole == pytest.approx(1.25 * quarter, rel=0.05)  # once on the whole map, once on a quarter of it


def test_layers_that_are_alike_are_timed_once(mac_clock):
    found = priced()
    assert found["a"] == found["b"]
    # a and b; c on two sizes: the plain convolution and three candidates each, and for a and b the norm that goes in too
    assert sorted(mac_clock) == [4, 4, 5]


def test_what_is_not_wanted_is_not_timed(mac_clock):
    price = priced()["a"]["all"]
    assert (price.trained_latency_s, price.step_s, price.saved_bytes) == (None, None, None)


def test_trained_forms(mac_clock):
    price = priced(trained_latency=True, step=True, saved_bytes=True)["a"]["all"]
    assert price.trained_latency_s >= CONV
    assert price.step_s >= 2 * CONV  # the backward of the wide branch too
    assert price.saved_bytes > 0


def test_saved_bytes_of_contexts_are_few(mac_clock):
    found = priced(saved_bytes=True)["c"]
    assert found["contexts"].saved_bytes < found["all"].saved_bytes


def test_the_model_is_left_as_it_was(mac_clock):
    model = Twice().train()
    before = copy.deepcopy(model.state_dict())
    inputs = Inputs.of(X)
    variants = Variants(model, inputs, offer(model, inputs, candidates_of_targets(["saconv", "aws"])))
    seen = []
    price_candidates(variants, Wanted(True, True, True), budget_s=0.1, on_whole=seen.append)
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert [whole.candidate.name for whole in seen] == ["contexts", "branches", "all", "aws"]
    assert all(set(whole.names) == {"a", "b", "c"} for whole in seen)


def test_standardised_kernels_cost_nothing_once_folded(mac_clock):
    found = priced(targets=("aws",))["a"]["aws"]
    assert (found.parameters, found.macs, found.latency_s) == (0, 0, 0.0)


def test_a_layer_that_cannot_be_run_alone_has_no_latency(mac_clock):
    class Needy(nn.Module):
        """Its convolution has a hook that wants to be inside the model's forward."""

        def __init__(self):
            super().__init__()
            self.conv, self.inside = nn.Conv2d(4, 4, 3, padding=1), False
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x):
            self.inside = True
            try:
                return self.norm(self.conv(x))
            finally:
                self.inside = False

    model = Needy()
    model.conv.register_forward_pre_hook(lambda conv, args: None if model.inside else 1 / 0)
    found = priced(model)
    assert all(price.latency_s is None for names in found.values() for price in names.values())


@pytest.mark.parametrize(
    ("change", "differing"),
    [
        (lambda x: x.contiguous(memory_format=torch.channels_last), "strides"),
        (lambda x: x.double(), "dtype"),
        (lambda x: x[:1], "shape"),
    ],
)
def test_layers_are_timed_on_what_they_see(change, differing):
    model = Twice().eval()
    x = change(X)
    model.to(x.dtype)
    offered = offer(model, Inputs.of(x), candidates_of_targets(["saconv"]))
    calls = layer_calls(model, Inputs.of(x), offered.plan.sites[:1])
    (kind,) = calls.calls["a"]
    assert getattr(kind, differing) == {"strides": x.stride(), "dtype": x.dtype, "shape": tuple(x.shape)}[differing]
    assert torch.equal(calls.examples[kind], x)
    assert calls.examples[kind].stride() == x.stride()


def test_autocast_inside_the_model_is_seen():
    class Inside(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3)

        def forward(self, x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return self.conv(x)

    model = Inside().eval()
    offered = offer(model, Inputs.of(X), candidates_of_targets(["saconv"]))
    (kind,) = layer_calls(model, Inputs.of(X), offered.plan.sites).calls["conv"]
    assert kind.autocast is torch.bfloat16
