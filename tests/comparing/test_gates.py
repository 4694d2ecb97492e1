"""Gates: both directions, both units, and what is not known does not pass."""

import math

import pytest

from saconv_surgeon.comparing.gates import evaluate, parse
from saconv_surgeon.errors import UsageError

RATIO = {"median": 1.3, "low": 1.2, "high": 1.4, "verdict": "slower", "batch": 1}
DIFF = {
    "a": {"macs": 100, "parameters": 0, "latency": {"median_s": 0.010}, "layers": []},
    "b": {"macs": 150, "parameters": 5, "latency": {"median_s": 0.013}, "layers": []},
    "outputs": {"max_rel": 1e-4, "cosine": None, "top1": 0.5},
    "latency_ratio": RATIO,
    "latency_ratios": [RATIO, {**RATIO, "median": 1.1, "low": 1.05, "high": 1.15, "batch": 8}],
}
CONVERSION = {
    "before": {"macs": 100, "latency": None},
    "after": {"macs": 6_500_000_000, "latency": None},
    "equivalence": {"max_rel": 0.0},
    "latency_ratio": None,
    "latency_ratios": [],
    "converted": 3,
}
PROFILE = {
    "macs": 40,
    "latency": {"median_s": 0.02},
    "outputs": None,
    "comparison": {
        "totals": [{"figure": "macs", "ratio": 2.0}, {"figure": "latency_median_s", "ratio": 0.8}],
    },
}


@pytest.mark.parametrize(
    ("gate", "record", "failed"),
    [
        ("macs>1.4x", DIFF, True),
        ("macs>1.5x", DIFF, False),  # at the threshold is not above it
        ("macs>=1.5x", DIFF, True),
        ("macs<2x", DIFF, True),
        ("macs<1.5x", DIFF, False),
        ("macs<=1.5×", DIFF, True),
        ("macs>149", DIFF, True),  # without x, the value of B
        ("a.macs>149", DIFF, False),
        ("b.macs>149", DIFF, True),
        ("latency>1.2x", DIFF, True),
        ("latency>1.35x", DIFF, False),
        ("latency<1.2x", DIFF, True),  # the batch that is nearest to failing
        ("latency<1.05x", DIFF, False),
        ("latency_ratio.low>1.1", DIFF, True),
        ("latency>12ms", DIFF, True),
        ("latency>0.02", DIFF, False),
        ("latency>13500us", DIFF, False),
        ("max_rel>1e-5", DIFF, True),
        ("max_rel>1e-3", DIFF, False),
        ("top1<99%", DIFF, True),
        ("outputs.top1<0.4", DIFF, False),
        ("params>3x", DIFF, True),  # from nothing to something: infinitely more
        ("after.macs>6e9", CONVERSION, True),
        ("after.macs>6.6G", CONVERSION, False),
        ("max_rel>1e-5", CONVERSION, False),
        ("converted<4", CONVERSION, True),
        ("macs>30", PROFILE, True),
        ("macs>1.5x", PROFILE, True),
        ("latency>1.5x", PROFILE, False),
        ("latency<0.9x", PROFILE, True),
    ],
)
def test_gate(gate, record, failed):
    assert evaluate(parse(gate), record).failed is failed


@pytest.mark.parametrize(
    ("gate", "record"),
    [("cosine<0.9", DIFF), ("latency>1.2x", CONVERSION), ("latency>1ms", CONVERSION), ("max_rel>1", PROFILE)],
)
def test_what_is_not_known_fails(gate, record):
    result = evaluate(parse(gate), record)
    assert result.failed
    assert result.value is None
    assert "not known" in result.found


def test_nan_fails_in_both_directions():
    record = {**CONVERSION, "equivalence": {"max_rel": math.nan}}
    assert evaluate(parse("max_rel>1e-5"), record).failed
    assert evaluate(parse("max_rel<1e-5"), record).failed


def test_what_was_found_is_said():
    assert evaluate(parse("macs>1.4x"), DIFF).found == "macs: a 100, b 150, ×1.5"
    found = evaluate(parse("latency>1.25x"), DIFF).found
    assert "×1.3" in found
    assert "1.2–1.4" in found
    assert "95 % interval 1.2–1.4" in found
    assert "within the interval" in found


def test_few_pairs_are_no_interval():
    found = evaluate(parse("latency>1.25x"), DIFF | {"latency_ratios": [RATIO | {"n": 9}]}).found
    assert "range of 9 pairs 1.2–1.4" in found
    assert "within the range" in found
    assert "95 %" not in found


@pytest.mark.parametrize(
    "text", ["", "macs", "macs>", ">1x", "macs>1y", "macs=1", "macs>>1", "macs>1x x", "macs>1.2.3", "macs>nan"]
)
def test_no_gate(text):
    with pytest.raises(UsageError, match="is not a gate"):
        parse(text)


def test_no_figure():
    with pytest.raises(UsageError, match="no record has a figure 'mcas'"):
        parse("mcas>1x")
    with pytest.raises(UsageError, match="there is no figure 'converted' here"):
        evaluate(parse("converted>1"), DIFF)
    with pytest.raises(UsageError, match="one model only"):
        evaluate(parse("macs>1x"), {"macs": 3})
