"""A report as one HTML file that needs nothing else: no network, no fonts, and no script but its own.

The tables are in the file as they are shown, so that it reads without scripts and aloud; the script sorts, filters and labels the
charts. A content security policy with the script's hash forbids everything else, whatever a model calls its layers.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from saconv_surgeon.report.page import Figure, Layer, Page

CHARTS = ("macs", "parameters", "latency_s")
"""What is drawn, layer by layer."""
SLOT, HEIGHT = 8, 100
"""Units of a chart: the width of a layer, and the height of the largest bar."""
LEVELS = 2
"""How deep the boxes of the map go; what is inside the innermost stands in order."""
KINDS = (
    ("convolution", ("conv",)),
    ("norm", ("norm",)),
    ("linear or attention", ("linear", "attention", "embed")),
)
NOISE = 1.1
"""The ratio from which on a change is coloured."""
SMALLEST, LARGEST = 10, 44
"""Pixels: the width of a tile without and with the most multiply-accumulates."""


def render(page: Page) -> str:
    """The whole file."""
    script = _asset("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            page=page,
            style=Markup(_asset("report.css")),
            script=Markup(script),
            digest=digest,
            charts=[c for c in (_chart(page, name) for name in CHARTS) if c is not None],
            map=_map(page),
            largest=max((_macs(layer) for layer in page.layers), default=0),
            data=Markup(_data(page)),
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("saconv_surgeon.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.globals |= {"kind_of": _kind, "width_of": _width, "trend": _trend}
    environment.filters["breakable"] = _breakable
    return environment


def _asset(name: str) -> str:
    return resources.files("saconv_surgeon.report").joinpath("templates", name).read_text(encoding="utf-8")


def _data(page: Page) -> str:
    """The numbers of the layers for the script, so written that no name ends the element that holds them."""
    rows = [
        [layer.path, layer.type, *(value for f in page.figures for value in layer.figure(f.field))]
        for layer in page.layers
    ]
    content = {"sides": page.sides, "figures": [f.field for f in page.figures], "rows": rows}
    written = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return (
        written.replace("<", "\\u003c")
        .replace("&", "\\u0026")
        .replace("\u2028", "\\u2028")
        .replace("\u2029", "\\u2029")
    )


def _trend(values: tuple[float | None, float | None]) -> str:
    """The class of a cell whose figure changed by more than times of layers do by themselves."""
    a, b = values
    if a is None or b is None:
        return ""
    return "more" if b > NOISE * a else "less" if a > NOISE * b else ""


def _breakable(name: str) -> Markup:
    """A path that may go on in the next line behind a dot, rather than anywhere."""
    return Markup(".<wbr>").join(name.split("."))


# ------------------------------------------------------------------ the charts


@dataclass(frozen=True)
class _Chart:
    """Bars of every layer as one path for each model."""

    figure: Figure
    width: int
    paths: tuple[tuple[str, str], ...]
    most: str
    heaviest: str


def _chart(page: Page, name: str) -> _Chart | None:
    figure = next((f for f in page.figures if f.field == name), None)
    if figure is None:
        return None
    values = [[layer.figure(name)[i] or 0.0 for layer in page.layers] for i in (0, 1)]
    most = max(map(max, values), default=0.0)
    if not most:
        return None
    sides = [("before", 0), ("after", 1)] if page.is_pair else [("after", 1)]
    paths = tuple((name, _bars(values[i], most, k, len(sides))) for k, (name, i) in enumerate(sides))
    peak = max(page.layers, key=lambda layer: max(v or 0.0 for v in layer.figure(figure.field)))
    return _Chart(figure, SLOT * len(page.layers), paths, figure.show(most), peak.path)


def _bars(values: Sequence[float], most: float, place: int, of: int) -> str:
    width = (SLOT - 2) / of
    bars = ((SLOT * i + 1 + width * place, HEIGHT * value / most) for i, value in enumerate(values) if value)
    return "".join(f"M{x:g} {HEIGHT}v-{max(height, 0.6):.4g}h{width:g}v{max(height, 0.6):.4g}z" for x, height in bars)


# ------------------------------------------------------------------ the map


@dataclass
class _Box:
    """A container: its name, and the layers and boxes in it, in order."""

    name: str
    items: list[tuple[int, Layer] | _Box] = field(default_factory=list)

    @property
    def layers(self) -> Iterator[Layer]:
        for item in self.items:
            if isinstance(item, _Box):
                yield from item.layers
            else:
                yield item[1]

    def is_box(self, item: Any) -> bool:
        """For the template."""
        return isinstance(item, _Box)


def _map(page: Page) -> _Box:
    root = _Box("")
    paths = [layer.row.path for layer in page.layers]
    holders = {".".join(parts[:n]) for parts in (path.split(".") for path in paths) for n in range(1, len(parts))}
    for i, layer in enumerate(page.layers):
        parts = layer.row.path.split(".")
        above = (parts if layer.row.path in holders else parts[:-1])[:LEVELS]
        box = root
        for name in above:
            last = box.items[-1] if box.items else None
            if not (isinstance(last, _Box) and last.name == name):
                last = _Box(name)
                box.items.append(last)
            box = last
        box.items.append((i, layer))
    return root


def _kind(layer: Layer) -> str:
    if layer.converted:
        return "converted"
    name = layer.row.type.lower()
    return next((kind for kind, parts in KINDS if any(part in name for part in parts)), "other")


def _macs(layer: Layer) -> float:
    return max(value or 0.0 for value in layer.figure("macs"))


def _width(layer: Layer, largest: float) -> int:
    share = math.sqrt(_macs(layer) / largest) if largest else 0.0
    return round(SMALLEST + (LARGEST - SMALLEST) * share)
