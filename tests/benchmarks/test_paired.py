"""Intervals against Student's table."""

import pytest

from saconv_surgeon.comparing.paired_difference import difference


def test_mean_and_interval_by_hand():
    found = difference({0: 50.0, 1: 51.0, 2: 49.0}, {0: 51.0, 1: 53.0, 2: 52.0})
    # differences 1, 2, 3; deviation 1; Student's quantile for two degrees of freedom is 4.3027
    assert found.mean == pytest.approx(2.0) and found.n == 3
    assert found.half_width == pytest.approx(4.3027 / 3**0.5, rel=1e-4)
    assert not found.shown
    assert found.text() == "+2.0 ± 2.5"


def test_pairing_removes_what_seeds_share():
    a = {0: 10.0, 1: 50.0, 2: 90.0}
    found = difference(a, {seed: value - 1 + 0.01 * seed for seed, value in a.items()})
    assert found.shown and found.text(2) == "−0.99 ± 0.02"


def test_only_seeds_that_both_have_count():
    assert difference({0: 1.0, 1: 2.0, 5: 9.0}, {0: 2.0, 1: 4.0, 7: 0.0}).n == 2
    assert difference({0: 1.0}, {1: 1.0}) is None


def test_one_seed_has_no_interval():
    found = difference({3: 1.0}, {3: 9.0})
    assert found.half_width is None and not found.shown and found.text() == "+8.0"
