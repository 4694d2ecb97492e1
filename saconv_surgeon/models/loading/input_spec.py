"""From what a user types as ``--input`` and ``--data``, or what a model's source offers, to inputs and batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saconv_surgeon.errors import UsageError
from saconv_surgeon.models.loading.factories import call, is_place, made_by, named_by, place_of, split_factory
from saconv_surgeon.models.loading.model_spec import LoadedModel
from saconv_surgeon.models.loading.offered_factories import listed
from saconv_surgeon.models.loading.users_code import users_code
from saconv_surgeon.models.running.inputs import Inputs

MOST_DIGITS = 18
"""Of a size: with more, no machine has the memory, and Python refuses to read thousands."""
_END = object()


class NoInputsError(UsageError):
    """Neither the user nor the model's source says what the model is run on."""


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
        raise UsageError(
            f"--input {wrong!r} is neither a size such as 1x3x224x224 nor a single file.py:make_inputs{_functions_in(wrong)}"
        )
    return Inputs.of(made_by(*factory, wrong))


def are_sizes(specs: tuple[str, ...]) -> bool:
    """Whether all of ``specs`` are sizes, from which inputs are made without any code of the user's."""
    return all(_parse_shape(spec) is not None for spec in specs)


def make_redraw(spec: str) -> Callable[[Any, int], Any]:
    """The function that ``--redraw file.py:make`` names.

    Raises:
        UsageError: Not of that form, or not a function.
    """
    return make_function("--redraw", spec, "file.py:make, a function make(inputs, trial) that returns inputs")


def make_function(option: str, spec: str, form: str) -> Callable[..., Any]:
    """The function that an option names; ``form`` says what is needed.

    Raises:
        UsageError: Not of that form, or not a function.
    """
    factory = split_factory(spec)
    if factory is None:
        raise UsageError(f"{option} {spec!r} is not of the form {form}{_functions_in(spec)}")
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
            f"{_functions_in(spec)}"
        )
    made = made_by(*factory, spec)
    if isinstance(made, Tensor) or not isinstance(made, Iterable):
        raise UsageError(
            f"--data {spec} gave a {type(made).__name__}; a list, a generator or a DataLoader of batches is needed"
        )
    return _guarded(made, spec)


def _guarded(made: Iterable[Any], spec: str) -> Iterator[Any]:
    iterator = call(lambda: iter(made), spec)
    while True:
        batch = call(lambda: next(iterator, _END), spec)
        if batch is _END:
            return
        yield batch


def offered_inputs(loaded: LoadedModel) -> Inputs:
    """What the model's own source offers as inputs.

    Raises:
        NoInputsError: Nothing.
    """
    if loaded.example_inputs is None:
        raise NoInputsError(
            f"{loaded.name}: no inputs to run it on; give --input 1x3x224x224 (once for each input) or "
            "--input file.py:make_inputs, or put example_inputs() beside the factory"
        )
    factory = split_factory(loaded.name)
    with users_code(f"example_inputs() of {loaded.name}", *(place_of(factory[0]) if factory else ())):
        return Inputs.of(loaded.example_inputs())


def _functions_in(spec: str) -> str:
    """What a file offers that was given without the name of a function, to be added to a message."""
    file = Path(spec)
    return f"; {listed(spec, file)}" if spec.endswith(".py") and is_place(file, Path.is_file) else ""


def _parse_shape(spec: str) -> tuple[int, ...] | None:
    parts = spec.lower().split("x")
    if not all(p.isdecimal() for p in parts):
        return None
    if max(map(len, parts)) > MOST_DIGITS:
        raise UsageError(f"--input {spec[:20]}… asks for more than there is memory for")
    return tuple(map(int, parts))
