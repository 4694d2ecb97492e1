"""The maps of a model whose fields are told, one of each size, and the gradient of its centre."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from saconv_surgeon.models.tree.paths import paths_of

SHALLOW = 2
"""Parts of a path such as ``backbone.layer1``: what a stage is called, unlike the layers inside the next one."""


class Stages:
    """The last map of each size that a shallow part gives, or if none does the last; seen inside of ``watched``."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.maps: dict[int, tuple[str, Tensor]] = {}

    @contextmanager
    def watched(self, model: nn.Module) -> Iterator[None]:
        """Looks at the outputs of all modules."""
        names = {key: paths[0] for key, paths in paths_of(model).items()}
        handles = [
            module.register_forward_hook(self._hook(names[id(module)]))
            for module in model.modules()
            if id(module) in names and not isinstance(module, torch.jit.ScriptModule)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, path: str) -> Any:
        def seen(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.dim() == 4 and output.requires_grad:
                height, width = output.shape[-2:]
                strides = round(self.size[0] / max(height, 1)), round(self.size[1] / max(width, 1))
                if min(height, width) > 1 and strides[0] == strides[1] > 0:
                    self._saw(strides[0], path, output)

        return seen

    def _saw(self, stride: int, path: str, output: Tensor) -> None:
        known = self.maps.get(stride)
        if known is not None and known[1] is output:  # what a part has given, and its holder hands on
            if path and path.count(".") <= known[0].count("."):
                self.maps[stride] = (path, output)
            return
        if known is None or _is_shallow(path) or not _is_shallow(known[0]):
            self.maps[stride] = (path, output)

    def gradients(self, image: Tensor, weights: int | None = None) -> Iterator[tuple[int, str, Tensor]]:
        """Stride, path, and the gradient of the centre of each map with respect to ``image``, from the largest map on.

        The centre is the sum of its channels, weighted at random, so that none cancel; with ``weights``, a seed, each
        has a random sign instead.
        """
        for stride, (path, output) in sorted(self.maps.items()):
            centre = output[..., output.shape[-2] // 2, output.shape[-1] // 2]
            draw = torch.Generator().manual_seed(0)
            signs = (0.5 + torch.rand(centre.shape, generator=draw, dtype=torch.float64)).to(centre)
            if weights is not None:
                chosen = torch.randint(0, 2, centre.shape, generator=torch.Generator().manual_seed(weights))
                signs = (2.0 * chosen - 1).to(centre)
            (found,) = torch.autograd.grad((centre * signs).sum(), image, retain_graph=True, allow_unused=True)
            if found is not None:
                yield stride, path, found


def _is_shallow(path: str) -> bool:
    return path.count(".") < SHALLOW
