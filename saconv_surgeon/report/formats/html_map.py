"""The map of an HTML report: a tile for every layer, in boxes for its containers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from saconv_surgeon.report.page import Layer, Page

LEVELS = 2
"""How deep the boxes of the map are nested; what is inside the innermost is listed in order."""
KINDS = (
    ("convolution", ("conv",)),
    ("norm", ("norm",)),
    ("linear or attention", ("linear", "attention", "embed")),
)
SMALLEST, LARGEST = 10, 44
"""Pixels: the width of a tile without and with the most multiply-accumulates."""


@dataclass
class Box:
    """A container: its name, and the layers and boxes in it, in order."""

    name: str
    items: list[tuple[int, Layer] | Box] = field(default_factory=list)

    @property
    def layers(self) -> Iterator[Layer]:
        """All layers in it."""
        for item in self.items:
            if isinstance(item, Box):
                yield from item.layers
            else:
                yield item[1]

    def is_box(self, item: Any) -> bool:
        """For the template."""
        return isinstance(item, Box)


def map_of(page: Page) -> Box:
    """The outermost box."""
    root = Box("")
    paths = [layer.row.path for layer in page.layers]
    holders = {".".join(parts[:n]) for parts in (path.split(".") for path in paths) for n in range(1, len(parts))}
    for i, layer in enumerate(page.layers):
        parts = layer.row.path.split(".")
        above = (parts if layer.row.path in holders else parts[:-1])[:LEVELS]
        box = root
        for name in above:
            last = box.items[-1] if box.items else None
            if not (isinstance(last, Box) and last.name == name):
                last = Box(name)
                box.items.append(last)
            box = last
        box.items.append((i, layer))
    return root


def kind_of(layer: Layer) -> str:
    """What colours its tile."""
    if layer.converted:
        return "converted"
    name = layer.row.type.lower()
    return next((kind for kind, parts in KINDS if any(part in name for part in parts)), "other")


def macs_of(layer: Layer) -> float:
    """The larger of both models; 0 if neither is known."""
    return max(value or 0.0 for value in layer.figure("macs"))


def width_of(layer: Layer, largest: float) -> int:
    """Pixels of its tile, if the largest layer has ``largest`` multiply-accumulates."""
    share = math.sqrt(macs_of(layer) / largest) if largest else 0.0
    return round(SMALLEST + (LARGEST - SMALLEST) * share)
