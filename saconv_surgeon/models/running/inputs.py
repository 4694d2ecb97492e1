"""The inputs that a model is run on, in any nesting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from saconv_surgeon.errors import UsageError
from saconv_surgeon.models.running.batches import batch_of, mapped_tensors, no_batch, picked
from saconv_surgeon.models.running.nested_values import tensors_in
from saconv_surgeon.models.running.output_leaves import collected
from saconv_surgeon.models.running.redrawing import redrawn_value
from saconv_surgeon.records import Shape


@dataclass(frozen=True)
class Inputs:
    """Positional and keyword arguments of one forward pass. The tensors may lie in nested containers and objects.

    ``batch_axis`` is the axis along which the samples lie in every tensor that has it: 1 for (T, N, C).
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    batch_axis: int = 0
    alone: bool = False
    """Whether the user gave one value, not a tuple or dict of arguments."""

    @classmethod
    def of(cls, example_inputs: Any) -> Inputs:
        """From what the API takes: a tensor, a tuple (positional), a dict (keyword), or ``Inputs``.

        A list is one positional argument, as torchvision's detectors take it; so is a ``PackedSequence``, although a namedtuple.
        """
        if isinstance(example_inputs, Inputs):
            return example_inputs
        if isinstance(example_inputs, tuple) and not isinstance(example_inputs, PackedSequence):
            return cls(args=example_inputs)
        if isinstance(example_inputs, Mapping):
            return cls(kwargs=dict(example_inputs))
        return cls(args=(example_inputs,), alone=True)

    @property
    def given(self) -> Any:
        """What :meth:`of` takes: a dict if there are keyword arguments only, one value if that was given, or a tuple.

        Positional and keyword arguments together are a tuple of the two.
        """
        if self.kwargs:
            return (self.args, dict(self.kwargs)) if self.args else dict(self.kwargs)
        return self.args[0] if self.alone and len(self.args) == 1 else self.args

    def run(self, model: nn.Module) -> Any:
        """``model(*args, **kwargs)``, without gradients, on copies of tensors and objects: some models work in place.

        What a forward yields is collected in a list: until then it has not run.
        """
        copies = self.copied()
        with torch.no_grad():
            return collected(model(*copies.args, **copies.kwargs))

    def copied(self) -> Inputs:
        """With copies of the tensors, and of the objects that they lie in."""
        return self.mapped(torch.clone)

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors, in the order of the arguments, also those inside objects."""
        return tensors_in((self.args, dict(self.kwargs)))

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The shapes of the tensors; of a nested one, those of its parts."""
        parts = (part for t in self.tensors for part in (t.unbind() if t.is_nested else [t]))
        return tuple(tuple(t.shape) for t in parts)

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(H, W) of the largest floating input of three or more dimensions; None if there is none."""
        images = [t for t in self.tensors if t.is_floating_point() and t.dim() >= 3 and not t.is_nested]
        if not images:
            return None
        height, width = max(images, key=Tensor.numel).shape[-2:]
        return height, width

    @property
    def batch(self) -> int | None:
        """How many samples there are; None if nothing shows it. See :func:`~saconv_surgeon.models.running.batches.batch_of`."""
        return batch_of((self.args, dict(self.kwargs)), self.batch_axis)

    def along(self, axis: int) -> Inputs:
        """The same, with the samples along ``axis``.

        Raises:
            UsageError: No tensor has such an axis.
        """
        if axis < 0 or all(t.dim() <= axis for t in self.tensors):
            raise UsageError(
                no_batch(self.tensors, axis) if axis >= 0 else f"a batch axis of {axis}: axes are counted from 0"
            )
        return replace(self, batch_axis=axis)

    def with_batch(self, n: int) -> Inputs:
        """With ``n`` samples, the given ones over and over: of every tensor and list that has one for each sample.

        Raises:
            UsageError: There is nothing to repeat.
        """
        batch = self.batch
        if not batch:
            raise UsageError(no_batch(self.tensors, self.batch_axis))
        return self._picking(torch.arange(n) % batch)

    def samples(self, begin: int, end: int) -> Inputs:
        """Those from ``begin`` to ``end``, of every tensor and list that has one for each sample."""
        return self._picking(torch.arange(self.batch or 0)[begin:end])

    def _picking(self, which: Tensor) -> Inputs:
        args, kwargs = picked((self.args, dict(self.kwargs)), which, self.batch_axis)
        return replace(self, args=tuple(args), kwargs=kwargs)

    def to(self, device: torch.device, dtype: torch.dtype | None = None, *, channels_last: bool = False) -> Inputs:
        """Moved to ``device``; floating tensors cast to ``dtype``; 4-D ones laid out channels_last if asked."""

        def move(t: Tensor) -> Tensor:
            t = t.to(device=device, dtype=dtype if t.is_floating_point() else None)
            return t.contiguous(memory_format=torch.channels_last) if channels_last and t.dim() == 4 else t

        return self.mapped(move)

    def redrawn(self, seed: int, *, floating_only: bool = False) -> Inputs:
        """The same kinds and sizes with other random values: see :mod:`~saconv_surgeon.models.running.redrawing`.

        ``floating_only`` leaves integers and booleans (ids, masks, indices) as they are.
        """
        return self._with(redrawn_value((self.args, dict(self.kwargs)), seed, floating_only=floating_only))

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        """With ``change`` of every tensor, also inside objects, of which these are copies."""
        return self._with(mapped_tensors(change, (self.args, dict(self.kwargs))))

    def _with(self, values: tuple[Any, Any]) -> Inputs:
        return replace(self, args=tuple(values[0]), kwargs=values[1])
