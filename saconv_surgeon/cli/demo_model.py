"""What ``saconv-surgeon demo`` converts: a small classifier that is installed with the package."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class DemoNet(nn.Module):
    """Three stages of convolution, norm and activation with a shortcut each, and a linear head: (N, 3, H, W) → (N, 10)."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        widths = (3, width, 2 * width, 4 * width)
        self.stages = nn.ModuleList(Stage(*pair) for pair in pairwise(widths))
        self.head = nn.Linear(widths[-1], 10)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of ten classes."""
        for stage in self.stages:
            x = stage(x)
        return self.head(x.mean((2, 3)))


class Stage(nn.Module):
    """Halves the map: a strided 3×3 convolution, and a second one around which a shortcut goes."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(c_in, c_out, 3, 2, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) → (N, C_out, H/2, W/2)."""
        x = self.down(x)
        return torch.relu(x + self.body(x))


def build() -> DemoNet:
    """The model, with the same weights on every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return DemoNet().eval()


def example_inputs() -> Tensor:
    """One picture of random values, (1, 3, 96, 96)."""
    return torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
