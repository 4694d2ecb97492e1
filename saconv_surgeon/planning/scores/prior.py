"""A score of one model's data, drawn towards what parts bring on average: few batches say little about single layers.

On the tasks of ``docs/payoff.md`` no score ranks single layers reliably, while the share of the whole gain that contexts bring is
much the same everywhere. So half of what is promised is shared out by the score, and half evenly over the layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from saconv_surgeon.planning.scores.baselines import is_whole
from saconv_surgeon.planning.scores.gains import Gains
from saconv_surgeon.records.budgeted_plan import Candidate, ScoreName

WEIGHT = 0.5
SHARES: Mapping[str, float] = {"contexts": 0.7, "branches": 0.4, "all": 1.0}
"""Of what a whole layer brings, by its parts: see ``docs/payoff.md``."""


@dataclass(frozen=True)
class DrawnToPrior:
    """``(1 - w) score + w E Σ share / layers``, with E what the score promises of all layers whole.

    Candidates without parts of their own, as other targets, are as the score has them. ``shares`` is by path and candidate.
    """

    score: Gains
    shares: Mapping[str, Mapping[str, float]]
    everything: float
    weight: float = WEIGHT

    @classmethod
    def of_candidates(cls, score: Gains, candidates: Mapping[str, Sequence[Candidate]]) -> Self:
        """The prior for what is offered; layers whose gain the score does not know have none."""
        known = {
            path: [c for c in own if score.beside({}, path, c.name) is not None] for path, own in candidates.items()
        }
        whole = {
            path: next((c.name for c in own if is_whole(c) and "parts" in c.options), None)
            for path, own in known.items()
        }
        everything = score.of({path: name for path, name in whole.items() if name is not None})
        layers = max(1, sum(name is not None for name in whole.values()))
        shares = {
            path: {c.name: SHARES[c.options["parts"]] / layers for c in own if c.options.get("parts") in SHARES}
            for path, own in known.items()
        }
        return cls(score, shares, max(everything, 0.0))

    @property
    def name(self) -> ScoreName:
        """See :class:`Gains`."""
        return self.score.name

    @property
    def unit(self) -> str:
        """See :class:`Gains`."""
        return self.score.unit

    def of(self, chosen: Mapping[str, str]) -> float:
        """See :class:`Gains`."""
        even = sum(self.shares.get(path, {}).get(name, 0.0) for path, name in chosen.items())
        return (1 - self.weight) * self.score.of(chosen) + self.weight * self.everything * even

    def beside(self, chosen: Mapping[str, str], path: str, name: str) -> float | None:
        """See :class:`Gains`."""
        found = self.score.beside(chosen, path, name)
        if found is None:
            return None
        even = self.shares.get(path, {}).get(name, 0.0)
        return (1 - self.weight) * found + self.weight * self.everything * even

    def why_unknown(self, path: str, name: str) -> str | None:
        """See :class:`Gains`."""
        return self.score.why_unknown(path, name)

    def to_dict(self) -> dict[str, Any]:
        """See :class:`Gains`: those of the score alone, since the prior follows from them."""
        return self.score.to_dict()
