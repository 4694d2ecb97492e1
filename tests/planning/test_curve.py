"""Gain against price, by hand."""

import itertools

import pytest

from saconv_surgeon.planning.budgets import parse_budget
from saconv_surgeon.planning.curve import curve
from saconv_surgeon.planning.timed_promise import Priced
from tests.planning.test_choosing import Sum
from tests.planning.test_timed_promise import PRICES, World, alone

GAINS = Sum({path: {"contexts": 1.0, "all": 2.0} for path in PRICES})


def points(*texts, gains=GAINS, chosen=None):
    priced = Priced.of(PRICES, [parse_budget(text) for text in texts], World(alone))
    return curve(priced, gains, chosen)


def test_it_rises_from_nothing_to_everything():
    found = points("latency<1.3x")
    assert (found[0].price, found[0].gain, found[0].layers) == (1.0, 0.0, 0)
    assert (found[-1].gain, found[-1].layers) == (2.0 * len(PRICES), len(PRICES))
    everything = alone("latency", dict.fromkeys(PRICES, "all"))
    assert found[-1].price == pytest.approx(1 + everything / 0.1)
    assert 8 <= len(found) <= 13
    for before, after in itertools.pairwise(found):
        assert after.price > before.price
        assert after.gain > before.gain


def test_contexts_come_first_since_they_gain_more_for_their_price():
    low = points("latency<1.3x")[1]
    assert low.gain == pytest.approx((low.price - 1) * 0.1 / 0.0005, abs=1e-6)  # one for each half millisecond


def test_the_other_budgets_hold():
    found = points("latency<1.3x", "parameters<+20k")
    assert found[-1].gain == len(PRICES)  # contexts everywhere are 20,000 parameters


def test_figures_that_are_counted():
    found = points("parameters<+1M")
    assert found[-1].price == pytest.approx(1 + alone("parameters", dict.fromkeys(PRICES, "all")) / 1e6)


def test_nothing_gains():
    assert len(points("latency<1.3x", gains=Sum({p: dict.fromkeys(n, 0.0) for p, n in PRICES.items()}))) == 1
    assert points() == ()
