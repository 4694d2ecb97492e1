"""Modules as exported programs (``.pt2``), with the dynamic sizes that they had."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.utils import _pytree as pytree

from saconv_surgeon.errors import ModelError, first_line
from saconv_surgeon.models.exported.archive_sink import new_archive
from saconv_surgeon.models.exported.read_program import OPEN, PLAN_ENTRY, Ranges, quiet, ranges_of
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.state import preserved


def write_program(
    model: nn.Module, inputs: Inputs, path: Path, dynamic_shapes: Any = None, *, plan: str | None = None
) -> Ranges:
    """Exports ``model`` to ``path`` in eval mode and returns the range of every dimension that stayed dynamic.

    Args:
        model: Left as it was.
        inputs: What it is traced on.
        path: The file to write.
        dynamic_shapes: ``(args, kwargs)`` as a :class:`Program` has them; None fixes all sizes. Ranges that the model cannot keep
            are narrowed.
        plan: The plan of the surgery as JSON, which lets :func:`read_program` find the layers again.

    Raises:
        ModelError: torch cannot export the model.
    """
    program = exported(model, ((inputs, shapes) for shapes in _attempts(dynamic_shapes)), "save to a folder instead")
    try:
        with quiet(), new_archive(path) as sink:
            torch.export.save(program, sink, extra_files={PLAN_ENTRY: plan} if plan else None)  # type: ignore[arg-type]
    except (LookupError, TypeError, NotImplementedError) as error:  # a dtype that the format has no number for
        said = f"{type(error).__name__}: {error}"
        raise ModelError(f"torch.export cannot write this model ({said}); save to a folder instead") from error
    return ranges_of(program)


def open_program(model: nn.Module, inputs: Inputs, *, sides: bool) -> ExportedProgram:
    """``model`` in eval mode as a program that takes any batch and, with ``sides``, any size of map, as far as the model does.

    Raises:
        ModelError: torch cannot export the model.
    """
    several = inputs.with_batch(2) if inputs.batch == 1 else inputs  # a size of one is taken for a constant
    attempts = [(several, _open_shapes(several, sides)), (inputs, _open_shapes(inputs, sides)), (inputs, None)]
    return exported(model, attempts)


def exported(model: nn.Module, attempts: Iterable[tuple[Inputs, Any]], advice: str = "") -> ExportedProgram:
    """The first of the ``attempts``, inputs and dynamic shapes, that torch can export. ``model`` is left as it was.

    Raises:
        ModelError: There is none; ``advice`` is what to do then.
    """
    errors: list[Exception] = []
    for inputs, shapes in attempts:
        try:
            with preserved(model), quiet(), torch.no_grad(), _named_arguments(model, inputs):
                arguments = _for_signature(model, inputs, shapes)
                return torch.export.export(model, inputs.args, dict(inputs.kwargs), dynamic_shapes=arguments)
        except OSError:
            raise
        except Exception as error:
            errors.append(error)
    why = f"{type(errors[-1]).__name__}: {first_line(errors[-1])}"
    raise ModelError(
        "; ".join(part for part in (f"torch.export cannot export {type(model).__name__} ({why})", advice) if part)
    ) from errors[-1]


def _open_shapes(inputs: Inputs, sides: bool) -> Any:
    """``(args, kwargs)`` with the batch, and the ``sides`` of every image, left to be found."""

    def free(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor) or leaf.dim() == 0:
            return None
        image = sides and leaf.is_floating_point() and leaf.dim() >= 3
        return dict.fromkeys({0, *((leaf.dim() - 2, leaf.dim() - 1) if image else ())}, Dim.AUTO)

    return pytree.tree_map(free, (inputs.args, dict(inputs.kwargs)))


def narrowed(before: Ranges, after: Ranges) -> list[str]:
    """What the dimensions of a program accept no longer, one sentence each."""
    found = []
    for name, (low, high) in before.items():
        now = after.get(name)
        if now is None:
            found.append(f"{name} is fixed now; it was {_interval(low, high)}")
        elif now[0] > low or (now[1] is not None and (high is None or now[1] < high)):
            found.append(f"{name} accepts {_interval(*now)} now; it was {_interval(low, high)}")
    return found


def _interval(low: int, high: int | None) -> str:
    return f"{low} and more" if high is None else f"{low} to {high}"


@contextmanager
def _named_arguments(model: nn.Module, inputs: Inputs) -> Iterator[None]:
    """Gives a program's ``forward(*args, **kwargs)`` the names of its keyword arguments; torch needs them for dynamic sizes."""
    kinds = {parameter.kind for parameter in inspect.signature(model.forward).parameters.values()}
    if not inputs.kwargs or inspect.Parameter.VAR_KEYWORD not in kinds or "forward" in vars(model):
        yield
        return
    unnamed = model.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        return unnamed(*args, **kwargs)

    positional = [inspect.Parameter(f"args_{i}", inspect.Parameter.POSITIONAL_ONLY) for i in range(len(inputs.args))]
    keyword = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in inputs.kwargs]
    forward.__signature__ = inspect.Signature([*positional, *keyword])  # type: ignore[attr-defined]
    model.forward = forward
    try:
        yield
    finally:
        del model.forward


def _for_signature(model: nn.Module, inputs: Inputs, shapes: Any) -> Any:
    """``shapes`` in the structure of the arguments of ``model.forward``, by parameter name."""
    if shapes is None:
        return None
    bound = inspect.signature(model.forward).bind(*inputs.args, **inputs.kwargs)
    given = inspect.signature(model.forward).bind(*shapes[0], **shapes[1])
    return {name: given.arguments[name] for name in bound.arguments}


def _attempts(shapes: Any) -> Iterator[Any]:
    """``shapes``, then with the open ranges left to be found again, then all of them: torch refuses a range that a size outside
    the example's might break, and finds those that it can keep.
    """
    if shapes is None:
        yield None
        return
    yield shapes
    yield _each_dimension(shapes, lambda dim: dim if isinstance(dim, Dim) and dim.max < OPEN else Dim.AUTO)
    yield _each_dimension(shapes, lambda dim: Dim.AUTO)


def _each_dimension(shapes: Any, change: Callable[[Any], Any]) -> Any:
    return pytree.tree_map(
        lambda sides: None if sides is None else {i: change(dim) for i, dim in sides.items()},
        shapes,
        is_leaf=lambda value: value is None or (isinstance(value, dict) and all(isinstance(key, int) for key in value)),
    )
