"""Scores that were tried beside those of the package, for the evidence. Each gives what ``planning/scores`` gives.

``SCORERS`` has all of them, those of the package too, by name, each to be called as
``scorer(model, plan, candidates, batches, loss, inputs_of, seed=0)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from saconv_surgeon.models.running.state import preserved, seed_all
from saconv_surgeon.planning.scores import baselines, promise, short_training
from saconv_surgeon.planning.scores.batch_losses import BatchLosses
from saconv_surgeon.planning.scores.candidate_parts import BRANCHES, CONTEXTS, halves_of
from saconv_surgeon.planning.scores.gains import Gains, SumOfGains
from saconv_surgeon.planning.scores.probe import _converted, _probed, probe
from saconv_surgeon.planning.scores.watching import Rows
from saconv_surgeon.records import Plan
from saconv_surgeon.records.budgeted_plan import Candidate

Candidates = Mapping[str, Sequence[Candidate]]
Scorer = Callable[..., Gains]


def summed(by_part: Mapping[tuple[str, str], float], plan: Plan, candidates: Candidates, unit: str) -> SumOfGains:
    """Gains that add up, from those of single parts."""
    sites = {site.path: site for site in plan.sites}
    gains: dict[str, dict[str, float]] = {}
    for path, offered in candidates.items():
        for candidate in offered:
            parts = halves_of(candidate, sites.get(path))[0]
            if parts is not None and all((path, part) in by_part for part in parts):
                gains.setdefault(path, {})[candidate.name] = sum((by_part[path, part] for part in parts), 0.0)
    return SumOfGains("promise", unit, gains)


def promise_single(
    model: Any, plan: Plan, candidates: Candidates, batches: Any, loss: Any, inputs_of: Any, *, seed: int = 0
) -> Gains:
    """The promise of each candidate alone, as if nothing overlapped."""
    found = promise.promise(model, plan, candidates, batches, loss, inputs_of, seed=seed)
    gains = {
        p: {c.name: g for c in offered if (g := found.beside({}, p, c.name)) is not None}
        for p, offered in candidates.items()
    }
    return SumOfGains("promise", found.unit, gains)


def _of_rows(
    score: Callable[[torch.Tensor], float],
    model: Any, plan: Plan, candidates: Candidates, batches: Any, loss: Any, inputs_of: Any, *, seed: int = 0,
) -> Gains:  # fmt: skip
    """``score`` of the gradients of every part, (rows, parameters), not whitened; those of a half are added."""
    kept: dict[str, Rows] = {}
    original = promise._gains

    def keep(plan: Plan, candidates: Candidates, rows: Mapping[str, Rows], of_row: tuple[int, ...], seed: int) -> Any:
        kept.update(rows)
        return original(plan, candidates, rows, of_row, seed)

    promise._gains = keep
    try:
        promise.promise(model, plan, candidates, batches, loss, inputs_of, seed=seed)
    finally:
        promise._gains = original
    sums: dict[tuple[str, str], float] = {}
    for path, rows in kept.items():
        for part, gradients in rows.parts.items():
            key = path, promise.HALF_OF[part]
            sums[key] = sums.get(key, 0.0) + score(gradients.rows.flatten(1).double())
    return summed(sums, plan, candidates, "score")


def squared_gradient(rows: torch.Tensor) -> float:
    """|g|², without holding anything out."""
    return float(rows.mean(0).square().sum())


def split_diagonal_fisher(rows: torch.Tensor) -> float:
    """Σ g_a g_b / F over all pairs of different rows, with F the diagonal Fisher matrix: ½ gᵀF⁻¹g without its bias."""
    n = len(rows)
    fisher = rows.square().mean(0)
    pairs = (rows.sum(0).square() - rows.square().sum(0)) / (n * (n - 1))
    return float((0.5 * pairs / (fisher + 1e-3 * fisher.mean())).sum())


def split_gradient(rows: torch.Tensor) -> float:
    """Σ g_a g_b over all pairs of different rows: |g|² without its bias."""
    n = len(rows)
    return float(((rows.sum(0).square() - rows.square().sum(0)) / (n * (n - 1))).sum())


def probe_spread(
    model: Any,
    plan: Plan,
    candidates: Candidates,
    batches: Any,
    loss: Any,
    inputs_of: Any,
    *,
    seed: int = 0,
    steps: int = 40,
) -> Gains:
    """After a short training, the spread of the switch for branches; for contexts, how far they move the output."""
    batches = list(batches)
    probed = {path: chosen for path, offered in candidates.items() if (chosen := _probed(offered)) is not None}
    training = short_training.ShortTraining(_converted(model, plan, probed), probed, None, steps, (1e-3, 3e-3))
    losses = BatchLosses(model, training.model, loss, inputs_of)
    spread: dict[str, list[float]] = {path: [] for path in training.layers}
    with preserved(model), torch.enable_grad():
        seed_all(seed)
        for t in range(steps - 4):
            training.step(losses(batches[t % len(batches)]))
        with short_training.watching(training.layers) as moved:
            for t in range(steps - 4, steps):
                with _switches(training.layers, spread):
                    value = losses(batches[t % len(batches)])
                training.step(value)
    sums = {(path, CONTEXTS): each.share(CONTEXTS) for path, each in moved.items()}
    sums |= {(path, BRANCHES): sum(values) / len(values) for path, values in spread.items() if values}
    return summed(sums, plan, candidates, "spread of the switch, share moved")


class _switches:
    """Inside, notes the spread of every switch that is computed."""

    def __init__(self, layers: Mapping[str, Any], spread: Mapping[str, list[float]]) -> None:
        self.layers, self.spread = layers, spread

    def __enter__(self) -> None:
        for path, layer in self.layers.items():
            vars(layer)["switch_at"] = partial(self.note, path, layer.switch_at)

    def __exit__(self, *_: object) -> None:
        for layer in self.layers.values():
            del vars(layer)["switch_at"]

    def note(self, path: str, compute: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:
        """The switch itself."""
        switch = compute(*args, **kwargs)
        self.spread[path].append(float(switch.detach().std()))
        return switch


def probe_shared_out(
    model: Any,
    plan: Plan,
    candidates: Candidates,
    batches: Any,
    loss: Any,
    inputs_of: Any,
    *,
    seed: int = 0,
    steps: int = 40,
) -> Gains:
    """Minus what a part moved in each step times its gradient on the next batch. The old weights rest."""
    batches = list(batches)
    probed = {path: chosen for path, offered in candidates.items() if (chosen := _probed(offered)) is not None}
    training = short_training.ShortTraining(_converted(model, plan, probed), probed, None, steps, (0.0, 3e-4))
    losses = BatchLosses(model, training.model, loss, inputs_of)
    sums = dict.fromkeys(training.parts, 0.0)
    moved: dict[tuple[str, str], list[torch.Tensor]] = {}
    with preserved(model), torch.enable_grad():
        seed_all(seed)
        for t in range(steps):
            before = {key: [p.detach().clone() for p in each] for key, each in training.parts.items()}
            training.step(losses(batches[t % len(batches)]))
            for key, changes in moved.items():
                pairs = zip(training.parts[key], changes, strict=True)
                sums[key] -= sum(float((p.grad * change).sum()) for p, change in pairs if p.grad is not None)
            moved = {
                key: [p.detach() - old for p, old in zip(training.parts[key], olds, strict=True)]
                for key, olds in before.items()
            }
    return summed(sums, plan, candidates, "loss")


def _without_data(score: Callable[..., Gains], *, seeded: bool = False) -> Scorer:
    def scorer(model: Any, plan: Plan, candidates: Candidates, *data: Any, seed: int = 0) -> Gains:
        return score(plan, candidates, seed=seed) if seeded else score(plan, candidates)

    return scorer


SCORERS: dict[str, Scorer] = {
    "promise": promise.promise,
    "promise-single": promise_single,
    "split-fisher": partial(_of_rows, split_diagonal_fisher),
    "split-gradient": partial(_of_rows, split_gradient),
    "gradient": partial(_of_rows, squared_gradient),
    "probe": probe,
    "probe-rounds": partial(probe, rounds=2),
    "probe-spread": probe_spread,
    "probe-shared-out": probe_shared_out,
    "depth": _without_data(baselines.depth),
    "stages": _without_data(baselines.stages),
    "random": _without_data(baselines.random, seeded=True),
    "random-parts": _without_data(partial(baselines.random, parts=True), seeded=True),
}
