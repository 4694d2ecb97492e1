"""Rows of a sweep, against arithmetic by hand."""

import pytest

from saconv_surgeon.comparing.sweep_summary import summarised
from saconv_surgeon.records import LatencyRatio
from saconv_surgeon.records.sweep import SweepTrial
from saconv_surgeon.report.commands.sweep import front, sweep_report


def ratio(median):
    return LatencyRatio(median, median - 0.01, median + 0.01, "slower", n=9, noise_floor=0.01)


def trials(**values):
    return [SweepTrial(plan, "", seed, value) for plan, own in values.items() for seed, value in enumerate(own)]


LATENCIES = {"fast": ratio(1.1), "slow": ratio(1.5), "bad": ratio(1.2)}


def rows(mode="max", **values):
    return {row.plan: row for row in summarised(trials(**values), "score", mode, LATENCIES).rows}


def test_gains_are_paired_by_seed():
    found = rows(untouched=[10, 20, 30], fast=[12, 21, 33], slow=[11, None, 40])
    assert found["fast"].gain == pytest.approx(2)
    assert found["fast"].half_width == pytest.approx(4.302653 * 1 / 3**0.5, rel=1e-5)  # t for 2 degrees of freedom
    assert found["slow"].gain == pytest.approx(5.5)
    assert (found["slow"].n, found["slow"].failed) == (2, 1)
    assert found["slow"].mean == pytest.approx(25.5)
    assert not found["fast"].shown


@pytest.mark.parametrize(("mode", "sign"), [("max", 1), ("min", -1)])
def test_the_front_is_what_nothing_beats(mode, sign):
    values = {"untouched": [1], "fast": [2], "bad": [1.5], "slow": [3]}
    found = rows(mode, **{name: [sign * value for value in own] for name, own in values.items()})
    assert {name for name, row in found.items() if row.on_front} == {"untouched", "fast", "slow"}


def test_equal_points_are_both_on_the_front():
    found = summarised(trials(a=[1], b=[1]), "score", "max", {"a": ratio(1.2), "b": ratio(1.2)})
    assert all(row.on_front for row in found.rows)


def test_what_has_no_latency_or_no_value_is_not():
    found = rows(untouched=[1], unknown=[9], fast=[None])
    assert {name for name, row in found.items() if row.on_front} == {"untouched"}
    assert found["fast"].mean is None
    assert front(summarised(trials(untouched=[1], unknown=[9]), "score", "max", {})) is None


def test_the_report_says_what_differs_and_what_failed():
    found = summarised(
        trials(untouched=[10, 20, 30], fast=[12, 22.1, 31.9], slow=[9, None, 28], bad=[8, 18.1, 27.9]),
        "score",
        "max",
        LATENCIES,
    )
    page = sweep_report(found, "s").page
    said = [line.text for line in page.verdicts]
    assert said[0].startswith("fast: better, +2 ± ")
    assert said[1].startswith("bad: worse, −2 ± ")
    assert said[2] == "1 of 12 trainings failed; the others are compared"
    (curve,) = page.curves
    assert curve.points == ((1.0, 20.0), (1.1, 22.0))
    assert {mark.name for mark in curve.marks} == {"untouched", "fast", "slow", "bad"}
