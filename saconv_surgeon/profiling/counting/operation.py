"""One call of an operation, as the formulas of the table see it, and the ways in which its operands can be special."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from saconv_surgeon.profiling.counting.shape_formulas import Cost, Shape

SPARSE_LAYOUTS = (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)


class Operation(Protocol):
    """One call of an operation: its arguments in the order of its schema, and its first result."""

    @property
    def out(self) -> Shape:
        """Shape of the first result."""

    @property
    def is_floating(self) -> bool:
        """Whether the first result is floating."""

    @property
    def kinds(self) -> frozenset[str]:
        """In which ways its operands or results are not dense tensors of real numbers: see :func:`kinds_of`."""

    def shape(self, i: int) -> Shape:
        """Shape of argument ``i``, a tensor; empty if it is not one."""

    def shapes(self, i: int) -> list[Shape]:
        """Shapes of argument ``i``, a list of tensors."""

    def value(self, i: int) -> Any:
        """Argument ``i``, a number, a flag, a string, or a list of numbers; None if it is absent.

        Raises:
            ValueError: The engine does not know it.
        """

    def has_tensor(self, i: int) -> bool:
        """Whether argument ``i`` is a tensor."""

    def takes_floating(self, i: int) -> bool:
        """Whether argument ``i`` is a floating tensor."""

    def is_complex(self, i: int) -> bool:
        """Whether argument ``i`` is a complex tensor or number."""

    def stored(self, i: int | None) -> int | None:
        """Elements that argument ``i``, for None the first result, stores; None if it is not sparse."""

    def meetings(self, i: int, j: int) -> int | None:
        """Products in the product of the sparse matrices ``i`` and ``j``; None if their layouts do not say it."""


Formula = Callable[[Operation], Cost | None]
"""What a call costs; None if its arguments leave that unknown."""


def kinds_of(t: Tensor) -> set[str]:
    """In which ways a tensor is not dense and real: ``complex``, ``sparse``, ``nested``, ``quantised``."""
    kinds = set()
    if t.is_complex():
        kinds.add("complex")
    if t.is_nested:
        kinds.add("nested")
    elif t.layout in SPARSE_LAYOUTS:
        kinds.add("sparse")
    if t.is_quantized:
        kinds.add("quantised")
    return kinds
