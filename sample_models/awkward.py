"""Everything that trips a converter, in one model."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from sample_models._common import image, seeded


class StdConv2d(nn.Conv2d):
    """A subclass with a forward of its own: the kernel is standardised on every call."""

    def forward(self, x: Tensor) -> Tensor:
        """As ``nn.Conv2d``."""
        var, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True)
        return self._conv_forward(x, (self.weight - mean) / torch.sqrt(var + 1e-5), self.bias)


@dataclass
class Found:
    """Part of the output."""

    boxes: Tensor
    labels: Tensor
    note: str


class Awkward(nn.Module):
    """Shared, aliased, twice-sized, functional, unused, parametrised and subclassed convolutions, and control flow on data."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        w = width
        self.stem = nn.Conv2d(3, w, 3, padding="same")
        self.shared = nn.Conv2d(w, w, 3, padding=1)
        self.alias = self.shared
        self.two_sizes = nn.Conv2d(w, w, 3, padding="same", dilation=2)
        self.reflect = nn.Conv2d(w, w, 3, padding=1, padding_mode="reflect")
        self.circular = nn.Conv2d(w, w, (3, 1), padding=(1, 0), padding_mode="circular")
        self.even = nn.Conv2d(w, w, 4, stride=2, padding=1)
        self.valid = nn.Conv2d(w, w, 3, padding="valid")
        self.grouped = nn.Conv2d(w, w, 3, padding=1, groups=2)
        self.depthwise = nn.Conv2d(w, w, 3, padding=1, groups=w)
        self.pointwise = nn.Conv2d(w, w, 1)
        self.normed = parametrizations.weight_norm(nn.Conv2d(w, w, 3, padding=1))
        self.spectral = parametrizations.spectral_norm(nn.Conv2d(w, w, 3, padding=1))
        self.standardised = StdConv2d(w, w, 3, padding=1)
        self.never = nn.Conv2d(w, w, 3)
        self.up = nn.ConvTranspose2d(w, w, 2, stride=2)
        self.along = nn.Conv1d(w, w, 3, padding=1)
        self.volume = nn.Conv3d(1, 2, 3, padding=1)
        self.branches = nn.ModuleDict(
            {
                "bright[x]": nn.Conv2d(w, w, 3, padding=1),
                "dark": nn.Conv2d(w, w, 3, padding=1, padding_mode="replicate"),
            }
        )
        self.kernel = nn.Parameter(torch.randn(w, w, 3, 3) * 0.1)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> dict[str, object]:
        """``x`` (N, 3, H, W), ``mask`` (N, 1, H, W) or None → a dict of maps and a dataclass."""
        x = torch.relu(self.stem(x))
        if mask is not None:
            x = x * mask
        x = self.shared(x) + self.alias(torch.tanh(x))
        x = self.branches["bright[x]"](x) if x.mean() > 0 else self.branches["dark"](x)
        small = self.two_sizes(F.avg_pool2d(x, 2))
        x = self.circular(self.reflect(self.two_sizes(x)))
        x = self.grouped(self.pointwise(x)) + self.depthwise(x)
        x = torch.relu(self.normed(x) + self.spectral(x) + self.standardised(x))
        x = x + F.conv2d(x, self.kernel, padding=1)
        low = self.even(x)
        column = self.along(low.mean(3))
        volume = self.volume(low.unsqueeze(1)).mean(1)
        corner = self.valid(low)
        found = Found(corner.mean((2, 3)), column.argmax(1), "kept as it is")
        return {"map": self.up(low + small + volume), "found": found, "small": [small, (column,)]}


def build(width: int = 8) -> Awkward:
    """The model, with the same weights on every call."""
    return seeded(lambda: Awkward(width))


def example_inputs() -> tuple[Tensor, Tensor]:
    """An image and a mask with a hole."""
    mask = torch.ones(2, 1, 24, 32)
    mask[..., 4:8, 4:8] = 0
    return image(2, 3, 24, 32), mask
