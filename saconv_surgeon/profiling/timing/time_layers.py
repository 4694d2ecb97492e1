"""How long each module takes, in passes of their own: hooks cost time, so the rows are for comparing with each other."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.state import preserved
from saconv_surgeon.models.tree.copying import stand_in
from saconv_surgeon.profiling.timing.alternating_runs import FEWEST_RUNS
from saconv_surgeon.profiling.timing.module_calls import ModuleCalls
from saconv_surgeon.profiling.timing.time_models import FreshInputs, autocast, threads
from saconv_surgeon.records import Timing

WARMUPS, SHARE = 2, 4


def time_layers(model: nn.Module, inputs: Inputs, device: torch.device, timing: Timing) -> dict[str, float]:
    """Seconds that each module takes itself, without its children, in one forward pass in eval mode: medians over the passes.

    They take a quarter of the budget, with the threads and the autocast of ``timing``; compiled parts run as Python, since what
    ``torch.compile`` makes of a model has no modules any more. A converted layer is one module. Each layer finds in the caches
    what the one before it left there, as in a real pass: they are not flushed. Hooks are taken off again and the model is left as
    it was.
    """
    fresh = FreshInputs(inputs)
    with preserved(model), torch.no_grad(), threads(timing.threads), autocast(timing, device):
        subject = stand_in(model)
        with preserved(subject):
            passes = _passes(lambda: fresh.run(subject), fresh.renew, _StopWatch(subject, device), timing)
    return {path: float(np.median([taken.get(path, 0.0) for taken in passes])) for path in passes[0]}


def _passes(
    run: Callable[[], object], renew: Callable[[], None], watch: _StopWatch, timing: Timing
) -> list[dict[str, float]]:
    for _ in range(WARMUPS):
        renew()
        run()
    passes: list[dict[str, float]] = []
    try:
        watch.attach()
        start = time.perf_counter()
        while len(passes) < FEWEST_RUNS or time.perf_counter() - start < timing.budget_s / SHARE:
            renew()
            run()
            passes.append(watch.read())
    finally:
        watch.detach()
    return passes


class _StopWatch(ModuleCalls):
    """Records the time when a module starts and ends."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        super().__init__(model)
        self.device = device
        self.open: list[tuple[Any, list[tuple[Any, Any]]]] = []
        self.spans: list[tuple[str, tuple[Any, Any], list[tuple[Any, Any]]]] = []

    def read(self) -> dict[str, float]:
        """Of the pass that is over: each module's own time, added up over its calls."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        taken: dict[str, float] = {}
        for path, span, children in self.spans:
            own = seconds_of(span) - sum(map(seconds_of, children))
            taken[path] = taken.get(path, 0.0) + max(own, 0.0)
        self.spans, self.open, self.running = [], [], []
        return taken

    def entered(self) -> None:
        self.open.append((now(self.device), []))

    def left(self) -> None:
        start, children = self.open.pop()
        span = (start, now(self.device))
        self.spans.append((self.path, span, children))
        if self.open:
            self.open[-1][1].append(span)


def now(device: torch.device) -> Any:
    """A moment, of the clock or on the current stream of a CUDA device."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def seconds_of(span: tuple[Any, Any]) -> float:
    """Between two moments, once the device has finished."""
    start, end = span
    return float(end - start) if isinstance(start, float) else start.elapsed_time(end) / 1000
