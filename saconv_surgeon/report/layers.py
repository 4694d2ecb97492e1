"""The table of layers: what each costs by itself."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from saconv_surgeon.records import LayerCost, Profile
from saconv_surgeon.report import text

WIDE = 120
LAYERS_SHOWN = 25
BAR, SHORT_BAR = 16, 8


def table(record: Profile, width: int, every_layer: bool) -> RenderableType:
    """The heaviest layers, or all, in the order of the model."""
    layers = list(record.layers) if every_layer else _heaviest(record.layers)
    timed = any(layer.latency_s is not None for layer in layers)
    rows = Table(box=None, pad_edge=False, header_style="bold")
    rows.add_column("layer", overflow="fold", min_width=12)
    rows.add_column("type", overflow="fold", min_width=6)
    for title in (
        "params",
        "MACs",
        *(("share",) if width >= WIDE else ()),
        *(("time", "share") if timed else ()),
        *(("ops", "bytes") if width >= WIDE else ()),
    ):
        rows.add_column(title, justify="right", no_wrap=True)
    rows.add_column("", no_wrap=True)
    length = BAR if width >= WIDE else SHORT_BAR
    total_s = sum(layer.latency_s or 0.0 for layer in record.layers)
    largest = max((layer.macs or 0 for layer in layers), default=0)
    for layer in layers:
        cells = [layer.path or "(the model itself)", layer.type, text.count(layer.parameters), text.count(layer.macs)]
        if width >= WIDE:
            cells.append(_share(layer.macs, record.macs))
        if timed:
            cells += [text.seconds(layer.latency_s) if layer.latency_s else "", _share(layer.latency_s, total_s)]
        if width >= WIDE:
            cells += [text.count(layer.ops), text.memory(layer.bytes_moved)]
        rows.add_row(*map(Text, cells), Text("▇" * _bar_length(layer, largest, length), style="cyan"))
    lines: list[RenderableType] = [rows]
    hidden = len(record.layers) - len(layers)
    if hidden:
        lines.append(Text(f"… and {text.plural(hidden, 'lighter layer')}; -v shows all", style="dim"))
    if timed:
        lines.append(
            Text(
                "layer times: passes of their own, with hooks, which cost time; compare them with each other",
                style="dim",
            )
        )
    return Group(*lines)


def _heaviest(layers: tuple[LayerCost, ...]) -> list[LayerCost]:
    """The few with the most MACs (where none has any, with the longest time), in the order of the model."""
    heavy = sorted(layers, key=lambda layer: (layer.macs or 0, layer.latency_s or 0.0), reverse=True)[:LAYERS_SHOWN]
    kept = {id(layer) for layer in heavy}
    return [layer for layer in layers if id(layer) in kept]


def _share(part: float | None, whole: float | None) -> str:
    return text.percent(part / whole) if part and whole else ""


def _bar_length(layer: LayerCost, largest: int, longest: int) -> int:
    return round(longest * (layer.macs or 0) / largest) if largest else 0
