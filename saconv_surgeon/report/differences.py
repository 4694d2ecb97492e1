"""What differs besides the price: structure, weights and outputs of two models; a profile and an earlier one."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from saconv_surgeon.records import Comparison, Diff, FigureChange
from saconv_surgeon.report import text

CHANGES_SHOWN = 6
LAYERS_SHOWN = 25


def structure(record: Diff) -> list[RenderableType]:
    """The modules that differ."""
    if not record.structure:
        return [Text("structure: no difference")]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("structure", overflow="fold", min_width=12)
    table.add_column("A", overflow="fold")
    table.add_column("B", overflow="fold")
    for change in record.structure:
        table.add_row(Text(change.path or "(the model itself)"), *_both_sides(change.a, change.b))
    return [table]


def _both_sides(a: str | None, b: str | None) -> tuple[Text, Text]:
    """Settings that are the same on both sides are said once."""
    if a is not None and b is not None and a.partition("(")[2] == b.partition("(")[2]:
        return Text(a), Text(f"{b.partition('(')[0]}, same settings")
    return Text(a or "—"), Text(b or "—")


def weights(record: Diff) -> list[RenderableType]:
    """The tensors that differ, largest change first."""
    w = record.weights
    if w is None:
        return []
    lines = [
        Text(),
        Text(
            f"weights: {text.plural(w.equal, 'tensor')} equal, {len(w.changed)} changed, {len(w.reshaped)} of another shape, "
            f"{len(w.only_in_a)} only in A, {len(w.only_in_b)} only in B"
        ),
    ]
    for change in w.changed[:CHANGES_SHOWN]:
        lines.append(Text(f"  {change.name}  changed by {text.error(change.relative)} relative", style="dim"))
    for label, names in (("another shape", w.reshaped), ("only in A", w.only_in_a), ("only in B", w.only_in_b)):
        if names:
            lines.append(Text(f"  {label}: {text.names(names)}", style="dim"))
    return [*lines]


def outputs(record: Diff) -> list[RenderableType]:
    """How far apart the outputs are."""
    o = record.outputs
    if o is None:
        return []
    if o.bit_equal:
        return [Text(f"outputs: bit-identical ({text.plural(o.tensors, 'tensor')})", style="green")]
    line = Text(f"outputs: max abs {text.error(o.max_abs)}, max rel {text.error(o.max_rel)}, cosine ")
    line.append("n/a" if o.cosine is None else f"{o.cosine:.6f}")
    return [line, *(Text(f"  {problem}", style="yellow") for problem in o.problems)]


# ------------------------------------------------------------------ since an earlier report

LABELS = {
    "macs": "MACs",
    "flops": "FLOPs",
    "latency_median_s": "latency",
    "saved_bytes": "saved",
    "peak_memory_bytes": "peak memory",
}


def since(record: Comparison) -> list[RenderableType]:
    """The totals beside those of an earlier report, the layers that changed, and what was different at the time."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("since", "before", "now", "ratio"):
        table.add_column(title, justify="left" if title == "since" else "right", overflow="fold")
    for change in record.totals:
        table.add_row(*_change_cells(change, LABELS.get(change.figure, change.figure.replace("_", " "))))
    lines: list[RenderableType] = [Text(f"against {record.report} ({record.model})", style="bold"), table]
    if record.layers:
        rows = Table(box=None, pad_edge=False, header_style="bold")
        rows.add_column("changed layer", overflow="fold", min_width=12)
        for title in ("figure", "before", "now", "ratio"):
            rows.add_column(title, justify="left" if title == "figure" else "right", overflow="fold")
        for change in record.layers[:LAYERS_SHOWN]:
            figure, *cells = _change_cells(change, LABELS.get(change.figure, change.figure.replace("_", " ")))
            rows.add_row(Text(change.path or "(the model itself)"), figure, *cells)
        lines += [Text(), rows]
        if len(record.layers) > LAYERS_SHOWN:
            lines.append(Text(f"… and {len(record.layers) - LAYERS_SHOWN} more; --json has all", style="dim"))
    else:
        lines.append(Text("no layer changed in parameters, MACs, FLOPs or activations", style="dim"))
    for condition in record.conditions:
        lines.append(
            Text(f"different now: {condition.name} was {condition.before}, is {condition.after}", style="yellow")
        )
    how = "under the same conditions, but not in turn" if record.same_conditions else "under other conditions"
    lines.append(Text(f"latency: timed {how}; for a verdict, use diff", style="dim"))
    return lines


def _change_cells(change: FigureChange, label: str) -> tuple[Text, Text, Text, Text]:
    show = text.memory if "bytes" in change.figure else text.seconds if change.figure.endswith("_s") else text.count
    return (
        Text(label),
        Text(show(change.before)),
        Text(show(change.after)),
        Text(text.ratio(change.before, change.after)),
    )
