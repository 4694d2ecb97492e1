"""A profile against an earlier one."""

import json
from dataclasses import replace

import pytest

from saconv_surgeon.comparing.saved_reports import compared_with, read_profile
from saconv_surgeon.errors import UsageError
from saconv_surgeon.records import (
    LayerCost,
    to_dict,
)
from tests.report.sections.records_by_hand import LATENCY, PROFILE, STEP, shown


def test_comparison_by_hand():
    now = replace(
        PROFILE,
        macs=10_000_000,
        latency=replace(LATENCY, median_s=0.02),
        latencies=(replace(LATENCY, median_s=0.02),),
        layers=(replace(PROFILE.layers[0], macs=10_000_000), LayerCost("b", "ReLU", 0, 0, 64, 0)),
    )
    found = compared_with(PROFILE, now, "old.json")
    totals = {change.figure: (change.before, change.after, change.ratio) for change in found.totals}
    assert totals["macs"] == (5_000_000, 10_000_000, 2.0)
    assert totals["parameters"] == (1000, 1000, 1.0)
    assert totals["latency_median_s"] == (0.010, 0.02, 2.0)
    assert [(c.path, c.figure, c.before, c.after) for c in found.layers] == [
        ("a", "macs", 5_000_000, 10_000_000),
        ("b", "parameters", None, 0),
        ("b", "macs", None, 0),
        ("b", "flops", None, 64),
        ("b", "activations", None, 0),
    ]
    assert found.same_conditions
    assert found.conditions == ()
    text = " ".join(shown(replace(now, comparison=found), 160).split())
    assert "against old.json (nets.py:build[v2])" in text
    assert "MACs 5 M 10 M ×2" in text
    assert "timed under the same conditions, but not in turn; for a verdict, use diff" in text


@pytest.mark.parametrize(
    ("change", "named", "same"),
    [
        ({"environment": {**PROFILE.environment, "torch": "2.14.0"}}, ["torch"], False),
        ({"environment": {**PROFILE.environment, "device_name": "Other"}}, ["device_name"], False),
        ({"latency": replace(LATENCY, threads=1)}, ["threads"], False),
        ({"input_shapes": ((2, 3, 8, 8),)}, ["input"], False),
        ({"environment": {**PROFILE.environment, "clock_mhz": 1.0}}, [], True),
        ({"environment": {**PROFILE.environment, "fvcore": "9"}}, ["fvcore"], True),
        ({"environment": {**PROFILE.environment, "tf32_cudnn": False}}, ["tf32_cudnn"], False),
        ({"environment": {**PROFILE.environment, "mkldnn": False}}, ["mkldnn"], False),
    ],
)
def test_conditions_that_differ(change, named, same):
    found = compared_with(PROFILE, replace(PROFILE, **change), "old.json")
    assert [condition.name for condition in found.conditions] == named
    assert found.same_conditions is same


def test_sweeps_and_training_are_compared():
    sweep = replace(PROFILE, latencies=(LATENCY, replace(LATENCY, batch=8, median_s=0.04)), training=STEP)
    now = replace(sweep, latencies=(LATENCY, replace(LATENCY, batch=8, median_s=0.08)), buffers=4)
    totals = {c.figure: (c.before, c.after) for c in compared_with(sweep, now, "old.json").totals}
    assert totals["latency_batch_8_median_s"] == (0.04, 0.08)
    assert totals["training_saved_bytes"] == (5 * 1024**2, 5 * 1024**2)
    assert totals["buffers"] == (0, 4)
    without = {c.figure: (c.before, c.after) for c in compared_with(PROFILE, sweep, "old.json").totals}
    assert without["training_forward_s"] == (None, 0.01)
    assert without["latency_batch_8_median_s"] == (None, 0.04)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"schema": "saconv-surgeon/profile/99"}, "is a saconv-surgeon/profile/99 of another version"),
        ({**to_dict(PROFILE), "macs": 10**400}, "no figure is as large as that"),
        ([], "is not a report of profile or convert"),
    ],
)
def test_files_that_are_no_such_report(tmp_path, content, message):
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=message):
        read_profile(tmp_path / "x.json")


def test_a_report_without_latency_compares():
    found = compared_with(replace(PROFILE, latency=None, latencies=()), PROFILE, "old.json")
    assert {c.figure: c.before for c in found.totals}["latency_median_s"] is None
    assert not found.same_conditions
