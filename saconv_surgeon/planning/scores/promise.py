"""The story of ``--score promise``: gradients of every part at the start, from a few dozen batches, tried on their other half."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from saconv_surgeon.errors import UsageError
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.state import preserved, seed_all
from saconv_surgeon.models.tree.wrappers import unwrapped
from saconv_surgeon.planning.scores.batch_losses import BatchLosses, Loss, at_least_two
from saconv_surgeon.planning.scores.candidate_parts import BRANCHES, CONTEXTS, halves_of
from saconv_surgeon.planning.scores.held_out import Matrix, cross_fitted, halves
from saconv_surgeon.planning.scores.overlapping import Effect, OverlappingGains
from saconv_surgeon.planning.scores.part_gradients import Part
from saconv_surgeon.planning.scores.watching import Rows, Watch
from saconv_surgeon.records import Plan
from saconv_surgeon.records.budgeted_plan import Candidate
from saconv_surgeon.records.progress import OnStep, silent
from saconv_surgeon.surgery.rewriting import apply

MOST_ROWS = 128
"""Samples are taken together in groups if there are more: so many gradients of each part are in memory."""
HALF_OF: Mapping[Part, str] = {"pre_context": CONTEXTS, "post_context": CONTEXTS, "switch": BRANCHES, "wide": BRANCHES}
STEP = "gradients"


def promise(
    model: nn.Module,
    plan: Plan,
    candidates: Mapping[str, Sequence[Candidate]],
    batches: Iterable[Any],
    loss: Loss,
    inputs_of: Callable[[Any], Inputs],
    *,
    seed: int = 0,
    on_step: OnStep = silent,
) -> OverlappingGains:
    """What the gradients of ``loss`` at the start promise of every candidate. ``model`` is left as it was.

    One forward and one backward pass of the plain model for each batch; of its parameters no gradient is computed.

    Args:
        model: The model before surgery.
        plan: All its sites.
        candidates: By path, what the layer may become.
        batches: At least two. A row is kept of each of their samples, or groups of samples.
        loss: ``loss(output, batch)``, a scalar.
        inputs_of: What the model is run on, of a batch.
        seed: Of the random numbers that the model draws, the projections and the halves.
        on_step: Called after every batch.

    Raises:
        UsageError: There is one batch; the loss is no scalar, is not finite, or depends on no layer.
        UserCodeError: The loss raised.
        ModelError: The model cannot be copied or run.
    """
    found = at_least_two(batches)
    original = unwrapped(model)
    copied = apply(original, _own_classes_only(original, plan, candidates))
    inputs = [inputs_of(batch) for batch in found[:1]]
    rows_of = _rows(len(found), inputs[0].batch or 1)
    watch = Watch(copied, {path: seed + i for i, path in enumerate(candidates)}, rows_of[-1].stop)
    losses = BatchLosses(original, copied, loss, inputs_of)
    with preserved(original), watch.watching(), torch.enable_grad():
        seed_all(seed)
        for i, (batch, rows) in enumerate(zip(found, rows_of, strict=True)):
            on_step(STEP, i / len(found))
            watch.next_batch(rows, inputs_of(batch).batch or 1)
            torch.autograd.grad(losses(batch), watch.token, allow_unused=True)
    on_step(STEP, 1.0)
    if not any(each.reached for each in watch.rows.values()):
        raise UsageError("the loss does not depend on any of the layers: its gradient at all of them is zero")
    of_row = tuple(i for i, rows in enumerate(rows_of) for _ in range(rows.start, rows.stop))
    return _gains(plan, candidates, watch.rows, of_row, seed)


def _own_classes_only(model: nn.Module, plan: Plan, candidates: Mapping[str, Any]) -> Plan:
    """Converts only what is a convolution of another class, with norms inside for one; the others are watched as they are."""
    sites = tuple(
        replace(site, decision="convert", target=None, options=None, absorbs={})
        for site in plan.sites
        if site.path in candidates and type(model.get_submodule(site.path)) is not nn.Conv2d
    )
    return replace(plan, target="saconv", options={}, sites=sites)


def _rows(batches: int, samples: int) -> list[slice]:
    """The rows of each batch."""
    each = max(1, min(samples, MOST_ROWS // batches))
    return [slice(i * each, (i + 1) * each) for i in range(batches)]


def _gains(
    plan: Plan,
    candidates: Mapping[str, Sequence[Candidate]],
    rows: Mapping[str, Rows],
    of_row: tuple[int, ...],
    seed: int,
) -> OverlappingGains:
    sites = {site.path: site for site in plan.sites}
    ways = halves(of_row, seed=seed)
    effects = {
        path: {part: Effect.of(*cross_fitted(gram, ways)) for part, gram in _grams(each).items()}
        for path, each in rows.items()
        if each.why_none is None
    }
    parts: dict[str, dict[str, tuple[str, ...]]] = {path: {} for path in candidates}
    reasons: dict[str, dict[str, str]] = {path: {} for path in candidates}
    for path, offered in candidates.items():
        for candidate in offered:
            wanted, why = halves_of(candidate, sites.get(path))
            if wanted is not None and not set(wanted) <= set(effects.get(path, {})):
                wanted, why = None, rows[path].why_none or "its map is too small for a wide branch"
            if wanted is None:
                reasons[path][candidate.name] = why or ""
            else:
                parts[path][candidate.name] = wanted
    return OverlappingGains(effects, parts, reasons)


def _grams(rows: Rows) -> dict[str, Matrix]:
    """By half, the sum of the matrices of its parts."""
    sums: dict[str, Tensor] = {}
    for part, gradients in rows.parts.items():
        white = gradients.whitened()
        gram = white @ white.T
        half = HALF_OF[part]
        sums[half] = gram if half not in sums else sums[half] + gram
    return {half: gram.numpy() for half, gram in sums.items()}
