"""What people read of a price: nothing cut off, nothing claimed that the record does not say."""

from dataclasses import replace

import pytest

from saconv_surgeon.records import (
    UncountedOp,
)
from saconv_surgeon.report.sections.cost_words import FLAGS, settings
from tests.report.sections.records_by_hand import LATENCY, PROFILE, STEP, shown


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
