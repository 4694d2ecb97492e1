"""The inputs that a model is run on, whatever their nesting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from saconv_surgeon.records import Shape


@dataclass(frozen=True)
class Inputs:
    """Positional and keyword arguments of one forward pass. The tensors may lie in nested lists, tuples and dicts."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

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
        return cls(args=(example_inputs,))

    def run(self, model: nn.Module) -> Any:
        """``model(*args, **kwargs)``, without gradients, on copies of the tensors: some models work in place."""
        copies = self._map(torch.clone)
        with torch.no_grad():
            return model(*copies.args, **copies.kwargs)

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors, in the order of the arguments."""
        return [leaf for leaf in pytree.tree_leaves((self.args, dict(self.kwargs))) if isinstance(leaf, Tensor)]

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The shapes of the tensors."""
        return tuple(tuple(t.shape) for t in self.tensors)

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(H, W) of the largest floating input of three or more dimensions; None where there is none."""
        images = [t for t in self.tensors if t.is_floating_point() and t.dim() >= 3]
        if not images:
            return None
        height, width = max(images, key=Tensor.numel).shape[-2:]
        return height, width

    def to(self, device: torch.device, dtype: torch.dtype | None = None, *, channels_last: bool = False) -> Inputs:
        """Moved to ``device``; floating tensors cast to ``dtype``; 4-D ones laid out channels_last if asked."""

        def move(t: Tensor) -> Tensor:
            t = t.to(device=device, dtype=dtype if t.is_floating_point() else None)
            return t.contiguous(memory_format=torch.channels_last) if channels_last and t.dim() == 4 else t

        return self._map(move)

    def redrawn(self, seed: int) -> Inputs:
        """The same shapes with other random values: normal, with each floating tensor's own mean and deviation.

        Integer and boolean tensors (masks, indices) stay as they are; values that are not finite are not imitated.
        """
        generator = torch.Generator().manual_seed(seed)

        def redraw(t: Tensor) -> Tensor:
            if not t.is_floating_point() or t.numel() == 0:
                return t
            values = torch.nan_to_num(t.detach().double(), posinf=1.0, neginf=-1.0)
            deviation = float(values.std(correction=0)) or 1.0
            noise = torch.randn(t.shape, generator=generator, dtype=torch.float64) * deviation + float(values.mean())
            return torch.empty_like(t).copy_(noise)

        return self._map(redraw)

    def _map(self, change: Any) -> Inputs:
        args, kwargs = pytree.tree_map_only(Tensor, change, (self.args, dict(self.kwargs)))
        return Inputs(tuple(args), kwargs)
