"""The result of folding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn

from saconv_surgeon._version import __version__
from saconv_surgeon.records import (
    FOLDING_SCHEMA,
    Base,
    Equivalence,
    FoldedLayer,
    FoldLedger,
    LatencyRatio,
    OutputDiff,
    Priced,
    Profile,
    RecordedInputs,
    to_dict,
)


@dataclass(frozen=True, eq=False)
class Folding:
    """A folded model in eval mode, what became of every layer, and the proof that it computes the same.

    ``twin`` folds another copy of the model in the same way. ``equivalence`` is None if there were no inputs to prove anything
    on. With a ``tolerance``, it is about the model without what was removed, and ``cost`` says how far the outputs moved
    by that. ``inputs`` describes what it was proved on. The rest is None until it was priced.
    """

    BECAME: ClassVar[str] = "folded"

    model: nn.Module
    layers: tuple[FoldedLayer, ...]
    twin: Callable[[nn.Module], nn.Module] = field(repr=False)
    equivalence: Equivalence | None = None
    tolerance: float | None = None
    cost: OutputDiff | None = None
    base: Base = Base()  # noqa: RUF009 - frozen
    before: Profile | None = None
    after: Profile | None = None
    latency_ratio: LatencyRatio | None = None
    latency_ratios: tuple[LatencyRatio, ...] = ()
    training_ratio: LatencyRatio | None = None
    energy_ratio: LatencyRatio | None = None
    inputs: RecordedInputs | None = None

    @property
    def acceptable(self) -> bool:
        """Whether the outputs are the same; True if they were not compared."""
        return self.equivalence is None or self.equivalence.passed

    @property
    def ledger(self) -> FoldLedger:
        """The sums over the layers."""
        return FoldLedger.of(self.layers)

    @property
    def changed(self) -> int:
        """How many layers were changed."""
        return sum(layer.changed for layer in self.layers)

    @property
    def priced(self) -> Priced | None:
        """The profiles before and after with their ratios; None until the folding was priced."""
        if self.before is None or self.after is None:
            return None
        return Priced(self.before, self.after, self.latency_ratios, self.training_ratio, self.energy_ratio)

    def to_dict(self) -> dict[str, Any]:
        """The ``saconv-surgeon/folding/1`` record, ready for JSON."""
        return {
            "schema": FOLDING_SCHEMA,
            **to_dict(self.ledger),
            "folded": [to_dict(layer) for layer in self.layers],
            "equivalence": to_dict(self.equivalence),
            "tolerance": self.tolerance,
            "cost": to_dict(self.cost),
            "base": to_dict(self.base),
            "inputs": to_dict(self.inputs),
            "tool_version": __version__,
            "torch_version": str(torch.__version__),
            "before": to_dict(self.before),
            "after": to_dict(self.after),
            "latency_ratio": to_dict(self.latency_ratio),
            "latency_ratios": to_dict(self.latency_ratios),
            "training_ratio": to_dict(self.training_ratio),
            "energy_ratio": to_dict(self.energy_ratio),
        }
