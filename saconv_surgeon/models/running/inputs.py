"""The inputs that a model is run on, in any nesting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from saconv_surgeon.errors import UsageError
from saconv_surgeon.models.running.nested_values import changed, tensors_in
from saconv_surgeon.models.running.redrawing import redrawn_value
from saconv_surgeon.records import Shape


@dataclass(frozen=True)
class Inputs:
    """Positional and keyword arguments of one forward pass. The tensors may lie in nested containers and objects."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    alone: bool = False
    """Whether the user gave one value that is neither a tuple nor a dict."""

    @classmethod
    def of(cls, example_inputs: Any) -> Inputs:
        """From what the API takes: a tensor, a tuple (positional), a dict (keyword), or ``Inputs``.

        A list is one positional argument, as torchvision's detectors take it.
        """
        if isinstance(example_inputs, Inputs):
            return example_inputs
        if isinstance(example_inputs, tuple):
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
        """``model(*args, **kwargs)``, without gradients, on copies of tensors and objects: some models work in place."""
        copies = self.copied()
        with torch.no_grad():
            return model(*copies.args, **copies.kwargs)

    def copied(self) -> Inputs:
        """With copies of the tensors, and of the objects that they lie in."""
        return self.mapped(torch.clone)

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors, in the order of the arguments, also those inside objects."""
        return tensors_in((self.args, dict(self.kwargs)))

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The shapes of the tensors."""
        return tuple(tuple(t.shape) for t in self.tensors)

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(H, W) of the largest floating input of three or more dimensions; None if there is none."""
        images = [t for t in self.tensors if t.is_floating_point() and t.dim() >= 3]
        if not images:
            return None
        height, width = max(images, key=Tensor.numel).shape[-2:]
        return height, width

    @property
    def batch(self) -> int | None:
        """How many samples there are: the first size of the largest floating input of three or more dimensions (if none has so
        many, of the first that has any), or the length of the list that the images are in.
        """
        images = self._image_list()
        if images is not None:
            return len(images)
        maps = [t for t in self.tensors if t.is_floating_point() and t.dim() >= 3]
        first = max(maps, key=Tensor.numel, default=next((t for t in self.tensors if t.dim()), None))
        return None if first is None else first.shape[0]

    def with_batch(self, n: int) -> Inputs:
        """With ``n`` samples, the given ones over and over: along the first axis of every tensor that has one for each sample.

        Raises:
            UsageError: There is nothing to repeat.
        """
        images, batch = self._image_list(), self.batch
        if images is not None and images:
            repeated = [images[i % len(images)] for i in range(n)]
            args = tuple(repeated if given is images else given for given in self.args)
            return Inputs(args, {name: repeated if given is images else given for name, given in self.kwargs.items()})
        if not batch:
            raise UsageError("the inputs have no batch to change; leave --batch out")

        def repeat(t: Tensor) -> Tensor:
            if t.dim() == 0 or t.shape[0] != batch:
                return t
            chosen = t.index_select(0, torch.arange(n, device=t.device) % batch)
            last = t.dim() == 4 and not t.is_contiguous() and t.is_contiguous(memory_format=torch.channels_last)
            return chosen.contiguous(memory_format=torch.channels_last) if last else chosen

        return self.mapped(repeat)

    def samples(self, begin: int, end: int) -> Inputs:
        """Those from ``begin`` to ``end``, of every tensor that has one for each sample or of the list that the images are in."""
        images, batch = self._image_list(), self.batch
        if images is not None:
            args = tuple(images[begin:end] if given is images else given for given in self.args)
            kwargs = {name: images[begin:end] if given is images else given for name, given in self.kwargs.items()}
            return Inputs(args, kwargs)
        return self.mapped(lambda t: t[begin:end] if t.dim() and t.shape[0] == batch else t)

    def _image_list(self) -> list[Tensor] | None:
        """A list of images, one tensor of three dimensions each, as torchvision's detectors take it."""
        for given in (*self.args, *self.kwargs.values()):
            if isinstance(given, list) and given and all(isinstance(t, Tensor) and t.dim() == 3 for t in given):
                return given
        return None

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
        return self._with(changed((self.args, dict(self.kwargs)), change))

    def _with(self, values: tuple[Any, Any]) -> Inputs:
        return Inputs(tuple(values[0]), values[1], self.alone)
