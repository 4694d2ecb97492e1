"""Inputs as a record that can be saved, and inputs of the same kind made from it again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from saconv_surgeon.errors import ArtefactError
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.records import RecordedInputs, TensorInput

FEW = 1024
"""Elements of an integer or boolean tensor whose values are kept."""
MOST = 2**30
"""Elements of all tensors that are made from a record."""
LARGEST = 2**63 - 2
"""What torch can draw integers up to."""
_KINDS = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128, torch.bool),
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int16, torch.int32, torch.int64),
)
DTYPES = {str(kind).removeprefix("torch."): kind for kind in _KINDS}


def described(inputs: Inputs) -> RecordedInputs:
    """The nesting, shapes, dtypes and ranges of ``inputs``, which are not changed; of small integer tensors also the values."""
    found, axis = _Description(), inputs.batch_axis or None
    try:
        args = tuple(found.node(given, f"argument {i + 1}") for i, given in enumerate(inputs.args))
        kwargs = found.node(dict(inputs.kwargs), "")["dict"]
    except _Unknown as unknown:
        return RecordedInputs(problem=str(unknown), batch_axis=axis)
    return RecordedInputs(tuple(found.tensors), args, kwargs, batch_axis=axis)


def remade(record: RecordedInputs, seed: int) -> Inputs:
    """Inputs as ``record`` describes them: the values that it has, otherwise random ones of the same range.

    Floating tensors are normal, with the mean and the deviation of the original, and do not leave its range.

    Raises:
        ArtefactError: The record is no such description.
    """
    try:
        if sum(math.prod(tensor.shape) for tensor in record.tensors) > MOST:
            raise ValueError("they have more elements than there is memory for")
        generator = torch.Generator().manual_seed(seed)
        tensors = [_tensor(tensor, generator) for tensor in record.tensors]
        kwargs = _value({"dict": record.kwargs or ()}, tensors)
        return Inputs(tuple(_value(node, tensors) for node in record.args), kwargs, record.batch_axis or 0)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError, MemoryError) as error:
        raise ArtefactError(
            f"the recorded inputs cannot be made again ({type(error).__name__}: {error}); give others with --input"
        ) from error


class _Unknown(Exception):
    """Something that has no description."""


class _Description:
    def __init__(self) -> None:
        self.tensors: list[TensorInput] = []
        self.numbers: dict[int, int] = {}
        """By ``id``: one tensor in two places stays one."""

    def node(self, given: Any, place: str) -> dict[str, Any]:
        if isinstance(given, Tensor):
            if id(given) not in self.numbers:
                self.numbers[id(given)] = len(self.tensors)
                self.tensors.append(_record(given, place))
            return {"tensor": self.numbers[id(given)]}
        if isinstance(given, float) and not math.isfinite(given):
            return {"float": repr(given)}
        if given is None or type(given) in (bool, int, float, str):
            return {"value": given}
        if type(given) in (list, tuple, torch.Size):
            kind = "list" if isinstance(given, list) else "tuple"
            return {kind: [self.node(item, f"{place}[{i}]") for i, item in enumerate(given)]}
        if isinstance(given, Mapping) and all(key is None or type(key) in (bool, int, str) for key in given):
            return {
                "dict": [
                    [key, self.node(item, f"{place}[{key!r}]" if place else str(key))] for key, item in given.items()
                ]
            }
        raise _Unknown(f"{place} is a {type(given).__name__}, which has no description")


def _record(tensor: Tensor, place: str) -> TensorInput:
    if tensor.is_nested:  # has no sizes
        raise _Unknown(f"{place} is a nested tensor ({tensor.layout})")
    kind = str(tensor.dtype).removeprefix("torch.")
    if type(tensor) not in (Tensor, torch.nn.Parameter) or tensor.layout != torch.strided or kind not in DTYPES:
        raise _Unknown(f"{place} is a {kind} tensor of its own kind ({type(tensor).__name__}, {tensor.layout})")
    shape = tuple(tensor.shape)
    last = tensor.dim() == 4 and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last)
    if tensor.is_meta or tensor.numel() == 0:
        return TensorInput(shape, kind, channels_last=last)
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    values = None
    if not tensor.is_floating_point() and tensor.numel() <= FEW:
        values = tuple(map(int, tensor.flatten().tolist()))
    finite = tensor.detach().double()
    finite = finite[finite.isfinite()]
    if finite.numel() == 0:
        return TensorInput(shape, kind, channels_last=last)
    low, high, mean, deviation = map(float, (finite.min(), finite.max(), finite.mean(), finite.std(correction=0)))
    return TensorInput(shape, kind, low, high, mean, deviation, last, values)


def _tensor(record: TensorInput, generator: torch.Generator) -> Tensor:
    made = _drawn(record, generator)
    return made.contiguous(memory_format=torch.channels_last) if record.channels_last and made.dim() == 4 else made


def _drawn(record: TensorInput, generator: torch.Generator) -> Tensor:
    dtype, shape = DTYPES[record.dtype], record.shape
    if record.values is not None:
        return torch.tensor(record.values, dtype=torch.int64).reshape(shape).to(dtype)
    if record.low is None or record.high is None:
        return torch.zeros(shape, dtype=dtype)
    mean, deviation = record.mean or 0.0, record.deviation or 0.0
    if dtype == torch.bool:
        return torch.rand(shape, generator=generator) < mean
    if not dtype.is_floating_point and not dtype.is_complex:
        return torch.randint(int(record.low), min(int(record.high), LARGEST) + 1, shape, generator=generator).to(dtype)
    sizes = (*shape, 2) if dtype.is_complex else shape
    drawn = torch.randn(sizes, generator=generator, dtype=torch.float64).mul_(deviation).add_(mean)
    drawn.clamp_(record.low, record.high)
    return torch.view_as_complex(drawn).to(dtype) if dtype.is_complex else drawn.to(dtype)


def _value(node: Any, tensors: list[Tensor]) -> Any:
    ((kind, content),) = node.items()
    if kind == "tensor" and content >= 0:
        return tensors[content]
    if kind == "list":
        return [_value(item, tensors) for item in content]
    if kind == "tuple":
        return tuple(_value(item, tensors) for item in content)
    if kind == "dict":
        return {key: _value(item, tensors) for key, item in content}
    if kind == "float":
        return float(content)
    if kind == "value" and (content is None or isinstance(content, (bool, int, float, str))):
        return content
    raise ValueError(f"{kind!r} is no kind of input")
