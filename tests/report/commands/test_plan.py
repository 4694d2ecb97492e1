"""What ``plan`` says, of records that were made up by hand."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from saconv_surgeon.records import (
    Budget,
    BudgetedPlan,
    Candidate,
    CurvePoint,
    LatencyRatio,
    LayerOffers,
    Offer,
    Plan,
    Price,
    Promise,
)
from saconv_surgeon.report.commands.plan import plan_report
from saconv_surgeon.report.formats import FORMATS, terminal
from saconv_surgeon.report.formats.html_curve import drawn, ticks
from saconv_surgeon.report.sections.gain_curve import gain_chart

CONTEXTS = Candidate("contexts", "saconv", {"parts": "contexts"})
WHOLE = Candidate("all", "saconv", {"parts": "all"})
LATENCY = Budget("latency<1.3x", "latency", 1.3, "ratio")
RATIO = LatencyRatio(1.25, 1.24, 1.26, "slower", n=50, noise_floor=0.01)
OFFERS = (
    Offer(CONTEXTS, Price(4224, 8192, 0.0002, 0.0005), 0.5),
    Offer(WHOLE, Price(45249, 118_000_000, 0.004, 0.006), 0.75),
)
PLANNED = BudgetedPlan(
    plan=Plan("saconv", ()),
    score="promise",
    unit="loss",
    budgets=(LATENCY,),
    layers=(
        LayerOffers("body.conv1", OFFERS, "contexts", "the most gain for its price"),
        LayerOffers("body.conv2", OFFERS, None, "its price is above what is left"),
    ),
    gain=0.5,
    everything=1.25,
    promises=(Promise(LATENCY, 1.26, 1.25, True, RATIO),),
    rounds=1,
    curve=(CurvePoint(1.0, 0.0, 0), CurvePoint(1.26, 0.5, 1), CurvePoint(2.0, 1.25, 2)),
)


def shown(planned, width=120):
    out = Console(width=width, file=io.StringIO())
    out.print(terminal.render(plan_report(planned, "nets.py:build"), width))
    return out.file.getvalue()


def test_the_terminal_names_choices_promises_and_gain():
    text = shown(PLANNED)
    assert "1 of 2 layers to be converted: 1 contexts" in text
    assert "latency<1.3x: measured ×1.250, 95 % interval ×1.240–1.260 (the prices say ×1.260)" in text
    assert "40 % of the gain that converting every layer whole promises (0.5 of 1.25, loss)" in text
    row = next(line for line in text.splitlines() if "body.conv1" in line)
    assert all(part in row for part in ("→ contexts", "+200 µs", "+8.192 k", "+4.224 k", "40 %", "the most gain"))
    stays = next(line for line in text.splitlines() if "body.conv2" in line)
    assert "stays" in stays
    assert "its price is above what is left" in stays


def test_a_promise_that_is_not_kept_says_so():
    broken = replace(PLANNED, promises=(replace(PLANNED.promises[0], kept=False),))
    assert "NOT KEPT" in shown(broken)
    assert not broken.kept
    assert "NOT KEPT" not in shown(PLANNED)


@pytest.mark.parametrize(
    ("budget", "found", "text"),
    [
        (Budget("parameters<+2M", "parameters", 2e6, "increase"), 1_500_000.0, "found +1.5 M"),
        (Budget("macs<1.25x", "macs", 1.25, "ratio"), 1.2, "found ×1.200"),
        (Budget("latency<20ms", "latency", 0.02, "value"), 0.0185, "found 18.5 ms"),
    ],
)
def test_what_was_found_is_in_the_units_of_the_budget(budget, found, text):
    assert text in shown(replace(PLANNED, promises=(Promise(budget, found, found, True),)))


def test_a_rank_is_no_gain():
    text = shown(replace(PLANNED, score="depth", unit="place in the order of calls"))
    assert "score depth: an order of the layers, no measure of a gain" in text
    assert "of the gain that converting" not in text


def test_an_unknown_gain_says_why():
    unknown = (Offer(CONTEXTS, OFFERS[0].price, None, "the loss does not depend on it"),)
    html = FORMATS[".html"].render(
        plan_report(replace(PLANNED, layers=(LayerOffers("body.conv1", unknown),)), "nets.py:build")
    )
    assert "the loss does not depend on it" in html


@pytest.mark.parametrize("suffix", list(FORMATS))
def test_every_format_takes_it(suffix):
    text = FORMATS[suffix].render(plan_report(PLANNED, "nets.py:build"))
    assert "body.<wbr>conv1" in text if suffix == ".html" else "body.conv1" in text


def test_csv_has_every_candidate_with_numbers_as_they_are():
    first, row, *rest = FORMATS[".csv"].render(plan_report(PLANNED, "nets.py:build")).splitlines()
    assert first.startswith("path,candidate,chosen,parameters,macs,latency_s")
    assert row.startswith("body.conv1,contexts,True,4224,8192,0.0002,0.0005")
    assert len(rest) == 3


def test_the_curve_in_units_of_the_drawing():
    curve = drawn(gain_chart(PLANNED))
    places = [tuple(map(float, point.split())) for point in curve.path.removeprefix("M").split("L")]
    assert places[0] == (64, 256)
    assert places[-1] == (624, 16)
    assert places[1] == pytest.approx((64 + 560 * 0.26, 256 - 240 * 0.5 / 1.25), abs=0.1)
    (mark,) = curve.marks
    assert (mark.x, mark.y) == pytest.approx(places[1], abs=0.1)
    assert gain_chart(replace(PLANNED, curve=PLANNED.curve[:1])) is None


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (1.0, 2.1, [1.0, 1.25, 1.5, 1.75, 2.0]),
        (0.0, 0.003, [0.0, 0.001, 0.002, 0.003]),
        (3.0, 3.0, [3.0]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)
