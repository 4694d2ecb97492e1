"""The layers of two models whose cost differs."""

from __future__ import annotations

from saconv_surgeon.records import Diff, LayerCost
from saconv_surgeon.report import human
from saconv_surgeon.report.blocks import BLANK, ROOT, Block, Column, Table, line

ROWS_SHOWN = 20
BAR, WIDE = 10, 110
"""The length of a bar, and the width from which on it is twice as long."""
COLUMNS = (
    Column("layer", least=12),
    *(Column(title, right=True, whole=True) for title in ("params", "MACs A", "MACs B", "ratio")),
    Column("", whole=True),
)


def layer_changes(record: Diff, width: int, *, every_row: bool) -> list[Block]:
    """Their cost before and after, the largest difference first, with bars of their MACs."""
    rows_a, rows_b = ({row.path: row for row in p.layers} for p in (record.a, record.b))
    pairs = [
        (rows_a.get(p.a) if p.a is not None else None, rows_b.get(p.b) if p.b is not None else None)
        for p in record.layers
    ]
    costly = [(a, b) for a, b in pairs if any(_of(a, field) != _of(b, field) for field in ("parameters", "macs"))]
    costly.sort(key=lambda pair: abs(_of(pair[1], "macs") - _of(pair[0], "macs")), reverse=True)
    if not costly:
        return []
    shown = costly if every_row else costly[:ROWS_SHOWN]
    most = max(_of(row, "macs") for pair in shown for row in pair)
    length = BAR if width < WIDE else 2 * BAR
    rows = tuple(_row(a, b, most, length) for a, b in shown)
    blocks: list[Block] = [BLANK, Table("", COLUMNS, rows)]
    if len(shown) < len(costly):
        blocks.append(line(f"… and {len(costly) - len(shown)} more; -v shows all", "dim"))
    return blocks


def _row(a: LayerCost | None, b: LayerCost | None, most: float, length: int) -> tuple[str, ...]:
    added = _of(b, "parameters") - _of(a, "parameters")
    sign = "+" if added > 0 else "−" if added else "±"
    row = a or b
    assert row is not None
    return (
        row.path or ROOT,
        f"{sign}{human.count(abs(added))}",
        human.count(a.macs) if a else "—",
        human.count(b.macs) if b else "—",
        human.ratio(a.macs, b.macs) if a and b else "new" if b else "gone",
        human.bars(_of(a, "macs"), _of(b, "macs"), most, length),
    )


def _of(row: LayerCost | None, field: str) -> float:
    return getattr(row, field, None) or 0
