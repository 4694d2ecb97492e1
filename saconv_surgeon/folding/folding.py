"""Folding that has been seen to work: what turns out not to be called, or cannot be done without, is left alone."""

from __future__ import annotations

import torch
from torch import nn

from saconv_surgeon.errors import ModelError, first_line
from saconv_surgeon.folding.operating import WITHOUT_NORMS, Operated, fold_layers
from saconv_surgeon.folding.simplifying import simplify
from saconv_surgeon.models.inputs import Inputs
from saconv_surgeon.surgery.eligibility import HELD_OUTSIDE
from saconv_surgeon.surgery.equivalence import TOLERANCE, run, unreached


def fold_reached(model: nn.Module, inputs: Inputs, fold_norms: bool, seed: int) -> Operated:
    """Folds; leaves alone what turns out not to be called, and the norms where something else looks at them."""
    made = fold_layers(model, inputs, fold_norms=fold_norms)
    leave: dict[str, str] = {}
    for _ in range(2):
        try:
            lost = unreached(made.model, inputs, made.calls, seed=seed)
        except Exception as error:
            why = f"{WITHOUT_NORMS} ({type(error).__name__}: {first_line(error)})"
            made = fold_layers(model, inputs, fold_norms=fold_norms, leave=leave, leave_norms=why)
            break
        if not lost:
            return made
        leave |= dict.fromkeys(lost, HELD_OUTSIDE.text)
        made = fold_layers(model, inputs, fold_norms=fold_norms, leave=leave)
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
