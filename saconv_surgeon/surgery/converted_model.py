"""The result of a conversion: the converted model with everything that is known about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from saconv_surgeon.records import (
    CONVERSION_SCHEMA,
    Equivalence,
    Explained,
    LatencyRatio,
    Plan,
    Priced,
    Profile,
    to_dict,
)


@dataclass(frozen=True, eq=False)
class Conversion:
    """A converted model, the plan that was carried out, and the proof that it computes the same.

    ``explained`` is set if the target cannot preserve the function: how much of the outputs is kept.
    ``before``, ``after`` and ``latency_ratio`` are None until the conversion was priced; ``latency_ratios`` has one ratio for
    each batch size, ``training_ratio`` is that of a training step, if one was timed. ``base_tensors`` has the sha256 of each
    tensor of the original, so that a conversion can be saved without those; None if the original is not at hand.
    """

    BECAME: ClassVar[str] = "converted"

    model: nn.Module
    plan: Plan
    equivalence: Equivalence
    before: Profile | None = None
    after: Profile | None = None
    latency_ratio: LatencyRatio | None = None
    latency_ratios: tuple[LatencyRatio, ...] = ()
    training_ratio: LatencyRatio | None = None
    energy_ratio: LatencyRatio | None = None
    explained: Explained | None = None
    base_tensors: Mapping[str, str] | None = None

    @property
    def acceptable(self) -> bool:
        """Whether the outputs are as the target promises: the same, or at least finite and of the same form."""
        return self.equivalence.passed or (self.explained is not None and not self.explained.problems)

    @property
    def converted(self) -> int:
        """How many convolutions were replaced."""
        return self.plan.ledger.converted

    @property
    def priced(self) -> Priced | None:
        """The profiles before and after with their ratios; None until the conversion was priced."""
        if self.before is None or self.after is None:
            return None
        return Priced(self.before, self.after, self.latency_ratios, self.training_ratio, self.energy_ratio)

    def to_dict(self) -> dict[str, Any]:
        """The ``saconv-surgeon/conversion/1`` record, ready for JSON."""
        ledger = self.plan.ledger
        return {
            "schema": CONVERSION_SCHEMA,
            "target": self.plan.target,
            "options": to_dict(self.plan.options),
            "init": self.plan.init,
            "preserves_function": self.plan.init is None,
            "converted": ledger.converted,
            "refused": ledger.refused,
            "executed": ledger.executed,
            "never_ran": ledger.never_ran,
            "base": to_dict(self.plan.base),
            "inputs": to_dict(self.plan.inputs),
            "tool_version": self.plan.tool_version,
            "torch_version": self.plan.torch_version,
            "sites": to_dict(self.plan.sites),
            "equivalence": to_dict(self.equivalence),
            "explained": to_dict(self.explained),
            "before": to_dict(self.before),
            "after": to_dict(self.after),
            "latency_ratio": to_dict(self.latency_ratio),
            "latency_ratios": to_dict(self.latency_ratios),
            "training_ratio": to_dict(self.training_ratio),
            "energy_ratio": to_dict(self.energy_ratio),
        }
