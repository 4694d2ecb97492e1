"""Sums of layer prices against whole models that are known by construction."""

import pytest

from saconv_surgeon.planning.price_calibration import Calibration, WholeTiming

PRICES = {f"l{i}": {"contexts": 0.001, "all": 0.004 + 0.001 * i} for i in range(8)}


def whole(name, paths, factor, offset, spread=1e-5):
    alone = sum(PRICES[path][name] for path in paths)
    return WholeTiming(dict.fromkeys(paths, name), factor * alone + offset * len(paths), spread)


def test_without_timings_the_sum_is_as_it_is():
    calibration = Calibration(PRICES, 0.1)
    assert calibration.added({"l0": "all", "l1": "contexts"}) == pytest.approx(0.005)
    assert calibration.fitted() == calibration


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("offset", [-0.0004, 0.0, 0.0006])
def test_what_was_timed_is_predicted_and_so_is_a_mix(factor, offset):
    timings = [whole("all", PRICES, factor, offset), whole("contexts", PRICES, 1.2, 0.0)]
    timings.append(whole("all", ["l6", "l7"], factor, offset))
    calibration = Calibration(PRICES, 0.1).with_timings(timings)
    for timing in timings:
        assert calibration.added(timing.chosen) == pytest.approx(timing.added_s, rel=0.02)
    chosen = {"l0": "all", "l5": "all", "l1": "contexts"}
    assert calibration.added(chosen) == pytest.approx(0.013 * factor + 2 * offset + 0.0012, rel=0.1)


def test_a_kind_that_was_not_timed_keeps_its_prices():
    calibration = Calibration(PRICES, 0.1).with_timings([whole("all", PRICES, 2.0, 0.0)])
    assert calibration.price("l3", "contexts") == pytest.approx(0.001, rel=0.01)


def test_factors_are_not_negative_though_the_whole_is_faster():
    """Layers that cost nothing alone, in a model that folding makes faster since norms go."""
    prices = {f"l{i}": {"contexts": 0.0005} for i in range(4)}
    timing = WholeTiming(dict.fromkeys(prices, "contexts"), -0.004, 1e-5)
    calibration = Calibration(prices, 0.1).with_timings([timing])
    assert calibration.factors["contexts"] >= 0
    assert calibration.added(timing.chosen) == pytest.approx(-0.004, rel=0.1)


def test_a_precise_timing_counts_for_more_than_a_rough_one():
    good, bad = whole("all", PRICES, 1.0, 0.0, spread=2e-4), whole("all", PRICES, 3.0, 0.0, spread=2e-2)
    calibration = Calibration(PRICES, 0.1).with_timings([good, bad])
    assert calibration.added(good.chosen) == pytest.approx(good.added_s, rel=0.05)
