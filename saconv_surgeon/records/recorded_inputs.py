"""What a model was run on, described so that inputs of the same kind can be made again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class TensorInput:
    """A tensor among the inputs. ``values`` has those of a small integer or boolean one, which may be indices or lengths.

    ``low``, ``high``, ``mean`` and ``deviation`` are over the finite values; None if there are none.
    """

    shape: tuple[int, ...]
    dtype: str
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    deviation: float | None = None
    channels_last: bool = False
    values: tuple[int, ...] | None = None


@dataclass(frozen=True)
class RecordedInputs:
    """The inputs of one forward pass. ``args`` and ``kwargs`` are nested as the inputs were, each leaf or container an object.

    ``{"tensor": i}`` stands for ``tensors[i]``, ``{"value": v}`` for a number, a string or None; ``{"list": […]}``,
    ``{"tuple": […]}`` and ``{"dict": [[key, …], …]}`` for containers. ``problem`` says what cannot be made again.
    ``batch_axis`` is the axis along which the samples lie; None for 0.
    """

    tensors: tuple[TensorInput, ...] = ()
    args: tuple[Any, ...] = ()
    kwargs: Any = ()
    problem: str | None = None
    batch_axis: int | None = None

    IN_JSON: ClassVar = ("shapes",)

    @property
    def shapes(self) -> list[list[int]]:
        """Of the tensors."""
        return [list(tensor.shape) for tensor in self.tensors]
