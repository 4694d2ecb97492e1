"""Folding that has been seen to work: what turns out not to be called, or cannot be done without, is left alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from saconv_surgeon.errors import ModelError, first_line
from saconv_surgeon.folding.operating import WITHOUT_NORMS, Operated, fold_layers
from saconv_surgeon.folding.simplifying import simplify
from saconv_surgeon.models.comparison import compare
from saconv_surgeon.models.copying import copy_model
from saconv_surgeon.models.inputs import Inputs
from saconv_surgeon.records import Equivalence
from saconv_surgeon.surgery.eligibility import HELD_OUTSIDE
from saconv_surgeon.surgery.equivalence import TOLERANCE, run, unreached

MOVED = "with its norms folded the model computes something else"
ROUNDING = "in float64 nothing moves: what is seen is the rounding of float32, which this model magnifies"
EXACT = 1e-10
MOST_ROUNDING = 1e-3
"""Beyond this, relative to the largest output, no float64 run excuses float32."""


Prove = Callable[[Operated], Equivalence]
"""Compares a folded model with what it was made from."""


def fold_proved(
    model: nn.Module, inputs: Inputs, fold_norms: bool, seed: int, prove: Prove, *, rounding: bool
) -> tuple[Operated, Equivalence]:
    """Folds and proves; where the outputs moved, again without the norms, which something else may look at.

    Where a model magnifies what float32 rounds, its outputs move by more than a proof allows although nothing is wrong. That is
    so where the same folding in float64 moves nothing; with ``rounding``, the proof passes then, and says so.
    """
    made = fold_reached(model, inputs, fold_norms, seed)
    found = prove(made)
    if (
        not found.passed
        and rounding
        and _may_be_rounding(found)
        and _moves_by_rounding(model, inputs, fold_norms, seed)
    ):
        return made, replace(found, passed=True, note=ROUNDING)
    if not found.passed and any(row.norm is not None for row in made.layers):
        without = fold_reached(model, inputs, fold_norms, seed, leave_norms=MOVED)
        again = prove(without)
        if again.passed:
            return without, again
    return made, found


def _may_be_rounding(found: Equivalence) -> bool:
    """Not what overflows in half precision, has NaN on one side or another form, or is too far for any rounding."""
    return (
        found.dtype == "float32" and not found.problems and found.max_rel is not None and found.max_rel <= MOST_ROUNDING
    )


def _moves_by_rounding(model: nn.Module, inputs: Inputs, fold_norms: bool, seed: int) -> bool:
    """Whether the folding is exact in float64, to what that rounds."""
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
) -> Operated:
    """Folds; leaves alone what turns out not to be called, and the norms where the model cannot be run without them."""
    leave: dict[str, str] = {}
    while True:
        made = fold_layers(model, inputs, fold_norms=fold_norms, leave=leave, leave_norms=leave_norms)
        try:
            lost = unreached(made.model, inputs, made.calls, seed=seed)
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
    """Another model of the same form, folded in the same way."""
    if inputs is None:
        return fold_layers(model, None, fold_norms=fold_norms).model
    if tolerance is not None:
        model, _ = simplify(model, inputs, tolerance, seed)
    return fold_reached(model, inputs, fold_norms, seed).model


def allowed_for(model: nn.Module) -> float:
    """What passes as equal where kernels are rounded once more: ten units in the last place of the coarsest dtype, or 1e-5."""
    kinds = {p.dtype for p in model.parameters() if p.is_floating_point()}
    return max([TOLERANCE, *(10 * torch.finfo(kind).eps for kind in kinds)])
