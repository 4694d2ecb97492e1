"""What each layer of one model costs by itself."""

from __future__ import annotations

from saconv_surgeon.records import LayerCost, Profile
from saconv_surgeon.report import human
from saconv_surgeon.report.blocks import ROOT, Block, Cell, Column, Table, line

WIDE = 120
LAYERS_SHOWN = 25
BAR, SHORT_BAR = 16, 8


def layer_table(record: Profile, width: int, every_layer: bool) -> list[Block]:
    """The heaviest layers, or all, in the order of the model."""
    layers = list(record.layers) if every_layer else _heaviest(record.layers)
    timed = any(layer.latency_s is not None for layer in layers)
    trained = any(layer.backward_s is not None for layer in layers)
    total_s = sum(layer.latency_s or 0.0 for layer in record.layers)
    largest = max((layer.macs or 0 for layer in layers), default=0)
    length = BAR if width >= WIDE else SHORT_BAR
    rows = []
    for layer in layers:
        time = (human.seconds(layer.latency_s) if layer.latency_s else "", _share(layer.latency_s, total_s))
        rows.append(
            (
                layer.path or ROOT,
                layer.type,
                human.count(layer.parameters),
                human.count(layer.macs),
                _share(layer.macs, record.macs),
                *(time if timed else ()),
                *(_training(layer) if trained else ()),
                human.count(layer.ops),
                human.memory(layer.bytes_moved),
                Cell("▇" * _bar_length(layer, largest, length), "bar"),
            )
        )
    blocks: list[Block] = [Table("", _columns(timed, trained), tuple(rows))]
    hidden = len(record.layers) - len(layers)
    if hidden:
        blocks.append(line(f"… and {human.plural(hidden, 'lighter layer')}; -v shows all", "dim"))
    if timed:
        caveat = "layer times: passes of their own, with hooks, which cost time; compare them with each other"
        blocks.append(line(caveat, "dim"))
    return blocks


def _columns(timed: bool, trained: bool) -> tuple[Column, ...]:
    def number(title: str, from_width: int = 0) -> Column:
        return Column(title, right=True, whole=True, from_width=from_width)

    return (
        Column("layer", least=12),
        Column("type", least=6),
        number("params"),
        number("MACs"),
        number("share", WIDE),
        *((number("time"), number("share", WIDE if trained else 0)) if timed else ()),
        *((number("backward"), number("saved")) if trained else ()),
        number("ops", WIDE),
        number("bytes", WIDE),
        Column("", whole=True),
    )


def _heaviest(layers: tuple[LayerCost, ...]) -> list[LayerCost]:
    """The few with the most MACs, or with the longest time if none has any, in the order of the model."""
    heavy = sorted(layers, key=lambda layer: (layer.macs or 0, layer.latency_s or 0.0), reverse=True)[:LAYERS_SHOWN]
    kept = {id(layer) for layer in heavy}
    return [layer for layer in layers if id(layer) in kept]


def _share(part: float | None, whole: float | None) -> str:
    return human.percent(part / whole) if part and whole else ""


def _training(layer: LayerCost) -> tuple[str, str]:
    """Its backward, and what autograd keeps for it."""
    return (
        human.seconds(layer.backward_s) if layer.backward_s else "",
        human.memory(layer.saved_bytes) if layer.saved_bytes else "",
    )


def _bar_length(layer: LayerCost, largest: int, longest: int) -> int:
    return round(longest * (layer.macs or 0) / largest) if largest else 0
