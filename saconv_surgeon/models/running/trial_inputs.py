"""The inputs of one trial of a proof: drawn anew, or made by the user."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from saconv_surgeon.errors import UsageError, UserCodeError, exit_of
from saconv_surgeon.models.running.difference import Leaf
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.output_leaves import leaves
from saconv_surgeon.models.running.run import run
from saconv_surgeon.records import Mode

Redraw = Callable[[Any, int], Any]
"""``make(inputs, trial) -> inputs``: other inputs of the same structure. ``trial`` counts from 1; the example is trial 0.

It gets a copy of the inputs as they were given (a tensor, a tuple or a dict) and returns the same form.
"""


def trial_of(
    model: nn.Module, inputs: Inputs, trial: int, seed: int, mode: Mode, redraw: Redraw | None = None
) -> tuple[Inputs, list[Leaf]]:
    """The inputs of a trial, and what ``model`` returns for them. The first trial takes ``inputs`` as they are.

    If the model cannot be run on what was drawn, integers and booleans stay as in ``inputs``; if it still cannot, all does.

    Raises:
        UsageError: ``redraw`` gives another structure.
        UserCodeError: It raises, or the model on what it gives.
    """
    if trial == 0:
        return inputs, run(model, inputs, seed, mode)
    if redraw is not None:
        made = made_by(redraw, inputs, trial)
        try:
            return made, run(model, made, seed, mode)
        except Exception as error:
            raise UserCodeError(
                f"the model raised {type(error).__name__} on the inputs that redraw made for trial {trial}: {error}"
            ) from error
    for floating_only in (False, True):
        drawn = inputs.redrawn(seed + trial, floating_only=floating_only)
        try:
            return drawn, run(model, drawn, seed, mode)
        except Exception:  # indices that do not fit each other any more, values that the model refuses
            continue
    return inputs, run(model, inputs, seed, mode)


def made_by(redraw: Redraw, inputs: Inputs, trial: int) -> Inputs:
    """What the user's function makes of ``inputs``, on their devices and in their floating dtypes.

    Raises:
        UsageError: Another structure.
        UserCodeError: It raises, or ends the process.
    """
    example = inputs.copied().given
    try:
        given = _in_order_of(example, redraw(inputs.copied().given, trial))
    except SystemExit as error:
        raise UserCodeError(f"redraw {exit_of(error)} for trial {trial}; it has to return inputs instead") from error
    except Exception as error:
        raise UserCodeError(f"redraw raised {type(error).__name__} for trial {trial}: {error}") from error
    both = inputs.args and inputs.kwargs and isinstance(given, tuple) and len(given) == 2
    made = Inputs(tuple(given[0]), given[1]) if both else Inputs.of(given)
    if inputs.alone and hasattr(made.args, "_fields"):
        made = Inputs((given,), alone=True)
    wanted, found = _described(inputs), _described(made)
    if wanted != found:
        index = next((i for i, pair in enumerate(zip(wanted, found, strict=False)) if pair[0] != pair[1]), None)
        seen = (
            f"{found[index]} instead of {wanted[index]}"
            if index is not None
            else f"{len(found)} values, not {len(wanted)}"
        )
        raise UsageError(
            f"redraw gave inputs of another structure for trial {trial}: {seen}; it gets a copy of the example inputs and the "
            "number of the trial, and returns inputs of the same structure, kinds and sizes with other values"
        )
    tensors = inputs.tensors
    if any(t.is_meta for t in made.tensors) and not any(t.is_meta for t in tensors):
        raise UsageError(
            f"redraw gave tensors on the meta device for trial {trial}: they have no values to run a model on; return tensors on "
            f"{tensors[0].device}"
        )
    kinds = {t.dtype for t in tensors if t.is_floating_point()}
    return made.to(tensors[0].device, kinds.pop() if len(kinds) == 1 else None) if tensors else made


def _in_order_of(example: Any, made: Any) -> Any:
    """``made`` with the keys of its dicts in the order of those in ``example``: another order is no other input."""
    kind = type(made)
    if kind is not type(example) or kind not in (dict, list, tuple) or len(made) != len(example):
        return made
    if kind is not dict:
        return kind(_in_order_of(*pair) for pair in zip(example, made, strict=True))
    if made.keys() != example.keys():
        return made
    return {key: _in_order_of(value, made[key]) for key, value in example.items()}


def _described(inputs: Inputs) -> list[str]:
    """Each leaf in a word: what decides whether a model takes it."""
    return [
        f"{name}: {_kind(leaf)}" for given in (inputs.args, inputs.kwargs) for name, leaf in leaves(given, "inputs")
    ]


def _kind(leaf: Any) -> str:
    if not isinstance(leaf, Tensor):
        return type(leaf).__name__
    kind = "floating" if leaf.is_floating_point() else str(leaf.dtype).removeprefix("torch.")
    return f"{kind} {tuple(leaf.shape)}"
