"""What people read of a price: nothing cut off, nothing claimed that the record does not say."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from saconv_surgeon.comparing.saved_reports import compared_with, read_profile
from saconv_surgeon.errors import UsageError
from saconv_surgeon.records import (
    CrossCheck,
    Latency,
    LatencyRatio,
    LayerCost,
    Priced,
    Profile,
    TrainingCost,
    UncountedOp,
    to_dict,
)
from saconv_surgeon.report.commands.profile import profile_report
from saconv_surgeon.report.formats import terminal
from saconv_surgeon.report.sections.cost_of_two import cost_of_two
from saconv_surgeon.report.sections.cost_words import FLAGS, settings

LATENCY = Latency(
    device="cpu",
    median_s=0.010,
    p90_s=0.012,
    iqr_s=0.001,
    min_s=0.009,
    n=50,
    warmup_n=3,
    threads=2,
    clock="wall clock",
    p95_s=0.013,
    batch=1,
    dtype="float32",
)
PROFILE = Profile(
    model="nets.py:build[v2]",
    parameters=1000,
    trainable_parameters=900,
    frozen_parameters=100,
    shared_parameters=40,
    parameter_bytes=4000,
    macs=5_000_000,
    flops=11_000_000,
    fvcore_flops=5_100_000,
    activations=2000,
    ops=7,
    bytes_moved=2048,
    uncounted_ops={},
    latency=LATENCY,
    latencies=(LATENCY,),
    peak_memory_bytes=3 * 1024**2,
    peak_memory_source="live tensors",
    layers=(LayerCost("a", "Conv2d", 600, 5_000_000, 10_000_000, 2000, 1, 1024, 1, 0.008),),
    input_shapes=((1, 3, 8, 8),),
    dtype="float32",
    device="cpu",
    cross_check=CrossCheck(True, 5_000_000, 5_000_000),
    environment={"device_name": "Some CPU", "torch": "2.13.0", "clock_mhz": 2500.0, "threads": 2},
)
RATIO = LatencyRatio(1.5, 1.4, 1.6, "slower", 50, 0.02, batch=1)
STEP = TrainingCost(replace(LATENCY, median_s=0.03), 0.01, 0.02, 5 * 1024**2, 9 * 1024**2)


def shown(record, width=100, **options):
    out = Console(width=width, record=True, file=io.StringIO())
    out.print(terminal.render(profile_report(record, every_layer=False, **options), width), highlight=False)
    return out.export_text()


def both(priced, width=100):
    out = Console(width=width, record=True, file=io.StringIO())
    for block in cost_of_two(priced, ("A", "B")):
        out.print(terminal.drawn(block, width), highlight=False)
    return " ".join(out.export_text().split())


def test_totals_and_settings():
    text = " ".join(shown(PROFILE, 160).split())
    assert "1,000: 900 trainable, 100 frozen, 40 shared and counted once; 3.91 KiB" in text
    assert "MACs 5 M 1 multiply–accumulate = 1" in text
    assert "bytes moved 2 KiB" in text
    assert "peak memory 3 MiB one forward pass in inference, weights included (live tensors)" in text
    assert "p90 12 ms, p95 13 ms, IQR 1 ms; cpu, 2 threads, wall clock, n = 50, batch 1, float32, eager" in text
    assert "every operation is counted; fvcore and FlopCounterMode agree to the integer" in text
    assert "Some CPU · 2500.0 MHz · torch 2.13.0" in text
    assert "layer times: passes of their own" in text
    assert "nets.py:build[v2]" in text


@pytest.mark.parametrize("width", [80, 110, 160])
def test_fits_its_width(width):
    sweep = replace(PROFILE, latencies=(LATENCY, replace(LATENCY, batch=8)), training=STEP)
    assert max(map(len, shown(sweep, width).splitlines())) <= width


def test_settings_that_change_the_answer_are_named():
    t = replace(LATENCY, device="cuda:0", autocast="bfloat16", channels_last=True, compiled=True, compile_s=12.0)
    said = settings(replace(t, enqueue_s=0.002))
    assert said == (
        "cuda:0, wall clock, n = 50, batch 1, float32, autocast bfloat16, channels_last, "
        "torch.compile (12 s for the first call), enqueued in 2 ms"
    )


@pytest.mark.parametrize("flag", sorted(FLAGS))
def test_every_flag_is_explained(flag):
    noisy = replace(LATENCY, flags=(flag,))
    assert FLAGS[flag] in " ".join(shown(replace(PROFILE, latencies=(noisy,)), 160).split())


def test_memory_under_autocast_is_not_claimed():
    half = replace(PROFILE, latency=replace(LATENCY, autocast="bfloat16"))
    assert "(live tensors, without autocast)" in " ".join(shown(half, 160).split())


def test_sweep_and_training():
    sweep = replace(PROFILE, latencies=(LATENCY, replace(LATENCY, batch=8, median_s=0.04)), training=STEP)
    text = " ".join(shown(sweep, 160).split())
    assert "1 10 ms 10 ms 100 12 ms 1 ms 50" in text
    assert "8 40 ms 5 ms 200" in text
    assert "training step 30 ms forward 10 ms, backward 20 ms" in text
    assert "saved for backward 5 MiB" in text


def test_what_is_not_counted_is_said_with_its_place():
    record = replace(PROFILE, uncounted_ops={"torchvision::nms": UncountedOp(3, ("head", ""))})
    text = " ".join(shown(record, 160).split())
    assert "Not counted in FLOPs: torchvision::nms, 3 ×, in head, (the model itself)" in text
    assert "every operation is counted" not in text


def test_one_engine_alone_claims_no_agreement():
    text = shown(replace(PROFILE, cross_check=None, note="counted by FlopCounterMode: fvcore cannot trace this"), 160)
    assert "agree" not in text
    assert "fvcore cannot trace this" in text


def test_unknown_is_never_zero():
    unknown = replace(PROFILE, macs=None, flops=None, ops=None, peak_memory_bytes=None, cross_check=None)
    text = " ".join(shown(unknown, 160).split())
    assert "MACs n/a" in text
    assert "peak memory n/a" in text
    assert "every operation is counted" not in text


def test_two_models_with_a_sweep_and_training():
    slow = replace(LATENCY, median_s=0.015)
    first = replace(PROFILE, latencies=(LATENCY, replace(LATENCY, batch=8)), training=STEP)
    second = replace(PROFILE, latencies=(slow, replace(slow, batch=8)), training=STEP)
    ratios = (RATIO, replace(RATIO, batch=8, median=1.0, verdict="same"))
    text = both(Priced(first, second, ratios, replace(RATIO, median=1.2)))
    assert "latency, batch 1 10 ms 15 ms ×1.5" in text
    assert "latency, batch 8 10 ms 15 ms ×1" in text
    assert "Slower at batch 1: ×1.5, 95 % interval 1.4–1.6, 50 alternating pairs, noise floor ±2.0 %" in text
    assert "Same at batch 8" in text
    assert "Slower in training: ×1.2" in text
    assert "saved for backward 5 MiB 5 MiB =" in text


# ------------------------------------------------------------------ against an earlier report


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
