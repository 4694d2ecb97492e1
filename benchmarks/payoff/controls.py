"""What else the same price could buy: layers and models that are no conversion of this project."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, Self

import torch
from torch import Tensor, nn

from benchmarks.payoff.tasks.task import Task
from saconv_surgeon.convs.converted import ConvertedLayer

WIDE = 3
"""How many times the dilation of the wide branch of SAConv is that of its convolution."""


class ZeroBranch(ConvertedLayer):
    """A convolution and a second one with three times its dilation, which starts at zero: no switch, no contexts."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = copy.deepcopy(conv)
        self.branch = widened(conv)
        self.branch.bias = None
        nn.init.zeros_(self.branch.weight)

    @classmethod
    def from_conv2d(cls, conv: nn.Conv2d, **options: Any) -> Self:
        """Of a convolution."""
        return cls(conv)

    def is_new(self, name: str) -> bool:
        """The second convolution is."""
        return name.startswith("branch")

    def forward(self, x: Tensor) -> Tensor:
        """As the convolution."""
        return self.conv(x) + self.branch(x)


def widened(conv: nn.Conv2d) -> nn.Conv2d:
    """A copy of ``conv`` with three times its dilation, whose output has the same size."""
    wide = copy.deepcopy(conv)
    assert not isinstance(conv.padding, str)
    wide.dilation = tuple(WIDE * d for d in conv.dilation)
    sizes = zip(conv.padding, conv.dilation, conv.kernel_size, strict=True)
    wide.padding = tuple(p + (WIDE - 1) * d * (k // 2) for p, d, k in sizes)
    wide._reversed_padding_repeated_twice = [p for p in reversed(wide.padding) for _ in range(2)]
    return wide


def with_layers(model: nn.Module, paths: Iterable[str], make: Any) -> nn.Module:
    """A copy of ``model`` in which each convolution of ``paths`` is what ``make`` makes of it."""
    changed = copy.deepcopy(model)
    for path in paths:
        conv = changed.get_submodule(path)
        changed.set_submodule(path, make(conv))
    return changed


def wider(task: Task, model: nn.Module, factor: float) -> nn.Module:
    """A model with ``factor`` times the channels that computes what ``model`` does: nothing reads the new channels yet.

    Kernels that make new channels are random, so gradients reach what reads them at the first step.
    """
    wide = task.wider(factor)
    small = model.state_dict()
    with torch.no_grad():
        for name, value in wide.state_dict().items():
            own = small[name]
            if value.dim() >= 2 and own.shape[1] < value.shape[1]:
                value[: own.shape[0], own.shape[1] :] = 0
            value[tuple(slice(size) for size in own.shape)] = own
    return wide.eval()
