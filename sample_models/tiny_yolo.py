"""A YOLO-style multi-scale detector: Conv–BN–SiLU, split-and-concatenate blocks, a neck down and up again, three heads.

Like the real ones it keeps its layers in an indexed list with routing numbers on the layers, and its forward takes ``*args``:
``torch.fx.symbolic_trace`` fails at the root.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sample_models._common import image, seeded

LEVELS = 3
BINS = 8


class Conv(nn.Module):
    """Convolution, batch norm, SiLU."""

    def __init__(self, c_in: int, c_out: int, k: int = 1, s: int = 1, g: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, k, s, k // 2, groups=g, bias=False)
        self.bn = nn.BatchNorm2d(c_out)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) → (N, C_out, H/s, W/s)."""
        return self.act(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    """Two 3×3 convolutions, with a shortcut if asked."""

    def __init__(self, c: int, shortcut: bool) -> None:
        super().__init__()
        self.cv1, self.cv2, self.add = Conv(c, c, 3), Conv(c, c, 3), shortcut

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        y = self.cv2(self.cv1(x))
        return x + y if self.add else y


class Split(nn.Module):
    """Halves the channels, runs one half through bottlenecks, and concatenates every stage."""

    def __init__(self, c_in: int, c_out: int, n: int = 1, shortcut: bool = True) -> None:
        super().__init__()
        half = c_out // 2
        self.cv1, self.cv2 = Conv(c_in, c_out), Conv((2 + n) * half, c_out)
        self.m = nn.ModuleList(Bottleneck(half, shortcut) for _ in range(n))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) → (N, C_out, H, W)."""
        parts = list(self.cv1(x).chunk(2, 1))
        parts.extend(block(parts[-1]) for block in self.m)
        return self.cv2(torch.cat(parts, 1))


class PyramidPool(nn.Module):
    """The same max pool three times over, all stages concatenated."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.cv1, self.cv2 = Conv(c, c // 2), Conv(2 * c, c)
        self.m = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        stages = [self.cv1(x)]
        stages.extend(self.m(stages[-1]) for _ in range(3))
        return self.cv2(torch.cat(stages, 1))


class Concat(nn.Module):
    """Concatenates along the channels."""

    def forward(self, x: list[Tensor]) -> Tensor:
        """Maps of equal size → one."""
        return torch.cat(x, 1)


class Detect(nn.Module):
    """Boxes as distributions over distances, and class scores, for each level."""

    def __init__(self, classes: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.nc = classes
        self.cv2 = nn.ModuleList(
            nn.Sequential(Conv(c, 16, 3), Conv(16, 16, 3), nn.Conv2d(16, 4 * BINS, 1)) for c in channels
        )
        self.cv3 = nn.ModuleList(
            nn.Sequential(Conv(c, c, 3, g=c), Conv(c, 16), nn.Conv2d(16, classes, 1)) for c in channels
        )
        self.dfl = nn.Conv2d(BINS, 1, 1, bias=False).requires_grad_(False)
        self.dfl.weight.data[:] = torch.arange(BINS, dtype=torch.float).view(1, BINS, 1, 1)

    def forward(self, x: list[Tensor]) -> Any:
        """Three maps → raw maps in training, ``(decoded, raw maps)`` in eval mode; decoded is (N, 4 + classes, anchors)."""
        raw = [torch.cat((box(m), score(m)), 1) for m, box, score in zip(x, self.cv2, self.cv3, strict=True)]
        if self.training:
            return raw
        n = raw[0].shape[0]
        flat = torch.cat([m.view(n, 4 * BINS + self.nc, -1) for m in raw], 2)
        boxes, scores = flat.split((4 * BINS, self.nc), 1)
        boxes = boxes.view(n, 4, BINS, -1).transpose(2, 1).softmax(1)
        return torch.cat((self.dfl(boxes).view(n, 4, -1), scores.sigmoid()), 1), raw


class TinyYOLO(nn.Module):
    """Layers in a list; each says by ``f`` where its input comes from: -1 is the layer before."""

    def __init__(self, classes: int = 4, width: int = 8) -> None:
        super().__init__()
        w = width
        plan: list[tuple[int | list[int], nn.Module]] = [
            (-1, Conv(3, w, 3, 2)),
            (-1, Conv(w, 2 * w, 3, 2)),
            (-1, Split(2 * w, 2 * w)),
            (-1, Conv(2 * w, 4 * w, 3, 2)),
            (-1, Split(4 * w, 4 * w, 2)),
            (-1, Conv(4 * w, 8 * w, 3, 2)),
            (-1, PyramidPool(8 * w)),
            (-1, nn.Upsample(scale_factor=2, mode="nearest")),
            ([-1, 4], Concat()),
            (-1, Split(12 * w, 4 * w, shortcut=False)),
            (-1, nn.Upsample(scale_factor=2, mode="nearest")),
            ([-1, 2], Concat()),
            (-1, Split(6 * w, 2 * w, shortcut=False)),
            (-1, Conv(2 * w, 2 * w, 3, 2)),
            ([-1, 9], Concat()),
            (-1, Split(6 * w, 4 * w, shortcut=False)),
            (-1, Conv(4 * w, 4 * w, 3, 2)),
            ([-1, 6], Concat()),
            (-1, Split(12 * w, 8 * w, shortcut=False)),
            ([12, 15, 18], Detect(classes, (2 * w, 4 * w, 8 * w))),
        ]
        self.model = nn.Sequential(*(layer for _, layer in plan))
        for layer, (source, _) in zip(self.model, plan, strict=True):
            layer.f = source

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """(N, 3, H, W) → three raw maps in training; ``(decoded, raw maps)`` in eval mode."""
        if isinstance(x, dict):
            raise TypeError("a batch with labels needs a loss, which this sample does not have")
        return self._predict(x, *args, **kwargs)

    def _predict(self, x: Tensor, profile: bool = False) -> Any:
        kept: list[Tensor] = []
        for layer in self.model:
            if layer.f != -1:
                sources = [layer.f] if isinstance(layer.f, int) else layer.f
                found = [x if source == -1 else kept[source] for source in sources]
                x = found if isinstance(layer.f, list) else found[0]  # type: ignore[assignment]
            x = layer(x)
            kept.append(x)
        return x


def letterbox(x: Tensor, multiple: int = 32) -> Tensor:
    """Pads (N, 3, H, W) to sides that the strides divide."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % multiple, 0, -height % multiple), value=0.447)


def build(classes: int = 4, width: int = 8) -> TinyYOLO:
    """The model, with the same weights on every call."""
    return seeded(lambda: TinyYOLO(classes, width))


def example_inputs() -> Tensor:
    """One image."""
    return letterbox(image(1, 3, 90, 128))
