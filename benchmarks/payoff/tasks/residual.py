"""A small residual network with four maps, at strides 2, 4, 8 and 16; the parts that two tasks share."""

from __future__ import annotations

from torch import Tensor, nn

WIDTHS = (16, 24, 40, 56)


class Block(nn.Module):
    """Two 3×3 convolutions with norms, the first at stride 2, beside a 1×1 convolution."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, 2, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.skip = nn.Conv2d(channels, out, 1, 2, bias=False)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, out, H/2, W/2)."""
        inner = self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))
        return self.act(inner + self.skip(x))


class Backbone(nn.Module):
    """Maps at strides 4, 8 and 16."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.widths = [round(factor * width) for width in WIDTHS]
        a, b, c, d = self.widths
        self.stem = nn.Conv2d(3, a, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(a)
        self.act = nn.ReLU(inplace=True)
        self.stage1, self.stage2, self.stage3 = Block(a, b), Block(b, c), Block(c, d)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 3, H, W) → maps of H/4, H/8 and H/16."""
        one = self.stage1(self.act(self.norm(self.stem(x))))
        two = self.stage2(one)
        return one, two, self.stage3(two)
