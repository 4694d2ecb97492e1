"""A call that was carried out as an :class:`~saconv_surgeon.profiling.counting.operation.Operation`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from saconv_surgeon.profiling.counting.operation import SPARSE_LAYOUTS, kinds_of
from saconv_surgeon.profiling.counting.shape_formulas import Shape

ROWS = (torch.sparse_csr, torch.sparse_bsr)
BLOCKS = (torch.sparse_bsr, torch.sparse_bsc)


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors among arguments or results of an operation. Called for every one, so without torch's slower pytree."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return []
    return [t for item in value if item is not None for t in tensors_in(item)]


@dataclass(frozen=True)
class Call:
    """Its arguments in the order of the schema, and as they were ``given``, by place and by name."""

    args: tuple[Any, ...]
    result: Any
    given: tuple[tuple[Any, ...], Mapping[str, Any]] = ((), {})

    @classmethod
    def of(
        cls, packet: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any, *, defaults: bool = False
    ) -> Call:
        """Puts arguments that were given by name in their places; torch leaves out defaults, which ``defaults`` adds."""
        schema = _schema(packet, len(args), kwargs) if kwargs or defaults else None
        if schema is None:
            return cls(args, result, (args, kwargs))
        named = [kwargs.get(argument.name, argument.default_value) for argument in schema[len(args) :]]
        return cls((*args, *named), result, (args, kwargs))

    @property
    def out(self) -> Shape:
        """Shape of the first result."""
        first = self._first
        return tuple(first.shape) if first is not None else ()

    @property
    def is_floating(self) -> bool:
        """Whether the first result is floating."""
        return self._first is not None and _is_floating(self._first)

    @property
    def kinds(self) -> frozenset[str]:
        """In which ways tensors among arguments and results are not dense and real."""
        tensors = tensors_in((self.args, self.result))
        return frozenset[str]().union(*map(kinds_of, tensors))

    def shape(self, i: int) -> Shape:
        """Shape of argument ``i``; empty if it is not a tensor."""
        return tuple(self.args[i].shape) if self.has_tensor(i) else ()

    def shapes(self, i: int) -> list[Shape]:
        """Shapes of the tensors in the list ``i``."""
        given = self.args[i] if i < len(self.args) else None
        return [tuple(t.shape) for t in given if isinstance(t, Tensor)] if isinstance(given, (list, tuple)) else []

    def value(self, i: int) -> Any:
        """Argument ``i``; None if it is absent."""
        return self.args[i] if i < len(self.args) else None

    def has_tensor(self, i: int) -> bool:
        """Whether argument ``i`` is a tensor."""
        return i < len(self.args) and isinstance(self.args[i], Tensor)

    def takes_floating(self, i: int) -> bool:
        """Whether argument ``i`` is a floating tensor."""
        return self.has_tensor(i) and _is_floating(self.args[i])

    def is_complex(self, i: int) -> bool:
        """Whether argument ``i`` is a complex tensor or number."""
        given = self.value(i)
        return given.is_complex() if isinstance(given, Tensor) else isinstance(given, complex)

    def stored(self, i: int | None) -> int | None:
        """Elements that argument ``i``, for None the first result, stores; None if it is not sparse."""
        t = self._first if i is None else self.value(i)
        if not isinstance(t, Tensor) or t.layout not in SPARSE_LAYOUTS:
            return None
        with _disable_current_modes():
            return (t._values() if t.layout is torch.sparse_coo else t.values()).numel()

    def meetings(self, i: int, j: int) -> int | None:
        """Products in the product of two sparse matrices: pairs of stored elements with the same inner index."""
        left, right = self.args[i], self.args[j]
        if left.dim() != 2 or right.dim() != 2 or left.layout in BLOCKS or right.layout in BLOCKS:
            return None
        with _disable_current_modes():
            columns = _per_index(left, 1)
            return int((columns * _per_index(right, 0)).sum())

    @property
    def described_arguments(self) -> list[Any]:
        """The arguments, with shapes in place of tensors."""
        return [described(given) for given in self.args]

    @property
    def described_result(self) -> Any:
        """The shape of the result, or a list of those of the results."""
        return described(self.result)

    @property
    def _first(self) -> Tensor | None:
        return next(iter(tensors_in(self.result)), None)


def _schema(packet: Any, given: int, kwargs: Mapping[str, Any]) -> list[Any] | None:
    """The arguments of the first overload that takes ``given`` ones and then those of ``kwargs``, and needs no others."""
    for overload in packet.overloads():
        arguments = list(getattr(packet, overload)._schema.arguments)
        rest = {argument.name: argument for argument in arguments[given:]}
        needed = {name for name, argument in rest.items() if not argument.has_default_value()}
        if len(arguments) >= given and needed <= kwargs.keys() <= rest.keys():
            return arguments
    return None


def described(value: Any) -> Any:
    """With shapes, as tuples, in place of tensors."""
    if isinstance(value, Tensor):
        return tuple(value.shape)
    return [described(item) for item in value] if isinstance(value, (list, tuple)) else value


def _is_floating(t: Tensor) -> bool:
    return t.is_floating_point() or t.is_complex()


def _per_index(t: Tensor, axis: int) -> Tensor:
    """How many elements a sparse matrix stores in each row (axis 0) or column (axis 1)."""
    if t.layout is torch.sparse_coo:
        return torch.bincount(t._indices()[axis], minlength=t.shape[axis])
    by_row = t.layout is torch.sparse_csr
    if by_row == (axis == 0):
        return (t.crow_indices() if by_row else t.ccol_indices()).diff()
    return torch.bincount(t.col_indices() if by_row else t.row_indices(), minlength=t.shape[axis])
