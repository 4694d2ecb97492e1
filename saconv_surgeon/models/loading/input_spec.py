"""From what a user types as ``--input`` and ``--data``, or what a model's source offers, to inputs and batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from saconv_surgeon.errors import UsageError, UserCodeError
from saconv_surgeon.models.loading.factories import made_by, named_by, split_factory
from saconv_surgeon.models.loading.model_spec import LoadedModel
from saconv_surgeon.models.running.inputs import Inputs


def make_inputs(specs: tuple[str, ...], *, seed: int) -> Inputs:
    """Inputs from ``--input``: sizes such as ``1x3x224x224`` (one for each input), or one ``file.py:make_inputs``.

    Raises:
        UsageError: Neither of the two.
    """
    shapes = [_parse_shape(spec) for spec in specs]
    if all(shape is not None for shape in shapes):
        generator = torch.Generator().manual_seed(seed)
        try:
            drawn = tuple(torch.randn(shape, generator=generator) for shape in shapes if shape is not None)
            return Inputs(args=drawn, alone=len(drawn) == 1)
        except (RuntimeError, OverflowError, TypeError, MemoryError) as error:
            raise UsageError(f"--input {' '.join(specs)} asks for more than there is memory for") from error
    wrong = next(spec for spec, shape in zip(specs, shapes, strict=True) if shape is None)
    factory = split_factory(wrong)
    if factory is None or len(specs) > 1:
        raise UsageError(f"--input {wrong!r} is neither a size such as 1x3x224x224 nor a single file.py:make_inputs")
    return Inputs.of(made_by(*factory, wrong))


def make_redraw(spec: str) -> Callable[[Any, int], Any]:
    """The function that ``--redraw file.py:make`` names.

    Raises:
        UsageError: Not of that form, or not a function.
    """
    factory = split_factory(spec)
    if factory is None:
        raise UsageError(
            f"--redraw {spec!r} is not of the form file.py:make, a function make(inputs, trial) that returns inputs"
        )
    return named_by(*factory, spec)


def make_data(spec: str) -> Iterator[Any]:
    """The batches from ``--data file.py:make_batches``.

    Raises:
        UsageError: Not of that form, or not iterable.
        UserCodeError: It raised, now or while it is iterated over.
    """
    factory = split_factory(spec)
    if factory is None:
        raise UsageError(
            f"--data {spec!r} is not of the form file.py:make_batches, a function that returns or yields batches"
        )
    made = made_by(*factory, spec)
    if isinstance(made, Tensor) or not isinstance(made, Iterable):
        raise UsageError(
            f"--data {spec} gave a {type(made).__name__}; a list, a generator or a DataLoader of batches is needed"
        )
    return _guarded(made, spec)


def _guarded(made: Iterable[Any], spec: str) -> Iterator[Any]:
    try:
        yield from made
    except Exception as error:
        raise UserCodeError(f"{spec} raised {type(error).__name__}: {error}") from error


def offered_inputs(loaded: LoadedModel) -> Inputs:
    """What the model's own source offers as inputs.

    Raises:
        UsageError: Nothing.
    """
    if loaded.example_inputs is None:
        raise UsageError(
            f"{loaded.name}: no inputs to run it on; give --input 1x3x224x224 (once for each input) or "
            "--input file.py:make_inputs, or put example_inputs() beside the factory"
        )
    try:
        return Inputs.of(loaded.example_inputs())
    except Exception as error:
        raise UserCodeError(f"example_inputs() of {loaded.name} raised {type(error).__name__}: {error}") from error


def _parse_shape(spec: str) -> tuple[int, ...] | None:
    parts = spec.lower().split("x")
    return tuple(int(p) for p in parts) if all(p.isdecimal() for p in parts) else None
