"""How two variants differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from saconv_surgeon.records.pricing import LatencyRatio, Priced, Profile

DIFF_SCHEMA = "saconv-surgeon/diff/1"


@dataclass(frozen=True)
class StructureChange:
    """A module that is in one variant only (``"added"``, ``"removed"``) or differs in both (``"changed"``)."""

    path: str
    change: Literal["added", "removed", "changed"]
    a: str | None
    b: str | None


@dataclass(frozen=True)
class WeightChange:
    """A tensor of both variants that differs; ``relative`` = |b-a| / |a| in the 2-norm, None where it is not finite."""

    name: str
    relative: float | None


@dataclass(frozen=True)
class WeightDiff:
    """The two state dicts compared. ``changed`` has the largest change first."""

    equal: int
    changed: tuple[WeightChange, ...]
    only_in_a: tuple[str, ...]
    only_in_b: tuple[str, ...]
    reshaped: tuple[str, ...]


@dataclass(frozen=True)
class OutputDiff:
    """The outputs for the same inputs compared, as in :class:`Equivalence`."""

    bit_equal: bool
    max_abs: float | None
    max_rel: float | None
    cosine: float | None
    tensors: int
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Diff:
    """Two variants side by side. ``weights``, ``outputs`` and ``latency_ratio`` are None where only reports were compared."""

    a: Profile
    b: Profile
    structure: tuple[StructureChange, ...]
    weights: WeightDiff | None = None
    outputs: OutputDiff | None = None
    latency_ratio: LatencyRatio | None = None
    schema: str = DIFF_SCHEMA
    latency_ratios: tuple[LatencyRatio, ...] = ()
    training_ratio: LatencyRatio | None = None

    @property
    def priced(self) -> Priced:
        """The two profiles and their ratios."""
        ratios = self.latency_ratios or ((self.latency_ratio,) if self.latency_ratio else ())
        return Priced(self.a, self.b, ratios, self.training_ratio)
