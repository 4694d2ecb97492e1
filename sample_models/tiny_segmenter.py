"""A dilated backbone with atrous spatial pyramid pooling, and a second head that runs in training only."""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sample_models._common import image, seeded


def conv_bn(c_in: int, c_out: int, kernel: int = 3, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU, of unchanged size at stride 1."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride, dilation * (kernel // 2), dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU(inplace=True))


class ASPP(nn.Module):
    """The same map at several dilations and its global average, side by side."""

    def __init__(self, c_in: int, c_out: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        self.branches = nn.ModuleList([conv_bn(c_in, c_out, 1), *(conv_bn(c_in, c_out, dilation=r) for r in rates)])
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c_in, c_out, 1), nn.ReLU())
        self.project = conv_bn((len(rates) + 2) * c_out, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) → (N, C_out, H, W)."""
        parts = [branch(x) for branch in self.branches]
        parts.append(F.interpolate(self.pool(x), size=x.shape[-2:], mode="bilinear", align_corners=False))
        return self.project(torch.cat(parts, 1))


class TinySegmenter(nn.Module):
    """Backbone at stride 4, pyramid, classifier; outputs in an ordered dict."""

    def __init__(self, classes: int = 5, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(3, width, stride=2), conv_bn(width, 2 * width, stride=2))
        self.body = nn.Sequential(conv_bn(2 * width, 2 * width, dilation=2), conv_bn(2 * width, 2 * width, dilation=4))
        self.aspp = ASPP(2 * width, 2 * width, (2, 4))
        self.classifier = nn.Sequential(
            conv_bn(2 * width, 2 * width), nn.Dropout(0.1), nn.Conv2d(2 * width, classes, 1)
        )
        self.aux = nn.Sequential(conv_bn(2 * width, width), nn.Conv2d(width, classes, 1))

    def forward(self, x: Tensor) -> "OrderedDict[str, Tensor]":
        """(N, 3, H, W) → ``out`` and, in training, ``aux``, both (N, classes, H, W)."""
        size = x.shape[-2:]
        features = self.body(self.stem(x))
        found = OrderedDict(out=self.classifier(self.aspp(features)))
        if self.training:
            found["aux"] = self.aux(features)
        for name, value in found.items():
            found[name] = F.interpolate(value, size=size, mode="bilinear", align_corners=False)
        return found


def build(classes: int = 5, width: int = 16) -> TinySegmenter:
    """The model, with the same weights on every call."""
    return seeded(lambda: TinySegmenter(classes, width))


def example_inputs() -> Tensor:
    """One image."""
    return image(1, 3, 64, 80)
