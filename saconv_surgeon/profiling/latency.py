"""Timing: several callables in turn in one process, and what their ratio says."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from saconv_surgeon.records import Latency, LatencyRatio, Verdict

MIN_RUNS, FEWEST_RUNS = 10, 3
SMALLEST_DIFFERENCE = 0.01
"""A ratio within one per cent of 1 is called the same, however quiet the machine."""
LOUDEST_SAME = 0.10
"""Where the noise reaches further than this, a ratio within it is no evidence of anything."""
RESAMPLES = 2000


def measure(
    calls: Sequence[Callable[[], object]],
    device: torch.device,
    *,
    budget_s: float = 4.0,
    warmup_s: float = 0.2,
    min_warmup: int = 3,
    on_run: Callable[[float], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[list[float]]:
    """Seconds of each call, timed alternately: A B, B A, A B … so that a drift of the machine meets all alike.

    Warms up by count and by time, then measures for about ``budget_s``: at least ten rounds, or three where one round alone
    takes a tenth of the budget. On CUDA, events are recorded around each call and read after one synchronisation.
    """
    start = clock()
    warmups = 0
    while warmups < min_warmup or clock() - start < warmup_s * len(calls):
        for call in calls:
            call()
        warmups += 1
        _synchronise(device)
        if clock() - start > budget_s:
            break
    begin, rounds = clock(), 0
    samples: list[list[Callable[[], float]]] = [[] for _ in calls]
    while True:
        order = range(len(calls)) if rounds % 2 == 0 else reversed(range(len(calls)))
        for i in order:
            samples[i].append(_time(calls[i], device, clock))
        rounds += 1
        spent = clock() - begin
        fewest = MIN_RUNS if spent / rounds < budget_s / MIN_RUNS else FEWEST_RUNS
        if on_run is not None:
            on_run(min(1.0, spent / budget_s))
        if spent >= budget_s and rounds >= fewest:
            break
    _synchronise(device)
    return [[read() for read in times] for times in samples]


def latency_of(samples: Sequence[float], device: torch.device, warmup_n: int) -> Latency:
    """The record of one model's samples."""
    low, median, high, p90 = np.percentile(samples, [25, 50, 75, 90])
    return Latency(
        device=str(device),
        median_s=float(median),
        p90_s=float(p90),
        iqr_s=float(high - low),
        min_s=float(min(samples)),
        n=len(samples),
        warmup_n=warmup_n,
        threads=torch.get_num_threads(),
        clock="CUDA events" if device.type == "cuda" else "wall clock",
    )


def ratio_of(a: Sequence[float], b: Sequence[float], seed: int = 0) -> LatencyRatio:
    """The paired ratio b/a, with a 95 % bootstrap interval of its median, and a verdict.

    The noise floor is the distance from 1 that the interval of a against itself reaches: neighbouring samples, paired.
    """
    ratios = np.asarray(b) / np.asarray(a)
    low, high = _interval(ratios, seed)
    itself = np.asarray(a[1::2]) / np.asarray(a[: len(a) // 2 * 2 : 2])
    floor = max(abs(edge - 1) for edge in _interval(itself, seed))
    return LatencyRatio(
        median=float(np.median(ratios)),
        low=low,
        high=high,
        verdict=_verdict(low, high, max(floor, SMALLEST_DIFFERENCE)),
        n=len(ratios),
        noise_floor=floor,
    )


def _verdict(low: float, high: float, floor: float) -> Verdict:
    if low > 1 + floor:
        return "slower"
    if high < 1 - floor:
        return "faster"
    within = low >= 1 - floor and high <= 1 + floor
    return "same" if within and floor <= LOUDEST_SAME else "inconclusive"


def _interval(values: np.ndarray, seed: int) -> tuple[float, float]:
    draws = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(np.median(values[draws], axis=1), [2.5, 97.5])
    return float(low), float(high)


def _time(call: Callable[[], object], device: torch.device, clock: Callable[[], float]) -> Callable[[], float]:
    """Runs ``call`` and gives the way to read how long it took."""
    if device.type != "cuda":
        start = clock()
        call()
        spent = clock() - start
        return lambda: spent
    before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    stream = torch.cuda.current_stream(device)
    before.record(stream)
    call()
    after.record(stream)
    return lambda: math.nan if not after.query() else before.elapsed_time(after) / 1000


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
