"""Where switchable layers look far in the user's picture."""

from __future__ import annotations

from saconv_surgeon.records import Diff
from saconv_surgeon.report import human
from saconv_surgeon.report.blocks import BLANK, Block, Column, Table, line
from saconv_surgeon.report.pictures import Gallery, Picture

SHOWN = 24
"""Pictures of both models together, of the layers that differ most from place to place."""


def switch_blocks(record: Diff) -> list[Block]:
    """A row for each layer; nothing without a picture."""
    if record.image is None:
        return []
    if not (record.switches_a or record.switches_b):
        return [BLANK, line("no layer has a switch: nothing to show over the picture", "dim")]
    return [BLANK, switch_table(record)]


def switch_table(record: Diff) -> Table:
    """How much each layer looks far."""
    columns = (
        Column("looks far in the picture", least=12),
        Column("mean", right=True, whole=True),
        Column("mostly far at", right=True, whole=True),
        Column("map", right=True, whole=True),
    )
    rows = tuple(
        (f"{side}: {each.path}", human.percent(each.mean), human.percent(each.far), human.shape(each.size))
        for side, found in (("A", record.switches_a), ("B", record.switches_b))
        for each in found
    )
    note = "The share of the wide branch, 1 − S, over the positions of each layer's map."
    return Table("Where layers look far", columns, rows, note)


def switch_tables(record: Diff) -> tuple[Table, ...]:
    """The same for a page."""
    return (switch_table(record),) if record.image is not None else ()


def switch_gallery(record: Diff) -> tuple[Gallery, ...]:
    """The maps over the picture."""
    if record.image is None or not (record.switches_a or record.switches_b):
        return ()
    pictures = []
    most = SHOWN // 2 if record.switches_a and record.switches_b else SHOWN
    for side, found in (("A", record.switches_a), ("B", record.switches_b)):
        ranked = sorted(found, key=lambda each: max(map(max, each.values)) - min(map(min, each.values)), reverse=True)
        kept = {each.path for each in ranked[:most]}
        pictures += [
            Picture(f"{side}: {each.path}", f"{human.percent(each.mean)} far", each.values, record.image.grey)
            for each in found
            if each.path in kept
        ]
    hidden = len(record.switches_a) + len(record.switches_b) - len(pictures)
    more = f" {hidden} more layers, whose maps are more even, are in the table." if hidden else ""
    note = (
        f"{record.image.name}, {record.image.normalised}. Teal is where a layer takes the wide branch, which looks three times "
        f"as far; grey is where it takes the narrow one. A switch is not bounded: what exceeds 0 or 1 is shown as these.{more}"
    )
    return (Gallery("Where layers look far", note, tuple(pictures)),)
