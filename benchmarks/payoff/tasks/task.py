"""``Task``: what every task knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.payoff.pictures import Kind, Pictures, pictures

CACHE = Path(__file__).parents[3] / ".payoff"
"""Pictures and trained models; may be deleted at any time."""


@dataclass(frozen=True)
class Measured:
    """A measure in 0…1, the larger the better, and the same for small and for large objects alone."""

    metric: float
    by_size: Mapping[str, float]


@dataclass(frozen=True)
class Task:
    """A task. What starts with ``base`` is about the first training; batches are the same in both.

    ``rates`` are learning rates of training on, by optimizer; for AdamW that of the first training. ``rates.py`` tries others.
    """

    name: str
    measure: str
    kind: Kind
    trained_on: int
    tested_on: int
    batch: int
    base_steps: int
    base_rate: float
    steps: int
    rates: Mapping[str, float] = field(default_factory=dict, hash=False)

    def pictures(self, seed: int, *, test: bool) -> Pictures:
        """Those of a seed."""
        n = self.tested_on if test else self.trained_on
        return pictures(self.kind, n, seed, test=test, cache=CACHE / "pictures")

    def example(self, batch: int = 2) -> Tensor:
        """Inputs of the size that the model is trained on."""
        return torch.rand(batch, 3, self.kind.side, self.kind.side, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def new_model(self) -> nn.Module:
        """The model with random weights; draws from torch's generator."""
        raise NotImplementedError

    def wider(self, factor: float) -> nn.Module:
        """A model of the same kind with so many times the channels, in which those of :meth:`new_model` are the first.

        Raises:
            NotImplementedError: There is no such model.
        """
        raise NotImplementedError

    def output_loss(self, output: Any, batch: Pictures) -> Tensor:
        """The loss of what the model gives for ``batch.inputs()``, a scalar."""
        raise NotImplementedError

    def evaluate(self, model: nn.Module, test: Pictures) -> Measured:
        """The measure of a model in eval mode."""
        raise NotImplementedError
