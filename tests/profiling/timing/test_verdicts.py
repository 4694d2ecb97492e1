"""Verdicts that must come out, on series made with known ratios, noise and drift."""

import numpy as np
import pytest

from saconv_surgeon.profiling.timing.verdicts import CRITICAL, SMALLEST_DIFFERENCE, WIDEST, ratio_of, verdict
from saconv_surgeon.records import to_dict


def pairs(factor, noise, n=80, seed=0, drift=0.0):
    """Two models under the same slow drift, each sample with its own noise."""
    random = np.random.default_rng(seed)
    slow = 1 + drift * np.sin(np.arange(n) / 9)
    a = slow * np.exp(random.normal(0, noise, n))
    return a, factor * slow * np.exp(random.normal(0, noise, n))


@pytest.mark.parametrize(
    ("factor", "wanted"), [(1.0, "same"), (1.2, "slower"), (0.8, "faster"), (1.05, "slower"), (0.95, "faster")]
)
def test_verdicts_under_noise_and_drift(factor, wanted):
    found = ratio_of(*pairs(factor, noise=0.02, drift=0.3))
    assert found.verdict == wanted
    assert found.low <= factor <= found.high or abs(found.median - factor) < 0.01
    assert found.noise_floor == max(abs(found.noise_low - 1), abs(found.noise_high - 1))


def test_noise_too_loud_for_a_verdict():
    assert ratio_of(*pairs(1.1, noise=0.5, n=12)).verdict == "inconclusive"


@pytest.mark.slow
@pytest.mark.parametrize(
    "noise", [pytest.param(n, marks=[pytest.mark.slow] * (n != 0.02)) for n in (0.005, 0.02, 0.05, 0.1)]
)
def test_shares_of_right_verdicts(noise):
    equal = [ratio_of(*pairs(1.0, noise=noise, n=200, seed=seed)).verdict for seed in range(100)]
    slower = [ratio_of(*pairs(1.05, noise=noise, n=200, seed=seed)).verdict for seed in range(100)]
    assert equal.count("same") >= 98
    assert slower.count("slower") >= (95 if noise < 0.1 else 50)
    assert equal.count("faster") + equal.count("slower") <= 1
    assert "faster" not in slower


@pytest.mark.parametrize(
    ("median", "low", "high", "floor", "wanted"),
    [
        (1.03, 1.01, 1.05, 0.0, "slower"),
        (1.03, 1.01, 1.05, 0.04, "same"),  # real, but within the noise
        (1.03, 1.01, 1.05, 0.025, "same"),  # and not beyond it by a quarter
        (1.03, 1.01, 1.05, 0.0239, "slower"),
        (1.03, 0.99, 1.05, 0.0, "inconclusive"),  # beyond the noise, but perhaps not real
        (0.97, 0.95, 0.99, 0.0, "faster"),
        (1 + SMALLEST_DIFFERENCE - 0.001, 1.001, 1.02, 0.0, "same"),
        (1.0, 0.99, 1.01, WIDEST + 0.01, "inconclusive"),
        (1.0, 1 - WIDEST - 0.01, 1.01, 0.0, "inconclusive"),
        (1.5, 1.4, 1.6, 0.3, "slower"),
        (1.2, 1.1, 1.3, 0.3, "inconclusive"),
        (1.05, 1.01, 1.09, 0.08, "same"),
        (1.05, 1.01, 1.09, 0.09, "inconclusive"),  # too loud to call anything the same
    ],
)
def test_the_rule(median, low, high, floor, wanted):
    assert verdict(median, low, high, floor) == wanted


@pytest.mark.parametrize("n", [3, 4, 6, 9])
def test_few_pairs_need_a_plain_difference(n):
    equal = [ratio_of(*pairs(1.0, noise=0.05, n=n, seed=seed)).verdict for seed in range(300)]
    assert set(equal) == {"inconclusive"}
    assert ratio_of(*pairs(2.0, noise=0.05, n=n)).verdict == "slower"
    assert ratio_of(*pairs(0.5, noise=0.05, n=n)).verdict == "faster"


def test_a_single_pair_gives_a_ratio_and_no_error():
    assert ratio_of([1.0, 1.0], [1.5, 1.5]).median == 1.5


@pytest.mark.parametrize("noise", [0.05, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("n", range(1, 10))
def test_few_pairs_of_equal_models_are_not_called_different(n, noise):
    found = [ratio_of(*pairs(1.0, noise=noise, n=n, seed=seed)) for seed in range(400)]
    claims = [r for r in found if r.verdict != "inconclusive"]
    assert len(claims) <= 4  # one in a thousand is meant; five of 400 would be one in eighty
    assert not [r for r in claims if abs(r.median - 1) <= r.noise_floor]


def test_few_pairs_have_a_range_and_no_interval():
    a, b = [1.0, 1.1, 0.9, 1.0], [2.0, 2.4, 1.9, 2.1]
    few = ratio_of(a, b)
    assert few.low == min(y / x for x, y in zip(a, b))
    assert few.high == max(y / x for x, y in zip(a, b))
    assert (few.noise_low, few.noise_high) == (0.9 / 1.1, 1.0 / 0.9)
    assert few.coverage is None
    assert to_dict(few)["coverage"] is None
    assert ratio_of(*pairs(1.0, 0.05, n=9)).coverage is None
    many = ratio_of(*pairs(1.0, 0.05, n=10))
    assert to_dict(many)["coverage"] == 0.95
    assert many.high < max(y / x for x, y in zip(*pairs(1.0, 0.05, n=10)))


@pytest.mark.parametrize(
    ("a", "b", "why"),
    [
        ([1.0, 1.0, 1.0], [1.3, 1.3, 1.09], "one pair shows less than the widest noise"),
        ([1.0, 1.6, 1.0], [1.5, 2.4, 1.5], "the median lies within the noise floor"),
        ([1.0, 1.2, 0.8, 1.1], [1.5, 1.4, 1.2, 2.4], "the series overlap like those of equal models"),
        ([1.0, 1.0], [3.0, 3.0], "two pairs say nothing"),
    ],
)
def test_each_ground_against_a_difference_of_few(a, b, why):
    assert ratio_of(a, b).verdict == "inconclusive", why
    assert ratio_of(b, a).verdict == "inconclusive", why


def test_critical_values_are_those_of_student():
    """By the area under the density of t: beyond the value, on both sides, is one in a thousand."""
    for n, t in CRITICAL.items():
        df = 2 * (n - 1)
        x = np.linspace(t, t + 400, 4_000_001)
        density = (1 + x**2 / df) ** (-(df + 1) / 2)
        inside = np.linspace(0, t, 400_001)
        beyond = area(density, x)
        total = area((1 + inside**2 / df) ** (-(df + 1) / 2), inside) + beyond
        assert abs(beyond / total - 0.001) < 1e-5


def area(y, x):
    return float(((y[1:] + y[:-1]) / 2 * np.diff(x)).sum())
