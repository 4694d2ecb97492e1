"""Classification: which is the largest digit of a picture that may have others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.payoff.material import CLASSES
from benchmarks.payoff.pictures import Kind, Pictures
from benchmarks.payoff.tasks.residual import Backbone
from benchmarks.payoff.tasks.task import Measured, Task

SMALL_SIDE = 25
"""A largest digit whose longer side has fewer pixels is small."""
KIND = Kind(48, 10, 46, 3)


class Classifier(nn.Module):
    """A residual network, the mean of its coarsest map, and a linear layer."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.backbone = Backbone(factor)
        self.label = nn.Linear(self.backbone.widths[-1], len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) → logits (N, 6)."""
        return self.label(self.backbone(x)[-1].mean((2, 3)))


@dataclass(frozen=True)
class Classify(Task):
    """Accuracy."""

    name: str = "classify"
    measure: str = "accuracy"
    kind: Kind = KIND
    trained_on: int = 6000
    tested_on: int = 1500
    batch: int = 32
    base_steps: int = 2000
    base_rate: float = 3e-3
    steps: int = 300
    rates: dict[str, float] = field(default_factory=lambda: {"adamw": 3e-3, "sgd": 3e-2}, hash=False)

    def new_model(self) -> nn.Module:
        """The classifier."""
        return Classifier()

    def wider(self, factor: float) -> nn.Module:
        """The classifier, wider."""
        return Classifier(factor)

    def output_loss(self, output: Any, batch: Pictures) -> Tensor:
        """Cross entropy."""
        return F.cross_entropy(output, largest(batch)[0])

    def evaluate(self, model: nn.Module, test: Pictures) -> Measured:
        """The share of pictures that are right; by the size of the digit that is asked for."""
        with torch.no_grad():
            found = torch.cat([model.eval()(part.inputs()).argmax(1) for part in test.split(250)])
        true, side = largest(test)
        right = (found == true).double()
        return Measured(
            float(right.mean()),
            {"small": float(right[side < SMALL_SIDE].mean()), "large": float(right[side >= SMALL_SIDE].mean())},
        )


def largest(batch: Pictures) -> tuple[Tensor, Tensor]:
    """Class and longer side of the largest digit of each picture, (n,) and (n,)."""
    sides = (batch.boxes[..., 2:] - batch.boxes[..., :2]).amax(-1)
    sides = sides.masked_fill(batch.classes < 0, -1.0)
    at = sides.argmax(1, keepdim=True)
    return batch.classes.gather(1, at)[:, 0].long(), sides.gather(1, at)[:, 0]
