"""Timings on a machine that does other work as well: which rounds were disturbed, and what the process itself took."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from saconv_surgeon.profiling.timing.alternating_runs import Run, Samples
from saconv_surgeon.records import ENOUGH

WAITED = 0.02
"""A run that waited for the processor for a larger share of its time was disturbed."""
RESOLUTION_S = 2e-5


@dataclass
class ProcessorTime:
    """Seconds of the processor that the stages of one callable took, beside what the clock on the wall says."""

    seconds: list[float] = field(default_factory=list)

    def of(self, run: Run) -> Run:
        """``run``, whose stages are noted."""
        return Run([self._noted(stage) for stage in run.stages], run.prepare)

    def _noted(self, stage: Callable[[], object]) -> Callable[[], None]:
        def noted() -> None:
            start = time.process_time()
            stage()
            self.seconds.append(time.process_time() - start)

        return noted

    def totals(self, samples: Samples) -> np.ndarray:
        """Of the runs in ``samples``; those before were for warming up."""
        stages, n = len(samples.stages), len(samples.totals)
        return np.array(self.seconds[-stages * n :]).reshape(n, stages).sum(axis=1)


def undisturbed(
    samples: Sequence[Samples], processor: Sequence[ProcessorTime], device: torch.device
) -> list[np.ndarray]:
    """Seconds of the runs of each callable, round by round.

    With one thread, the rounds in which none had to wait for the processor; if these are fewer than make an interval, the time of
    the processor in all rounds: what they would have taken alone. With several threads, which wait for each other, and on other
    devices, all rounds as they are.
    """
    walls = [np.array(s.totals) for s in samples]
    if device.type != "cpu" or torch.get_num_threads() != 1:
        return walls
    used = [p.totals(s) for p, s in zip(processor, samples, strict=True)]
    waited = np.array([wall - own > WAITED * wall + RESOLUTION_S for wall, own in zip(walls, used, strict=True)])
    calm = ~waited.any(axis=0)
    return [wall[calm] for wall in walls] if calm.sum() >= ENOUGH else used
