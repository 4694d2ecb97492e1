"""The prices of one model, or of two beside each other, in one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from saconv_surgeon.models.inputs import Inputs
from saconv_surgeon.profiling.layer_times import time_layers
from saconv_surgeon.profiling.profiling import profile_model
from saconv_surgeon.profiling.timing import time_models
from saconv_surgeon.profiling.training import price_training
from saconv_surgeon.records import LatencyRatio, Profile, Timing

OnStep = Callable[[str, float], None]
"""Called with what is being done and how much of it is done, 0 to 1."""


@dataclass(frozen=True)
class Together:
    """The profile of each model; of two, the ratios of their latencies and of their training steps."""

    profiles: tuple[Profile, ...]
    latency_ratios: tuple[LatencyRatio, ...] = ()
    training_ratio: LatencyRatio | None = None

    @property
    def latency_ratio(self) -> LatencyRatio | None:
        """The first of them."""
        return next(iter(self.latency_ratios), None)


def profile_together(
    models: Sequence[nn.Module], inputs: Inputs, names: Sequence[str], timing: Timing | None, on_step: OnStep
) -> Together:
    """Times the models in turn before anything is counted, then counts each, then times its layers; ``timing`` None leaves time
    out.
    """
    device = device_of(models[0])
    timed, costs, training_ratio = None, None, None
    if timing is not None:
        timed = time_models(models, inputs, device, timing, lambda done: on_step("timing", done))
        if timing.training:
            costs, training_ratio = price_training(
                models, inputs, device, timing, lambda done: on_step("timing training steps", done)
            )
    profiles = []
    for i, (model, name) in enumerate(zip(models, names, strict=True)):
        on_step("counting", i / len(models))
        latencies, training = timed.latencies[i] if timed else (), costs[i] if costs else None
        profiles.append(profile_model(model, inputs, name=name, device=device, latencies=latencies, training=training))
    if timing is not None and timing.per_layer:
        for i, model in enumerate(models):
            on_step("timing layers", i / len(models))
            profiles[i] = _with_layer_times(profiles[i], model, inputs, timing)
    return Together(tuple(profiles), timed.ratios if timed else (), training_ratio)


def device_of(model: nn.Module) -> torch.device:
    """Where the first parameter or buffer of ``model`` is; the CPU where it has none."""
    first = next(iter(model.parameters()), next(iter(model.buffers()), None))
    return torch.device("cpu") if first is None else first.device


def _with_layer_times(profile: Profile, model: nn.Module, inputs: Inputs, timing: Timing) -> Profile:
    seconds = time_layers(model, inputs, device_of(model), timing)
    return replace(profile, layers=tuple(replace(row, latency_s=seconds.get(row.path)) for row in profile.layers))
