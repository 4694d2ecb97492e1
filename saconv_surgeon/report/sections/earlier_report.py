"""A profile against an earlier one."""

from __future__ import annotations

from saconv_surgeon.records import Comparison, FigureChange
from saconv_surgeon.report import human
from saconv_surgeon.report.blocks import BLANK, ROOT, Block, Column, Table, line, table

LAYERS_SHOWN = 25
LABELS = {
    "macs": "MACs",
    "flops": "FLOPs",
    "latency_median_s": "latency",
    "saved_bytes": "saved",
    "peak_memory_bytes": "peak memory",
}


def since(record: Comparison) -> list[Block]:
    """The totals beside the earlier ones, the layers that changed, and the conditions that did."""
    numbers = tuple(Column(title, right=True) for title in ("before", "now", "ratio"))
    totals = Table("", (Column("since"), *numbers), tuple(map(_cells, record.totals)))
    blocks: list[Block] = [line(f"against {record.report} ({record.model})", "strong"), totals]
    if record.layers:
        columns = (Column("changed layer", least=12), Column("figure"), *numbers)
        rows = tuple((change.path or ROOT, *_cells(change)) for change in record.layers[:LAYERS_SHOWN])
        blocks += [BLANK, Table("", columns, rows)]
        if len(record.layers) > LAYERS_SHOWN:
            blocks.append(line(f"… and {len(record.layers) - LAYERS_SHOWN} more; --json has all", "dim"))
    else:
        blocks.append(line("no layer changed in parameters, MACs, FLOPs or activations", "dim"))
    for condition in record.conditions:
        text = f"different now: {condition.name} was {condition.before}, is {condition.after}"
        blocks.append(line(text, "warn"))
    how = "under the same conditions, but not in turn" if record.same_conditions else "under other conditions"
    return [*blocks, line(f"latency: timed {how}; for a verdict, use diff", "dim")]


def since_pages(record: Comparison | None) -> tuple[Table, ...]:
    """The same for a page."""
    if record is None:
        return ()
    changes = [((c.path or ROOT) if c.path is not None else "", *_cells(c)) for c in (*record.totals, *record.layers)]
    conditions = [(c.name, c.before or "—", c.after or "—") for c in record.conditions]
    columns = ("layer", "figure", "before", "now", "ratio")
    return (
        table(f"Since {record.report}", columns, changes, f"against {record.model}"),
        table("Circumstances that changed", ("", "before", "now"), conditions),
    )


def _cells(change: FigureChange) -> tuple[str, str, str, str]:
    """The name of the figure, before, now, and their ratio."""
    label = LABELS.get(change.figure, change.figure.replace("_", " "))
    show = human.memory if "bytes" in change.figure else human.seconds if change.figure.endswith("_s") else human.count
    return label, show(change.before), show(change.after), human.ratio(change.before, change.after)
