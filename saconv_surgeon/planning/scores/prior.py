"""A score of one model's data, drawn towards what parts bring on average: few batches say little about single layers.

**Which** part is worth having is known from experiments with controls, since scores at the start rate the wide branch too high:
there it counts as if it were switched on already. **Where** it is worth having no score told better than an even spread over the
layers, on the tasks of ``docs/payoff.md``; so the score has a fifth of the say: half by what layers gain together, half by what
each gains alone, since the steps of a training overlap less than first steps do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from saconv_surgeon.planning.scores.gains import Gains
from saconv_surgeon.records.budgeted_plan import Candidate, ScoreName

EVEN = 0.8
CONTEXTS, BRANCHES, WHOLE = "contexts", "branches", "all"
SHARES: Mapping[str, float] = {CONTEXTS: 0.84, BRANCHES: 0.35, WHOLE: 1.0}
"""Of what whole layers bring, by their parts: the mean of two tasks of an earlier experiment, none of ``docs/payoff.md``."""


@dataclass(frozen=True)
class DrawnToPrior:
    """With E what the score promises of all layers whole, and n the number of layers,

        E Σ share f(layers with the part),
        f(S) = (1 - w) (score(S) / score(all) + Σ score(p) / Σ score(q)) / 2 + w |S| / n,

    summed over contexts, branches, and what branches add to contexts in whole layers; score is that of the part alone, p in S
    and q in all layers. Candidates without parts of their own, as other targets, are as the score has them.

    Args:
        score: The score.
        parts: By path and candidate, the part: ``"contexts"``, ``"branches"`` or ``"all"``.
        names: By part and path, the candidate that the score knows for it.
        everything: E.
        weight: w.
    """

    score: Gains
    parts: Mapping[str, Mapping[str, str]]
    names: Mapping[str, Mapping[str, str]]
    everything: float
    weight: float = EVEN

    @classmethod
    def of_candidates(cls, score: Gains, candidates: Mapping[str, Sequence[Candidate]]) -> Self:
        """The prior for what is offered; layers whose gain the score does not know have none."""
        parts = {
            path: {
                c.name: c.options["parts"]
                for c in own
                if c.options.get("parts") in SHARES and score.beside({}, path, c.name) is not None
            }
            for path, own in candidates.items()
        }
        names: dict[str, dict[str, str]] = {part: {} for part in SHARES}
        for path, own in parts.items():
            for name, part in own.items():
                names[part].setdefault(path, name)
        return cls(score, parts, names, max(score.of(names[WHOLE]), 0.0))

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
        having: dict[str, list[str]] = {part: [] for part in SHARES}
        others = {}
        for path, name in chosen.items():
            part = self.parts.get(path, {}).get(name)
            if part is None:
                others[path] = name
            else:
                having[part].append(path)
        share = (
            SHARES[CONTEXTS] * self._share(CONTEXTS, [*having[CONTEXTS], *having[WHOLE]])
            + SHARES[BRANCHES] * self._share(BRANCHES, having[BRANCHES])
            + (SHARES[WHOLE] - SHARES[CONTEXTS]) * self._share(BRANCHES, having[WHOLE])
        )
        return self.everything * share + (self.score.of(others) if others else 0.0)

    def beside(self, chosen: Mapping[str, str], path: str, name: str) -> float | None:
        """See :class:`Gains`."""
        if self.score.beside({}, path, name) is None:
            return None
        others = {p: n for p, n in chosen.items() if p != path}
        return self.of(others | {path: name}) - self.of(others)

    def why_unknown(self, path: str, name: str) -> str | None:
        """See :class:`Gains`."""
        return self.score.why_unknown(path, name)

    def to_dict(self) -> dict[str, Any]:
        """See :class:`Gains`: those of the score alone, since the prior follows from them."""
        return self.score.to_dict()

    def _share(self, part: str, paths: Sequence[str]) -> float:
        """f of layers that have a part. A layer of which the part alone is not offered counts as an average one."""
        if not paths:
            return 0.0
        known = self.names[part]
        count = max(len(known), len(self.names[WHOLE]), 1)
        even = len(paths) / count
        alone, most = self._known[part]
        total = sum(alone.values())
        if not (most > 0 and total > 0):
            return even
        together = self._together(part, frozenset(path for path in paths if path in known)) / most
        apart = sum(alone.get(path, 0.0) for path in paths) / total
        unknown = sum(path not in known for path in paths) / count
        return (1 - self.weight) * ((together + apart) / 2 + unknown) + self.weight * even

    @cached_property
    def _known(self) -> dict[str, tuple[dict[str, float], float]]:
        """By part, what each layer gains by it alone, and all together."""
        return {
            part: ({p: max(self.score.of({p: n}), 0.0) for p, n in names.items()}, self.score.of(names))
            for part, names in self.names.items()
        }

    @cached_property
    def _seen(self) -> dict[tuple[str, frozenset[str]], float]:
        """What was asked of the score: swaps of layers ask the same again and again."""
        return {}

    def _together(self, part: str, paths: frozenset[str]) -> float:
        key = (part, paths)
        if key not in self._seen:
            self._seen[key] = self.score.of({path: self.names[part][path] for path in paths}) if paths else 0.0
        return self._seen[key]
