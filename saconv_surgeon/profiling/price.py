"""The story of ``price``: the profiles of a model before and after surgery, timed in turn in one run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Protocol, TypeVar

from torch import nn

from saconv_surgeon.models.loading.in_memory import check_weights, opened
from saconv_surgeon.profiling.profile import profile_together
from saconv_surgeon.records import Timing
from saconv_surgeon.records.progress import OnStep


class Made(Protocol):
    """What can be priced: a dataclass with the fields ``before``, ``after`` and those of the ratios."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    BECAME: ClassVar[str]
    """What happened to the model: ``converted``, ``folded``."""

    @property
    def model(self) -> nn.Module:
        """The new model."""


M = TypeVar("M", bound=Made)


def price_made(
    made: M, original: nn.Module, example_inputs: Any, *, name: str | None, timing: Timing | None, on_step: OnStep
) -> M:
    """See :func:`saconv_surgeon.price`."""
    original, inputs = opened(original, example_inputs)
    check_weights(original)
    label = name or type(original).__name__
    found = profile_together((original, made.model), inputs, (label, f"{label}, {made.BECAME}"), timing, on_step)
    return replace(
        made,
        before=found.profiles[0],
        after=found.profiles[1],
        latency_ratio=found.latency_ratio,
        latency_ratios=found.latency_ratios,
        training_ratio=found.training_ratio,
        energy_ratio=found.energy_ratio,
    )
