"""How much energy models take, in alternating windows, without what the machine draws at rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.state import preserved
from saconv_surgeon.models.tree.copying import stand_in
from saconv_surgeon.profiling.energy.counters import EnergyCounter, NoCounterError, energy_counter
from saconv_surgeon.profiling.timing.time_models import FreshInputs, autocast, resized, threads
from saconv_surgeon.profiling.timing.verdicts import ratio_of
from saconv_surgeon.records import Energy, LatencyRatio, Timing, Verdict

WINDOW_S, PAIRS, IDLE_S = 1.0, 10, 2.0
CLOCK = SimpleNamespace(now=time.perf_counter, sleep=time.sleep)
WORDS: dict[Verdict, Verdict] = {"faster": "less", "slower": "more"}


@dataclass(frozen=True)
class Measured:
    """Of each model its energy, and of two their ratio; or why there is none."""

    energies: tuple[Energy, ...] = ()
    ratio: LatencyRatio | None = None
    note: str | None = None


def measure_energy(
    models: Sequence[nn.Module],
    inputs: Inputs,
    device: torch.device,
    timing: Timing,
    on_run: Callable[[float], None],
    counter: EnergyCounter | None = None,
) -> Measured:
    """Joules per sample of each model in eval mode, in windows of a second that alternate between the models.

    What the machine draws at rest is measured before and after, and taken off. The verdict about two models is found as that
    about their latencies. The models are left as they were.
    """
    try:
        counter = counter or energy_counter(device)
    except NoCounterError as error:
        return Measured(note=str(error))
    sized = resized(inputs, next(iter(timing.batches), None))
    samples = sized.batch or 1
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(threads(timing.threads))
        runs = []
        for model in models:
            stack.enter_context(preserved(model))
            subject = stand_in(model)
            stack.enter_context(preserved(subject))
            runs.append(_run(subject, FreshInputs(sized), timing, device))
        idle = [_at_rest(counter, device)]
        spent: list[list[tuple[float, float, int]]] = [[] for _ in models]
        for run in runs:
            run()
        for i in range(PAIRS):
            order = range(len(models)) if i % 2 == 0 else reversed(range(len(models)))
            for k in order:
                spent[k].append(_window(runs[k], counter, device))
            on_run((i + 1) / PAIRS)
        idle.append(_at_rest(counter, device))
    watts = float(np.mean(idle))
    each = [[max(joules - watts * s, 0.0) / (n * samples) for joules, s, n in windows] for windows in spent]
    if any(value <= 0 for values in each for value in values):
        return Measured(note=f"{counter.source}: the models draw no more than the machine at rest, {watts:.3g} W")
    energies = tuple(
        Energy(
            counter.source,
            float(np.median(values)),
            sum(joules for joules, _, _ in windows) / sum(s for _, s, _ in windows),
            watts,
            len(values),
            WINDOW_S,
            sized.batch,
        )
        for values, windows in zip(each, spent, strict=True)
    )
    if len(models) != 2:
        return Measured(energies)
    ratio = ratio_of(each[0], each[1])
    return Measured(energies, replace(ratio, verdict=WORDS.get(ratio.verdict, ratio.verdict), batch=sized.batch))


def _run(model: nn.Module, fresh: FreshInputs, timing: Timing, device: torch.device) -> Callable[[], None]:
    def run() -> None:
        fresh.renew()
        with autocast(timing, device):
            fresh.run(model)

    return run


def _window(run: Callable[[], None], counter: EnergyCounter, device: torch.device) -> tuple[float, float, int]:
    """Joules, seconds and runs."""
    _finished(device)
    before, start, n = counter.read(), CLOCK.now(), 0
    while CLOCK.now() - start < WINDOW_S:
        run()
        _finished(device)
        n += 1
    return counter.between(before, counter.read()), CLOCK.now() - start, n


def _at_rest(counter: EnergyCounter, device: torch.device) -> float:
    """Watts."""
    _finished(device)
    before, start = counter.read(), CLOCK.now()
    CLOCK.sleep(IDLE_S)
    return counter.between(before, counter.read()) / (CLOCK.now() - start)


def _finished(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
