"""An operation in a trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from saconv_surgeon.profiling.counting.imported_fvcore import get_shape
from saconv_surgeon.profiling.counting.shape_formulas import Shape

COMPLEX = ("ComplexHalf", "ComplexFloat", "ComplexDouble")
FLOATING = ("Float", "Double", "Half", "BFloat16", *COMPLEX)
QUANTISED = ("QInt8", "QUInt8", "QInt32", "QUInt4x2", "QUInt2x4")


@dataclass(frozen=True)
class Node:
    """A node of a trace as an :class:`~saconv_surgeon.profiling.counting.operation.Operation`.

    It does not know which tensors are sparse.
    """

    inputs: list[Any]
    outputs: list[Any]

    @property
    def out(self) -> Shape:
        """Shape of the first result."""
        return get_shape(self.outputs[0]) or []

    @property
    def is_floating(self) -> bool:
        """Whether the first result is floating."""
        return _is_floating(self.outputs[0])

    @property
    def kinds(self) -> frozenset[str]:
        """Whether tensors among arguments and results are complex or quantised."""
        values = [*self.inputs, *self.outputs]
        lists = [item for i in range(len(self.inputs)) for item in self._items(i)]
        types = {value.type().scalarType() for value in (*values, *lists) if _kind(value) == "TensorType"}
        kinds = {"complex"} if types & set(COMPLEX) else set()
        return frozenset(kinds | ({"quantised"} if types & set(QUANTISED) else set()))

    def shape(self, i: int) -> Shape:
        """Shape of argument ``i``; empty if it is not a tensor."""
        return (get_shape(self.inputs[i]) or []) if self.has_tensor(i) else []

    def shapes(self, i: int) -> list[Shape]:
        """Shapes of the tensors in the list ``i``."""
        return [get_shape(item) or [] for item in self._items(i) if _kind(item) == "TensorType"]

    def value(self, i: int) -> Any:
        """Argument ``i``; None if it is absent.

        Raises:
            ValueError: It is computed while the model runs.
        """
        if i >= len(self.inputs):
            return None
        given = self.inputs[i]
        if _kind(given) == "ListType" and given.toIValue() is None:
            return [self._known(item) for item in self._items(i)]
        return given.toIValue() if _kind(given) in ("NoneType", "OptionalType") else self._known(given)

    def has_tensor(self, i: int) -> bool:
        """Whether argument ``i`` is a tensor."""
        return i < len(self.inputs) and _kind(self.inputs[i]) == "TensorType"

    def takes_floating(self, i: int) -> bool:
        """Whether argument ``i`` is a floating tensor."""
        return i < len(self.inputs) and _is_floating(self.inputs[i])

    def is_complex(self, i: int) -> bool:
        """Whether argument ``i`` is a complex tensor or number."""
        if i >= len(self.inputs):
            return False
        given = self.inputs[i]
        return (
            given.type().scalarType() in COMPLEX
            if _kind(given) == "TensorType"
            else isinstance(given.toIValue(), complex)
        )

    def stored(self, i: int | None) -> int | None:
        """None: a trace does not know."""
        return None

    def meetings(self, i: int, j: int) -> int | None:
        """None: a trace does not know."""
        return None

    def described(self, i: int) -> Any:
        """Argument ``i``, with shapes in place of tensors."""
        if self.has_tensor(i):
            return tuple(self.shape(i))
        items = self._items(i)
        return [tuple(shape) for shape in self.shapes(i)] if items and self.shapes(i) else self.value(i)

    def _items(self, i: int) -> list[Any]:
        """The elements of a list, whose own value the trace does not keep."""
        is_list = i < len(self.inputs) and _kind(self.inputs[i]) == "ListType"
        return list(self.inputs[i].node().inputs()) if is_list else []

    def _known(self, value: Any) -> Any:
        found = value.toIValue()
        if found is None:
            raise ValueError("a setting of an operation is computed while the model runs")
        return found


def _kind(value: Any) -> str:
    return str(value.type().kind())


def _is_floating(value: Any) -> bool:
    return _kind(value) == "TensorType" and value.type().scalarType() in FLOATING
