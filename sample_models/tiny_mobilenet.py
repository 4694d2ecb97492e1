"""Inverted residuals: depthwise convolutions, squeeze-and-excite, hard swish."""

import torch
from torch import Tensor, nn

from sample_models._common import image, seeded


class SqueezeExcite(nn.Module):
    """Scales each channel by what the global average says."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(c, c // 4, 1), nn.Conv2d(c // 4, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        scale = torch.relu(self.fc1(x.mean((2, 3), keepdim=True)))
        return x * nn.functional.hardsigmoid(self.fc2(scale))


class InvertedResidual(nn.Module):
    """1×1 up, depthwise, squeeze-and-excite, 1×1 down."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, expand: int = 4) -> None:
        super().__init__()
        hidden = c_in * expand
        self.add = stride == 1 and c_in == c_out
        self.block = nn.Sequential(
            nn.Conv2d(c_in, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.Hardswish(),
            nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.Hardswish(),
            SqueezeExcite(hidden),
            nn.Conv2d(hidden, c_out, 1, bias=False),
            nn.BatchNorm2d(c_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) → (N, C_out, H/stride, W/stride)."""
        y = self.block(x)
        return x + y if self.add else y


def build(num_classes: int = 10) -> nn.Sequential:
    """The model, with the same weights on every call."""
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.Hardswish(),
            InvertedResidual(16, 16, 3, 1),
            InvertedResidual(16, 24, 5, 2),
            InvertedResidual(24, 24, 3, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(24, num_classes),
        )
    )


def example_inputs() -> Tensor:
    """Two small images."""
    return image(2, 3, 64, 64)
