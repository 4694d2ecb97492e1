"""What a profile costs: counting ResNet-50 at 224² in forward passes, the whole command in seconds, a large model in memory.

    python -m benchmarks.counting

Forward passes and counting are timed alternately in one process on one thread; the commands are run as a user would. Needs
torchvision and timm. ``BENCHMARK_PRELOAD`` may name a module that every process imports first.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

import torch

from benchmarks.recording import record
from saconv_surgeon.models.loading.input_spec import offered_inputs
from saconv_surgeon.models.loading.model_spec import load_model
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.profiling.counting import count as counting
from saconv_surgeon.profiling.counting.fvcore_engine import count_by_trace

PRELOAD = os.environ.get("BENCHMARK_PRELOAD")
ROUNDS = 9
GOALS = {"engine": 3.0, "with cross-check": 5.0, "profile": 20.0, "abstract": 60.0, "abstract_gib": 2.0}
RUN = """
import resource, runpy, sys
sys.argv = ["saconv-surgeon", *sys.argv[1:]]
try:
    runpy.run_module("saconv_surgeon", run_name="__main__", alter_sys=True)
except SystemExit as done:
    assert not done.code, done
print("KIB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def main() -> None:
    """Runs everything and records it."""
    if PRELOAD:
        importlib.import_module(PRELOAD)
    ratios = overhead("torchvision:resnet50")
    for name, ratio in ratios.items():
        print(f"counting ResNet-50, {name}: {ratio:.2f} forward passes (goal {GOALS[name]:g})")
    seconds, _, found = command("profile", "torchvision:resnet50")
    print(f"profile torchvision:resnet50, all defaults: {seconds:.1f} s (goal {GOALS['profile']:g})")
    print(f"  {found['parameters']:,} parameters, {found['macs']:,} MACs, {found['fvcore_flops']:,} in fvcore's unit")
    giant_s, gib, giant = command("profile", "timm:vit_giant_patch14_224", "--abstract")
    print(
        f"profile timm:vit_giant_patch14_224 --abstract: {giant_s:.1f} s, {gib:.2f} GiB (goal {GOALS['abstract_gib']:g})"
    )
    print(f"  {giant['parameters']:,} parameters, {giant['macs']:,} MACs")
    measured = {**ratios, "profile": seconds, "abstract": giant_s, "abstract_gib": gib}
    result = {
        "measured": measured,
        "goals": GOALS,
        "met": {name: measured[name] <= goal for name, goal in GOALS.items()},
        "resnet50": {name: found[name] for name in ("parameters", "macs", "flops", "fvcore_flops")},
        "vit_giant": {name: giant[name] for name in ("parameters", "macs", "flops", "parameter_bytes")},
    }
    print(record("counting", result))


def overhead(spec: str) -> dict[str, float]:
    """Counting by the engine, and with its cross-check, in units of a forward pass without gradients."""
    torch.set_num_threads(1)
    loaded = load_model(spec)
    model, inputs = loaded.module.eval(), Inputs.of(offered_inputs(loaded))
    calls: dict[str, Callable[[], object]] = {
        "forward": lambda: inputs.run(model),
        "engine": lambda: counting._on_stand_in(model, inputs, count_by_trace, torch.no_grad),
        "with cross-check": lambda: counting.count(model, inputs),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()  # imports, and what torch sets up once
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    pairs = {name: [t / f for t, f in zip(times[name], times["forward"], strict=True)] for name in calls}
    return {name: median(pairs[name]) for name in ("engine", "with cross-check")}


def command(*arguments: str) -> tuple[float, float, dict[str, int]]:
    """Seconds, GiB of resident memory, and the record of a command in a process of its own."""
    code = f"import {PRELOAD}\n{RUN}" if PRELOAD else RUN
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--json", "-"], capture_output=True, text=True, check=True
    )
    seconds = time.perf_counter() - start
    return seconds, int(done.stderr.split()[-1]) / 2**20, json.loads(done.stdout)


if __name__ == "__main__":
    main()
