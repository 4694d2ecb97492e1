"""Records with figures made up by hand, and how a report shows them."""

import io
from dataclasses import replace

from rich.console import Console

from saconv_surgeon.records import (
    CrossCheck,
    Latency,
    LayerCost,
    Profile,
    TrainingCost,
)
from saconv_surgeon.report.commands.profile import profile_report
from saconv_surgeon.report.formats import terminal

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


STEP = TrainingCost(replace(LATENCY, median_s=0.03), 0.01, 0.02, 5 * 1024**2, 9 * 1024**2)


def shown(record, width=100, **options):
    out = Console(width=width, record=True, file=io.StringIO())
    out.print(terminal.render(profile_report(record, every_layer=False, **options), width), highlight=False)
    return out.export_text()
