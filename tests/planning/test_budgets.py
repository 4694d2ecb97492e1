"""Budgets as users write them, against values worked out by hand."""

import pytest

from saconv_surgeon.errors import UsageError
from saconv_surgeon.planning.budgets import FIGURES, TIMED, allowances, parse_budget


@pytest.mark.parametrize(
    ("text", "figure", "limit", "kind"),
    [
        ("latency<1.3x", "latency", 1.3, "ratio"),
        (" trained_latency <= 1.5× ", "trained_latency", 1.5, "ratio"),
        ("training<2x", "training", 2.0, "ratio"),
        ("macs<1.25x", "macs", 1.25, "ratio"),
        ("macs<1x", "macs", 1.0, "ratio"),
        ("latency<130%", "latency", 1.3, "ratio"),
        ("latency<+30%", "latency", 1.3, "ratio"),
        ("parameters<+2M", "parameters", 2e6, "increase"),
        ("parameters<+0", "parameters", 0.0, "increase"),
        ("params<30M", "parameters", 30e6, "value"),
        ("memory<+1.5GiB", "peak_memory_bytes", 1.5 * 2**30, "increase"),
        ("memory<800MiB", "peak_memory_bytes", 800 * 2**20, "value"),
        ("training_memory<2G", "training_memory", 2e9, "value"),
        ("latency<20ms", "latency", 0.02, "value"),
        ("latency<+3ms", "latency", 0.003, "increase"),
        ("macs<6e9", "macs", 6e9, "value"),
    ],
)
def test_budgets(text, figure, limit, kind):
    found = parse_budget(text)
    assert (found.figure, found.kind, found.text) == (figure, kind, text.strip())
    assert found.limit == pytest.approx(limit, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a budget"),
        ("latency", "is not a budget"),
        ("latency<", "is not a budget"),
        ("latency=1.3x", "is not a budget"),
        ("latency<infx", "is not a budget"),
        ("latency<nan", "is not a budget"),
        ("latency<1.2.3x", "no number"),
        ("latency<1e999x", "no number"),
        ("latency>1.3x", "write latency<1.3x"),
        ("macs>=2x", "write macs<2x"),
        ("speed<1.3x", "there are latency, trained_latency"),
        ("flops<1.3x", "there are latency, trained_latency"),
        ("latency<0.9x", "0.9 times the original"),
        ("latency<-1x", "both an increase and a ratio"),
        ("latency<90%", "0.9 times the original"),
        ("latency<-10%", "0.9 times the original"),
        ("latency<+1.3x", "latency<+1.3%"),
        ("parameters<-2M", "less than the original model has"),
        ("latency<1.3", "latency<1.3x for a ratio"),
        ("latency<20MiB", "give s, ms or us"),
        ("parameters<20ms", "parameters in ms"),
        ("macs<3GiB", "macs in GiB"),
        ("memory<3s", "peak_memory_bytes in s"),
        ("latency<3parsecs", "'parsecs'"),
    ],
)
def test_what_is_no_budget_is_said_in_one_sentence(text, words):
    with pytest.raises(UsageError) as caught:
        parse_budget(text)
    message = str(caught.value)
    assert message.startswith(f"--budget {text!r} ")
    assert words in message
    assert ". " not in message.replace(text, "")


ORIGINAL = {figure: 0.010 if figure in TIMED else 1000.0 for figure in FIGURES}


@pytest.mark.parametrize(
    ("text", "added", "limit", "twice"),
    [
        ("latency<1.3x", 0.003, 0.013, 2.0),
        ("latency<20ms", 0.010, 0.020, 0.020),
        ("latency<+3ms", 0.003, 0.013, 0.010),
        ("parameters<+500", 500, 1500, 1000),
        ("parameters<1.2k", 200, 1200, 2000),
    ],
)
def test_what_a_budget_allows(text, added, limit, twice):
    (found,) = allowances([parse_budget(text)], ORIGINAL)
    assert found.added == pytest.approx(added)
    assert found.limit == pytest.approx(limit)
    assert found.in_units(2 * found.original) == pytest.approx(twice)


def test_a_time_may_be_three_per_cent_above_and_a_count_may_not():
    time, count = allowances([parse_budget("latency<1.3x"), parse_budget("parameters<1.3x")], ORIGINAL)
    assert time.keeps(0.013 * 1.029)
    assert not time.keeps(0.013 * 1.031)
    assert count.keeps(1300)
    assert not count.keeps(1301)


@pytest.mark.parametrize(
    ("text", "own"), [("latency<9ms", "10 ms"), ("parameters<900", "1 k"), ("memory<900B", "1000"), ("macs<0", "1 k")]
)
def test_a_value_below_the_original_names_its_own(text, own):
    with pytest.raises(UsageError, match=f"what the original model has, {own}"):
        allowances([parse_budget(text)], ORIGINAL)
