"""What surgery hands over: the converted model with everything that is known about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from saconv_surgeon.records import CONVERSION_SCHEMA, Equivalence, LatencyRatio, Plan, Profile, to_dict


@dataclass(frozen=True, eq=False)
class Conversion:
    """A converted model, the plan that was carried out, and the proof that it computes the same.

    ``before``, ``after`` and ``latency_ratio`` are None until the conversion was priced.
    """

    model: nn.Module
    plan: Plan
    equivalence: Equivalence
    before: Profile | None = None
    after: Profile | None = None
    latency_ratio: LatencyRatio | None = None

    @property
    def converted(self) -> int:
        """How many convolutions were replaced."""
        return self.plan.ledger.converted

    def to_dict(self) -> dict[str, Any]:
        """The ``saconv-surgeon/conversion/1`` record, ready for JSON."""
        ledger = self.plan.ledger
        return {
            "schema": CONVERSION_SCHEMA,
            "target": self.plan.target,
            "converted": ledger.converted,
            "refused": ledger.refused,
            "executed": ledger.executed,
            "never_ran": ledger.never_ran,
            "base": to_dict(self.plan.base),
            "tool_version": self.plan.tool_version,
            "torch_version": self.plan.torch_version,
            "sites": to_dict(self.plan.sites),
            "equivalence": to_dict(self.equivalence),
            "before": to_dict(self.before),
            "after": to_dict(self.after),
            "latency_ratio": to_dict(self.latency_ratio),
        }
