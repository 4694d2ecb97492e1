"""The clock for whole models, on models whose cost is known."""

import pytest
import torch
from torch import nn

from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.planning.paired_clock import PairedClock
from saconv_surgeon.profiling.timing.time_models import threads


class Repeats(nn.Module):
    """The same product ``n`` times; ``runs`` counts the runs of this very object."""

    def __init__(self, n):
        super().__init__()
        self.n, self.weight, self.runs = n, nn.Parameter(torch.eye(160)), 0

    def forward(self, x):
        self.runs += 1
        for _ in range(self.n):
            x = x @ self.weight
        return x


X = Inputs.of(torch.eye(160))


def test_twice_the_work_takes_twice_as_long():
    with threads(1):
        pairs = PairedClock(Repeats(20), X, draw_s=0.15).pairs(Repeats(40), "latency", draws=2)
    assert pairs.ratio.median == pytest.approx(2.0, rel=0.25)
    assert len(pairs.before) == len(pairs.after)
    assert pairs.original_s > 0


def test_training_is_forward_and_backward_and_leaves_no_gradients():
    model, variant = Repeats(20), Repeats(40)
    with threads(1):
        ratio = PairedClock(model, X, draw_s=0.15).pairs(variant, "training", draws=1).ratio
    assert ratio.median == pytest.approx(2.0, rel=0.3)
    assert model.weight.grad is None
    assert variant.weight.grad is None
    assert (model.runs, variant.runs) == (0, 0)  # copies were run


def test_draws_end_when_the_ratio_is_not_near_what_matters():
    clock = PairedClock(Repeats(2), X, draw_s=0.03)
    draws = []
    clock._draw = lambda variant, figure, pairs: (
        draws.append(figure),
        pairs.before.extend([1.0] * 20),
        pairs.after.extend([1.1, 1.3] * 10),
    )
    clock.pairs(Repeats(2), "latency", near=lambda ratio: False)
    assert len(draws) == 1
    clock.pairs(Repeats(2), "latency", near=lambda ratio: True)
    assert len(draws) == 1 + 4


def test_the_original_is_timed_once_if_nothing_has_timed_it():
    clock = PairedClock(Repeats(5), X, draw_s=0.03)
    first = clock.original_s("latency")
    assert clock.original_s("latency") == first
    assert set(clock.originals) == {"latency"}
