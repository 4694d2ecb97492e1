"""Batches of a user's data: as they were given, for a loss, and as inputs of the model."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from saconv_surgeon.errors import ModelError, UsageError, first_line
from saconv_surgeon.models.running.batches import mapped_tensors
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.run import run

MOST = 16
"""How many batches of the data are used if nothing else is said."""


@dataclass(frozen=True)
class DataBatch:
    """``given`` is what the data yielded, its tensors on the device of the model; ``inputs`` is what the model takes of it."""

    given: Any
    inputs: Inputs


def data_batches(data: Iterable[Any], example: Inputs | None, model: nn.Module, most: int = MOST) -> list[DataBatch]:
    """The first batches of ``data``, on the devices and in the dtypes of ``example``, or of the model if that is None.

    If the model takes one tensor, a batch may hold others after it, as labels; they are no inputs. Of a dict the model gets the
    entries that its ``forward`` names, or the first tensor that looks like its input.

    Raises:
        UsageError: There are none, or they are empty or not finite.
        ModelError: The model cannot be run on them.
    """
    batches = []
    for i, given in enumerate(islice(_iterated(data), most)):
        inputs = _placed(inputs_of_batch(given, example, model), example, model)
        _check(inputs, i)
        _check_runs(model, inputs, i)
        devices = [t.device for t in inputs.tensors]
        moved = mapped_tensors(lambda t: t.to(devices[0]), given) if devices else given  # noqa: B023 - called here
        batches.append(DataBatch(moved, inputs))
    if not batches:
        raise UsageError("data has no batches")
    return batches


def _iterated(data: Iterable[Any]) -> Iterator[Any]:
    if isinstance(data, (Tensor, str, bytes)):
        raise UsageError(f"data is a {type(data).__name__}; needed: a list, a generator or a DataLoader of batches")
    try:
        return iter(data)
    except TypeError as error:
        raise UsageError(
            f"data cannot be iterated over ({error}); needed: batches, each as the example inputs are"
        ) from error


def _check(batch: Inputs, i: int) -> None:
    if any(t.numel() == 0 for t in batch.tensors):
        raise UsageError(f"batch {i} of the data is empty")
    if not all(bool(t.isfinite().all()) for t in batch.tensors if t.is_floating_point()):
        raise UsageError(f"batch {i} of the data holds values that are not finite")


def _check_runs(model: nn.Module, batch: Inputs, i: int) -> None:
    try:
        run(model, batch, seed=0)
    except Exception as error:
        sizes = ", ".join(str(tuple(shape)) for shape in batch.shapes) or "no tensors"
        raise ModelError(
            f"the model cannot be run on batch {i} of the data, {sizes} ({type(error).__name__}: {first_line(error)}); "
            "each batch must have the form of the example inputs"
        ) from error


def inputs_of_batch(batch: Any, example: Inputs | None, model: nn.Module | None) -> Inputs:
    """What of a batch a model takes; if neither an example nor the model is known, its first tensor or image."""
    if example is not None and not _takes_one(example):
        return Inputs.of(batch)
    if isinstance(batch, (list, tuple)):
        first = next((leaf for leaf in pytree.tree_leaves(batch) if isinstance(leaf, Tensor)), None)
        return Inputs.of(batch if first is None else first)
    return _of_dict(batch, model) if isinstance(batch, Mapping) else Inputs.of(batch)


def _takes_one(example: Inputs) -> bool:
    return len(example.args) == 1 and not example.kwargs and isinstance(example.args[0], Tensor)


def _of_dict(batch: Mapping[Any, Any], model: nn.Module | None) -> Inputs:
    """All of it if ``forward`` takes any name; otherwise the entries that it names; otherwise the first image."""
    parameters = {} if model is None else inspect.signature(model.forward).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return Inputs.of(batch)
    named = {name: value for name, value in batch.items() if name in parameters}
    if named:
        return Inputs.of(named)
    tensors = [value for value in batch.values() if isinstance(value, Tensor)]
    image = next((t for t in tensors if t.dim() >= 3 and t.is_floating_point()), None)
    return Inputs.of(batch if image is None else image)


def _placed(batch: Inputs, example: Inputs | None, model: nn.Module) -> Inputs:
    if example is None:
        weight = next((p for p in model.parameters() if p.is_floating_point()), None)
        return batch if weight is None else batch.to(weight.device, weight.dtype)
    batch = replace(batch, batch_axis=example.batch_axis)
    floats = [t for t in example.tensors if t.is_floating_point()]
    if not floats:
        return batch
    channels_last = any(t.dim() == 4 and not t.is_contiguous() for t in floats)
    return batch.to(floats[0].device, floats[0].dtype, channels_last=channels_last)
