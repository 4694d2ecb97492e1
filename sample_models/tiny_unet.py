"""A U-Net: biased convolutions, group norm going down, none going up, transposed convolutions, odd sizes cropped."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sample_models._common import image, seeded


class Down(nn.Module):
    """Two convolutions with group norm, then a pool."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(c_in, c_out, 3, padding=1), nn.GroupNorm(4, c_out)
        self.conv2, self.norm2 = nn.Conv2d(c_out, c_out, 3, padding=1), nn.GroupNorm(4, c_out)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C_in, H, W) → (N, C_out, H/2, W/2) and the full map for the other side."""
        x = F.leaky_relu(self.norm1(self.conv1(x)), 0.1)
        x = F.leaky_relu(self.norm2(self.conv2(x)), 0.1)
        return self.pool(x), x


class Up(nn.Module):
    """A transposed convolution or an interpolation, the map from the other side, two biased convolutions."""

    def __init__(self, c_in: int, c_out: int, bilinear: bool) -> None:
        super().__init__()
        self.up: nn.Module = (
            nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(c_in, c_out, 1))
            if bilinear
            else nn.ConvTranspose2d(c_in, c_out, 2, stride=2)
        )
        self.conv1 = nn.Conv2d(2 * c_out, c_out, 3, padding=1)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(N, C_in, H, W) and (N, C_out, H', W') → (N, C_out, H', W')."""
        x = self.up(x)
        dy, dx = skip.shape[-2] - x.shape[-2], skip.shape[-1] - x.shape[-1]
        x = F.pad(x, (dx // 2, dx - dx // 2, dy // 2, dy - dy // 2))
        x = torch.relu(self.conv1(torch.cat((skip, x), 1)))
        return torch.relu(self.conv2(x))


class TinyUNet(nn.Module):
    """Three levels down, three up, one map of scores for each class."""

    def __init__(self, classes: int = 3, width: int = 8, bilinear: bool = False) -> None:
        super().__init__()
        self.downs = nn.ModuleList([Down(1, width), Down(width, 2 * width), Down(2 * width, 4 * width)])
        self.bottom = nn.Conv2d(4 * width, 8 * width, 3, padding=1)
        sizes = ((8, 4), (4, 2), (2, 1))
        self.ups = nn.ModuleList(Up(a * width, b * width, bilinear) for a, b in sizes)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, H, W) → (N, classes, H, W)."""
        skips = []
        for down in self.downs:
            x, skip = down(x)
            skips.append(skip)
        x = torch.relu(self.bottom(x))
        for up, skip in zip(self.ups, reversed(skips), strict=True):
            x = up(x, skip)
        return self.head(x)


def build(classes: int = 3, width: int = 8, bilinear: bool = False) -> TinyUNet:
    """The model, with the same weights on every call."""
    return seeded(lambda: TinyUNet(classes, width, bilinear))


def example_inputs() -> Tensor:
    """One picture of odd size."""
    return image(1, 1, 75, 93)
