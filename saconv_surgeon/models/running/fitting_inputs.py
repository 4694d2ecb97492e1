"""Inputs as a model takes them: refused if the first run would use them up; a namedtuple may be one argument."""

from __future__ import annotations

import copy
import inspect
import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from saconv_surgeon.errors import UsageError
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.nested_values import ATOMS
from saconv_surgeon.models.running.output_leaves import children


def fitted(inputs: Inputs, model: nn.Module) -> Inputs:
    """``inputs`` for ``model``: a namedtuple given alone is one argument if the forward does not take its fields.

    Raises:
        UsageError: There is a generator, an open file or another iterator among them that cannot be copied.
    """
    for i, given in enumerate(inputs.args):
        _check(given, f"argument {i + 1}", set())
    for name, given in inputs.kwargs.items():
        _check(given, str(name), set())
    if not hasattr(inputs.args, "_fields") or _takes(model, inputs.args):
        return inputs
    return replace(inputs, args=(inputs.args,), alone=True)


def _takes(model: nn.Module, args: tuple[Any, ...]) -> bool:
    try:
        inspect.signature(model.forward).bind(*args)
    except TypeError:
        return False
    except ValueError:  # it has no readable signature
        pass
    return True


def _check(value: Any, place: str, seen: set[int]) -> None:
    if isinstance(value, (Tensor, np.ndarray, nn.Module, *ATOMS)) or id(value) in seen:
        return
    seen.add(id(value))
    if _is_used_up(value):
        is_file = isinstance(value, io.IOBase)
        what = "an open file" if is_file else f"a {type(value).__name__}"
        instead = "what is in it" if is_file else "a list of its items"
        raise UsageError(
            f"{place} is {what}, which the first run uses up, and a model is run several times; give {instead} instead"
        )
    for name, child in children(value):
        _check(child, place + name, seen)


def _is_used_up(value: Any) -> bool:
    """Whether ``value`` can be read once: runs get copies, and of this there are none."""
    if not isinstance(value, Iterator) or (isinstance(value, io.IOBase) and (value.closed or not value.readable())):
        return False
    try:
        copy.deepcopy(value)
    except Exception:
        return True
    return False
