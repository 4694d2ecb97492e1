"""Timing with a clock that the test turns: verdicts that must come out, and the order of the calls."""

import numpy as np
import pytest
import torch

from saconv_surgeon.profiling.latency import Samples, latency_of, measure
from saconv_surgeon.profiling.verdicts import ratio_of

CPU = torch.device("cpu")


class Clock:
    """Time passes only when a call spends it."""

    def __init__(self):
        self.now, self.order = 0.0, []

    def __call__(self):
        return self.now

    def spending(self, name, seconds):
        def call():
            self.order.append(name)
            self.now += seconds() if callable(seconds) else seconds

        return [call]


def test_calls_alternate_and_the_order_turns():
    clock = Clock()
    calls = [clock.spending("A", 0.1), clock.spending("B", 0.2)]
    samples = measure(calls, CPU, budget_s=3.0, warmup_s=0.0, min_warmup=1, clock=clock)
    assert "".join(clock.order[2:10]) == "ABBAABBA"
    assert list(samples[0].totals) == pytest.approx([0.1] * 10)
    assert list(samples[1].totals) == pytest.approx([0.2] * 10)


def test_warm_up_is_not_measured():
    clock, first = Clock(), iter([5.0])
    call = clock.spending("A", lambda: next(first, 0.01))
    samples = measure([call], CPU, budget_s=0.5, warmup_s=0.0, min_warmup=2, clock=clock)
    assert max(samples[0].totals) < 0.02


def test_slow_calls_run_at_least_three_times_and_fast_ones_fill_the_budget():
    for seconds, least, most in ((10.0, 3, 3), (0.001, 400, 600)):
        clock = Clock()
        runs = measure([clock.spending("A", seconds)], CPU, budget_s=0.5, warmup_s=0.0, min_warmup=1, clock=clock)[0]
        assert least <= len(runs.totals) <= most


def test_progress_grows_to_the_end():
    clock, seen = Clock(), []
    measure([clock.spending("A", 0.1)], CPU, budget_s=1.0, warmup_s=0, min_warmup=1, clock=clock, on_run=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_latency_figures():
    found = latency_of(Samples((tuple(0.01 * i for i in range(1, 12)),), warmup_n=3), CPU)
    assert (found.median_s, found.min_s, found.n) == (pytest.approx(0.06), pytest.approx(0.01), 11)
    assert found.p90_s == pytest.approx(0.10)
    assert found.iqr_s == pytest.approx(0.05)
    assert (found.device, found.clock, found.warmup_n) == ("cpu", "wall clock", 3)


def pairs(factor, noise, n=80, seed=0, drift=0.0):
    """Two models under the same slow drift, each sample with its own noise."""
    random = np.random.default_rng(seed)
    slow = 1 + drift * np.sin(np.arange(n) / 9)
    a = slow * np.exp(random.normal(0, noise, n))
    return a, factor * slow * np.exp(random.normal(0, noise, n))


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.0, "same"), (1.2, "slower"), (0.8, "faster"), (1.05, "slower"), (0.95, "faster")]
)
def test_verdicts_under_noise_and_drift(factor, verdict):
    found = ratio_of(*pairs(factor, noise=0.02, drift=0.3))
    assert found.verdict == verdict
    assert found.low <= factor <= found.high or abs(found.median - factor) < 0.01


def test_noise_too_loud_for_a_verdict():
    assert ratio_of(*pairs(1.1, noise=0.5, n=12)).verdict == "inconclusive"


def test_identical_models_are_hardly_ever_called_different():
    verdicts = [ratio_of(*pairs(1.0, noise=0.05, seed=seed)).verdict for seed in range(100)]
    assert sum(v in ("slower", "faster") for v in verdicts) <= 2
