"""The story of ``fold``: take out what hardly contributes, fold every layer, prove that the outputs stay.

What turns out not to be called, or without which the model cannot run, is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from saconv_surgeon.comparing.aligning import align
from saconv_surgeon.comparing.outputs import compare_outputs
from saconv_surgeon.comparing.parts_of_model import tree
from saconv_surgeon.errors import ModelError, UsageError, first_line
from saconv_surgeon.folding.fold_layers import WITHOUT_NORMS, FoldedTree, fold_layers
from saconv_surgeon.folding.folded_model import Folding
from saconv_surgeon.folding.simplifying import Removed, simplify
from saconv_surgeon.models.loading.in_memory import check_weights, opened
from saconv_surgeon.models.running.borrowed import own_tensors_only
from saconv_surgeon.models.running.described_inputs import described
from saconv_surgeon.models.running.difference import compare
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.run import rehearse, run
from saconv_surgeon.models.running.state import exact_convolutions
from saconv_surgeon.models.running.trial_inputs import Redraw
from saconv_surgeon.models.tree.copying import copy_model
from saconv_surgeon.records import Base, Equivalence, FoldedLayer
from saconv_surgeon.records.progress import OnStep
from saconv_surgeon.surgery.eligibility import HELD_OUTSIDE
from saconv_surgeon.surgery.equivalence import TOLERANCE, prove, unreached

MOVED = "with its norms folded the model computes something else"
ROUNDING = "in float64 nothing moves: what is seen is the rounding of float32, which this model magnifies"
WITHOUT_REMOVED = "compared with the model without what was taken out of it"
EXACT = 1e-10
MOST_ROUNDING = 1e-3
"""Beyond this, relative to the largest output, no float64 run excuses float32."""

Prove = Callable[[FoldedTree], Equivalence]
"""Compares a folded model with what it was made from."""


def fold_model(
    model: nn.Module,
    example_inputs: Any,
    *,
    fold_norms: bool,
    tolerance: float | None,
    trials: int,
    allowed: float | None,
    seed: int,
    base: Base | None,
    redraw: Redraw | None,
    on_step: OnStep,
) -> Folding:
    """See :func:`saconv_surgeon.fold`."""
    _check_tolerance(tolerance, example_inputs)
    model, inputs = opened(model, () if example_inputs is None else example_inputs)
    check_weights(model)
    if example_inputs is None:
        made = fold_layers(model, None, fold_norms=fold_norms)
        again = partial(folded_twin, inputs=None, fold_norms=fold_norms)
        return Folding(made.model, made.layers, again, base=base or Base())
    rehearse(model, inputs)
    subject, cost = model, None
    removed: dict[str, Removed] = {}
    if tolerance is not None:
        subject, removed = simplify(model, inputs, tolerance, seed, lambda done: on_step("simplifying", done))
        cost = compare_outputs(model, subject, align(tree(model), tree(subject)), inputs, seed)
    on_step("folding", 0.0)
    limit = allowed_for(model) if allowed is None else allowed

    def proved(made: FoldedTree) -> Equivalence:
        return prove(
            subject,
            made.model,
            inputs,
            paths=list(made.following),
            trials=trials,
            tolerance=limit,
            seed=seed,
            following=made.following,
            redraw=redraw,
            on_trial=lambda done: on_step("proving", done / trials),
        )

    with exact_convolutions():
        made, equivalence = fold_proved(subject, inputs, fold_norms, seed, proved, rounding=allowed is None)
    again = partial(folded_twin, inputs=inputs, fold_norms=fold_norms, tolerance=tolerance, seed=seed)
    equivalence = _with_notes(equivalence, bool(removed))
    layers, base = _with_removed(made.layers, removed), base or Base()
    return Folding(made.model, layers, again, equivalence, tolerance, cost, base, inputs=described(inputs))


def _check_tolerance(tolerance: float | None, example_inputs: Any) -> None:
    if tolerance is None:
        return
    if example_inputs is None or not isinstance(tolerance, (int, float)) or not 0 <= tolerance < 1:
        seen = "no example_inputs" if example_inputs is None else repr(tolerance)
        raise UsageError(f"a tolerance is a share below 1 of the outputs for example_inputs; given was {seen}")


def _with_notes(equivalence: Equivalence, removed: bool) -> Equivalence:
    if equivalence.passed:  # every folded layer moves by rounding
        equivalence = replace(equivalence, first_moved=None)
    if removed:
        notes = [*([equivalence.note] if equivalence.note else []), WITHOUT_REMOVED]
        equivalence = replace(equivalence, note="; ".join(notes))
    return equivalence


def _with_removed(rows: tuple[FoldedLayer, ...], removed: Mapping[str, Removed]) -> tuple[FoldedLayer, ...]:
    return tuple(
        replace(row, removed=removed[row.path].parts, cost=removed[row.path].cost) if row.path in removed else row
        for row in rows
    )


def fold_proved(
    model: nn.Module, inputs: Inputs, fold_norms: bool, seed: int, prove: Prove, *, rounding: bool
) -> tuple[FoldedTree, Equivalence]:
    """Folds and proves; if the outputs moved, again without the norms, which something else may use.

    Some models magnify what float32 rounds: their outputs move by more than a proof allows although nothing is wrong. The same
    folding in float64 then moves nothing, and with ``rounding`` the proof passes and says so.
    """
    made = fold_reached(model, inputs, fold_norms, seed)
    found = prove(made)
    if found.passed:
        return made, found
    if rounding and _may_be_rounding(found) and _moves_by_rounding(model, inputs, fold_norms, seed):
        return made, replace(found, passed=True, note=ROUNDING)
    if any(row.norm is not None for row in made.layers):
        without = fold_reached(model, inputs, fold_norms, seed, leave_norms=MOVED)
        again = prove(without)
        if again.passed:
            return without, again
    return made, found


def _may_be_rounding(found: Equivalence) -> bool:
    """Whether rounding could explain a difference: float32, everything finite, the same structure, and not too far."""
    return (
        found.dtype == "float32" and not found.problems and found.max_rel is not None and found.max_rel <= MOST_ROUNDING
    )


def _moves_by_rounding(model: nn.Module, inputs: Inputs, fold_norms: bool, seed: int) -> bool:
    """Whether the folding is exact in float64, up to the rounding of that."""
    try:
        exact = copy_model(model).double()
        exact.eval()
        wide = inputs.mapped(lambda t: t.double() if t.is_floating_point() else t)
        made = fold_reached(exact, wide, fold_norms, seed)
        return compare(run(exact, wide, seed), run(made.model, wide, seed)).within(EXACT)
    except Exception:  # a model that insists on its dtype
        return False


def fold_reached(
    model: nn.Module, inputs: Inputs, fold_norms: bool, seed: int, leave_norms: str | None = None
) -> FoldedTree:
    """Folds, and leaves alone what turns out not to be called, and the norms if the model cannot run without them.

    Raises:
        ModelError: The folded model cannot be run.
    """
    leave: dict[str, str] = {}
    while True:
        made = fold_layers(model, inputs, fold_norms=fold_norms, leave=leave, leave_norms=leave_norms)
        try:
            with own_tensors_only(model, made.model):
                lost = unreached(made.model, inputs, made.calls, seed=seed)
        except ModelError:
            raise
        except Exception as error:
            if leave_norms is not None:
                break
            leave_norms = f"{WITHOUT_NORMS} ({type(error).__name__}: {first_line(error)})"
            continue
        if not lost:
            return made
        leave |= dict.fromkeys(lost, HELD_OUTSIDE.text)  # fewer are folded each time
    try:
        run(made.model, inputs, seed)
    except Exception as error:
        raise ModelError(
            f"the folded {type(model).__name__} cannot be run, although the original can ({type(error).__name__}: "
            f"{first_line(error)}); does it look for its layers' own attributes?"
        ) from error
    return made


def folded_twin(
    model: nn.Module, inputs: Inputs | None, fold_norms: bool, tolerance: float | None = None, seed: int = 0
) -> nn.Module:
    """Another model of the same structure, folded in the same way."""
    if inputs is None:
        return fold_layers(model, None, fold_norms=fold_norms).model
    if tolerance is not None:
        model, _ = simplify(model, inputs, tolerance, seed)
    return fold_reached(model, inputs, fold_norms, seed).model


def allowed_for(model: nn.Module) -> float:
    """The difference that passes as equal when kernels are rounded once more: ten units in the last place of the coarsest
    dtype, or 1e-5.
    """
    kinds = {p.dtype for p in model.parameters() if p.is_floating_point()}
    return max([TOLERANCE, *(10 * torch.finfo(kind).eps for kind in kinds)])
