"""Dense labelling: which digit, or none, is at each 4×4 pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.payoff.material import CLASSES
from benchmarks.payoff.pictures import SMALL_SIDE, Kind, Pictures
from benchmarks.payoff.tasks.residual import Backbone
from benchmarks.payoff.tasks.task import Measured, Task

HEAD = 32
KIND = Kind(48, 10, 46, 3)


class Labeller(nn.Module):
    """A residual network with a top-down head: 1×1 convolutions to one width, added from the coarsest, one 3×3 convolution."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.backbone = Backbone(factor)
        width = round(factor * HEAD)
        self.lateral = nn.ModuleList([nn.Conv2d(channels, width, 1) for channels in self.backbone.widths[1:]])
        self.smooth = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.act = nn.ReLU(inplace=True)
        self.label = nn.Conv2d(width, len(CLASSES) + 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) → logits (N, 7, H/4, W/4)."""
        one, two, three = (lateral(m) for lateral, m in zip(self.lateral, self.backbone(x), strict=True))
        two = two + F.interpolate(three, size=two.shape[-2:])
        one = one + F.interpolate(two, size=one.shape[-2:])
        return self.label(self.act(self.norm(self.smooth(one))))


@dataclass(frozen=True)
class Dense(Task):
    """Mean intersection over union of the six digits, the ground left out."""

    name: str = "dense"
    measure: str = "mIoU"
    kind: Kind = KIND
    trained_on: int = 6000
    tested_on: int = 1500
    batch: int = 32
    base_steps: int = 2000
    base_rate: float = 3e-3
    steps: int = 300
    rates: dict[str, float] = field(default_factory=lambda: {"adamw": 3e-3, "sgd": 3e-2}, hash=False)

    def new_model(self) -> nn.Module:
        """The labeller."""
        return Labeller()

    def wider(self, factor: float) -> nn.Module:
        """The labeller, wider."""
        return Labeller(factor)

    def output_loss(self, output: Any, batch: Pictures) -> Tensor:
        """Cross entropy over all cells."""
        return F.cross_entropy(output, batch.grid.long())

    def evaluate(self, model: nn.Module, test: Pictures) -> Measured:
        """The mean IoU; for one size, with the cells of digits of the other left out."""
        with torch.no_grad():
            found = torch.cat([model.eval()(part.inputs()).argmax(1) for part in test.split(250)])
        large = test.sides >= SMALL_SIDE
        ground = test.grid == 0
        return Measured(
            mean_iou(found, test.grid),
            {
                "small": mean_iou(found[ground | ~large], test.grid[ground | ~large]),
                "large": mean_iou(found[ground | large], test.grid[ground | large]),
            },
        )


def mean_iou(found: Tensor, true: Tensor) -> float:
    """Intersection over union of all cells together for each digit, then the mean; a digit that is nowhere is left out."""
    each = []
    for label in range(1, len(CLASSES) + 1):
        a, b = found == label, true == label
        union = int((a | b).sum())
        if union:
            each.append(int((a & b).sum()) / union)
    return sum(each) / len(each)
