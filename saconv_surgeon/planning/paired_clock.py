"""Times a variant against the original model, in turn, in several draws with copies of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.run import rehearse
from saconv_surgeon.models.tree.copying import copy_model
from saconv_surgeon.planning.undisturbed import ProcessorTime, undisturbed
from saconv_surgeon.profiling.profile import device_of
from saconv_surgeon.profiling.timing.alternating_runs import Run
from saconv_surgeon.profiling.timing.time_models import FreshInputs, forward_run, time_alternately
from saconv_surgeon.profiling.timing.training_step import step_run
from saconv_surgeon.profiling.timing.verdicts import ratio_of
from saconv_surgeon.records import LatencyRatio, Mode, Timing

DRAW_S = 2.0
"""Seconds of one draw."""
MOST_DRAWS = 4
NARROW = 0.01
"""Half an interval that needs no more draws, relative."""


@dataclass
class Pairs:
    """Seconds of runs of the original, and of the runs of the variant beside them."""

    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> LatencyRatio:
        """The paired ratio, with its interval."""
        return ratio_of(self.before, self.after)

    @property
    def original_s(self) -> float:
        """The median of the original."""
        return float(np.median(self.before))


@dataclass
class PairedClock:
    """Times variants of ``model``, which is left as it was. ``before`` collects all runs of the original, by figure."""

    model: nn.Module
    inputs: Inputs
    draw_s: float = DRAW_S
    originals: dict[str, list[float]] = field(default_factory=dict)

    def original_s(self, figure: str) -> float:
        """The median over all runs of the original so far; it is timed if there are none.

        Raises:
            ModelError: It cannot be trained, if ``figure`` is ``"training"``.
        """
        if not self.originals.get(figure):
            self.pairs(self.model, figure, draws=1)
        return float(np.median(self.originals[figure]))

    def pairs(
        self, variant: nn.Module, figure: str, *, near: Callable[[LatencyRatio], bool] | None = None, draws: int = 0
    ) -> Pairs:
        """Pairs from so many draws; for 0, until the interval is narrow (after two) or far from what matters, or four were made.

        Each draw times copies: the places of weights in memory make a difference of a per cent or two between two equal models,
        which another process would see and one pair of models would not.
        """
        found = Pairs()
        for i in range(draws or MOST_DRAWS):
            self._draw(variant, figure, found)
            if draws == 0 and _settled(found.ratio, near, first=i == 0):
                break
        self.originals.setdefault(figure, []).extend(found.before)
        return found

    def _draw(self, variant: nn.Module, figure: str, pairs: Pairs) -> None:
        mode: Mode = "train" if figure == "training" else "eval"
        models = [copy_model(self.model), copy_model(variant)]
        for model in models:
            rehearse(model, self.inputs, mode)
        timing, device = Timing(budget_s=self.draw_s, per_layer=False), device_of(self.model)
        meters: list[ProcessorTime] = []

        def made(called: Callable[..., Any], model: nn.Module, inputs: FreshInputs) -> Run:
            meters.append(ProcessorTime())
            return meters[-1].of((step_run if mode == "train" else forward_run)(called, model, inputs))

        with torch.set_grad_enabled(mode == "train"):
            samples = time_alternately(models, self.inputs, device, timing, made, mode)
        before, after = undisturbed(samples, meters, device)
        pairs.before += before.tolist()
        pairs.after += after.tolist()


def _settled(ratio: LatencyRatio, near: Callable[[LatencyRatio], bool] | None, *, first: bool) -> bool:
    """After the first draw only if the ratio is far from what matters: a narrow interval does not know of other copies."""
    if ratio.coverage is None:
        return False
    far = near is not None and not near(ratio)
    return far or (not first and ratio.high - ratio.low <= 2 * NARROW * ratio.median)
