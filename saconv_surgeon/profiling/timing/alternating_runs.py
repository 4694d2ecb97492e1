"""Timing: several callables in turn in one process."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from saconv_surgeon.records import Latency

MIN_RUNS, FEWEST_RUNS = 10, 3
WARMUP_N, WARMUP_S = 3, 0.2
SPREAD, DRIFT, ENQUEUE = 0.10, 0.10, 0.80
ENQUEUE_RUNS = 7


@dataclass(frozen=True)
class Run:
    """What is timed: ``stages``, each by itself (most runs have one), after ``prepare``, which is not timed."""

    stages: Sequence[Callable[[], object]]
    prepare: Callable[[], object] | None = None


@dataclass(frozen=True)
class Samples:
    """Seconds of every run of one callable: ``stages[i]`` of its stage ``i``; ``enqueue`` is what the host took to start it."""

    stages: tuple[tuple[float, ...], ...]
    enqueue: tuple[float, ...] = ()
    warmup_n: int = 0
    warmup_s: float = 0.0
    first_s: float = 0.0

    @property
    def totals(self) -> tuple[float, ...]:
        """Seconds of every run."""
        return tuple(map(sum, zip(*self.stages, strict=True)))


def measure(
    runs: Sequence[Run],
    device: torch.device,
    *,
    budget_s: float = 4.0,
    warmup_s: float = WARMUP_S,
    min_warmup: int = WARMUP_N,
    on_run: Callable[[float], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Samples]:
    """Times ``runs`` alternately: A B, B A, A B … so that a drift of the machine affects all equally.

    Warms up by count and by time, then measures for about ``budget_s``: at least ten rounds, or three if one round alone
    takes a tenth of the budget. On CUDA, events are recorded around each stage and read after one synchronisation.
    """
    timers = [_Timer(run, device, clock) for run in runs]
    warmups = _warm_up(timers, budget_s, warmup_s, min_warmup, clock)
    begin, rounds = clock(), 0
    while True:
        for timer in timers if rounds % 2 == 0 else reversed(timers):
            timer.run()
        rounds += 1
        spent = clock() - begin
        fewest = MIN_RUNS if spent / rounds < budget_s / MIN_RUNS else FEWEST_RUNS
        if on_run is not None:
            on_run(min(1.0, spent / budget_s))
        if spent >= budget_s and rounds >= fewest:
            break
    _synchronise(device)
    return [timer.samples(warmups) for timer in timers]


def latency_of(samples: Samples, device: torch.device) -> Latency:
    """The record of one callable's samples; settings other than the device are for the caller to add."""
    totals = samples.totals
    low, median, high = (float(value) for value in np.percentile(totals, [25, 50, 75]))
    n = len(totals)
    enqueue = float(np.median(samples.enqueue)) if samples.enqueue else None
    flags = {
        "few-runs": n < MIN_RUNS,
        "spread": high - low > SPREAD * median,
        "drift": n >= MIN_RUNS and abs(np.median(totals[n // 2 :]) / np.median(totals[: n // 2]) - 1) > DRIFT,
        "enqueue-bound": enqueue is not None and enqueue > ENQUEUE * median,
    }
    return Latency(
        device=str(device),
        median_s=median,
        iqr_s=high - low,
        min_s=min(totals),
        n=n,
        warmup_n=samples.warmup_n,
        warmup_s=samples.warmup_s,
        threads=torch.get_num_threads(),
        clock="CUDA events" if device.type == "cuda" else "wall clock",
        enqueue_s=enqueue,
        flags=tuple(name for name, raised in flags.items() if raised),
        p90_s=_percentile(totals, 90, least=10),
        p95_s=_percentile(totals, 95, least=20),
        p99_s=_percentile(totals, 99, least=100),
    )


def _percentile(values: Sequence[float], q: int, *, least: int) -> float | None:
    """None if there are too few values for it."""
    return float(np.percentile(values, q)) if len(values) >= least else None


class _Timer:
    """Runs one callable and keeps what is needed to say later how long each stage took."""

    def __init__(self, run: Run, device: torch.device, clock: Callable[[], float]) -> None:
        self.stages, self.prepare, self.device, self.clock = run.stages, run.prepare, device, clock
        self.marks: list[list[torch.cuda.Event]] = []
        self.seconds: list[list[float]] = []
        self.first_s = self.started = 0.0

    def warm_up(self) -> float:
        """Seconds of a run that is waited for."""
        self.time_enqueue()
        start = self.started
        _synchronise(self.device)
        return self.clock() - start

    def time_enqueue(self) -> float:
        """Seconds that the host takes to hand a run to an idle device.

        A busy one has a queue, which makes the host wait when it is full: the time between two stages of a measured run would
        suggest that every model is bound by launches.
        """
        if self.prepare is not None:
            self.prepare()
        _synchronise(self.device)
        self.started = self.clock()
        for stage in self.stages:
            stage()
        return self.clock() - self.started

    def run(self) -> None:
        if self.prepare is not None:
            self.prepare()
        stream = torch.cuda.current_stream(self.device) if self.device.type == "cuda" else None
        times, events = [self.clock()], [_mark(stream)] if stream else []
        for stage in self.stages:
            stage()
            times.append(self.clock())
            if stream:
                events.append(_mark(stream))
        self.seconds.append([after - before for before, after in itertools.pairwise(times)])
        self.marks.append(events)

    def samples(self, warmups: tuple[int, float]) -> Samples:
        """Everything, once the device has finished."""
        if self.device.type != "cuda":
            return Samples(tuple(zip(*self.seconds, strict=True)), (), *warmups, self.first_s)
        devices = [[a.elapsed_time(b) / 1000 for a, b in itertools.pairwise(events)] for events in self.marks]
        enqueue = tuple(self.time_enqueue() for _ in range(ENQUEUE_RUNS))
        _synchronise(self.device)
        return Samples(tuple(zip(*devices, strict=True)), enqueue, *warmups, self.first_s)


def _warm_up(
    timers: Sequence[_Timer], budget_s: float, warmup_s: float, min_warmup: int, clock: Callable[[], float]
) -> tuple[int, float]:
    """How often each was run, and for how long all were. A first call that compiles does not use up the time."""
    for timer in timers:
        timer.first_s = timer.warm_up()
    start, n = clock(), 1
    while n < min_warmup or clock() - start < warmup_s * len(timers):
        for timer in timers:
            timer.warm_up()
        n += 1
        if clock() - start > budget_s:
            break
    return n, clock() - start


def _mark(stream: torch.cuda.Stream) -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record(stream)
    return event


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
