"""What differs besides the price: structure, weights and outputs of two models; a profile and an earlier one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from saconv_surgeon.records import Comparison, Diff, FigureChange, LayerCost, StructureChange
from saconv_surgeon.report import text

CHANGES_SHOWN = 6
LAYERS_SHOWN = 25
ROWS_SHOWN = 20
BAR, WIDE = 10, 110
"""Columns of a bar, and the width from which on it is twice as long."""
ROOT = "(the model itself)"
SIGNS = {"added": ("+", "green"), "removed": ("−", "red"), "changed": ("~", "yellow"), "renamed": ("→", "cyan")}
INNER = ("switch", "pre_context", "post_context", "offset_s", "offset_l", "bn", "act")
"""Parts of converted layers."""


def structure(record: Diff, *, every_row: bool) -> list[RenderableType]:
    """The modules that differ. Convolutions that only became another layer are listed by path alone."""
    if not record.structure:
        return [Text("structure: no difference", style="green")]
    swaps = _swaps(record.structure)
    lines: list[RenderableType] = [Text(f"structure: {_tally(record.structure)}", style="bold")]
    for kinds, changes in swaps.items():
        paths = [change.path or ROOT for change in changes]
        names = ", ".join(paths) if every_row else text.names(paths)
        lines.append(_indented(f"{kinds}, same settings: {names}"))
    told = {id(change) for changes in swaps.values() for change in changes}
    rest = [change for change in record.structure if id(change) not in told]
    for change in rest if every_row else rest[:ROWS_SHOWN]:
        lines.append(_change(change))
    if len(rest) > ROWS_SHOWN and not every_row:
        lines.append(Text(f"  … and {len(rest) - ROWS_SHOWN} more; -v shows all", style="dim"))
    return lines


def _swaps(changes: Sequence[StructureChange]) -> dict[str, list[StructureChange]]:
    """Layers of which only the class changed, by which into which, where there are several."""
    groups: dict[str, list[StructureChange]] = {}
    for change in changes:
        if change.change == "changed" and change.a and change.b and change.new_path is None:
            (kind_a, _, settings_a), (kind_b, _, settings_b) = (side.partition("(") for side in (change.a, change.b))
            if settings_a == settings_b:
                groups.setdefault(f"{kind_a} → {kind_b}", []).append(change)
    return {kinds: group for kinds, group in groups.items() if len(group) > 1}


def _tally(changes: Sequence[StructureChange]) -> str:
    counts: Counter[str] = Counter(change.change for change in changes)
    return ", ".join(f"{counts[kind]} {kind}" for kind in SIGNS if counts[kind])


def _change(change: StructureChange) -> RenderableType:
    """``+ body.60  Dropout(p=0.1)``."""
    sign, style = SIGNS[change.change]
    line = Text(f"{sign} ", style=style)
    line.append(change.path or ROOT, style="bold default")
    if change.new_path is not None:
        line.append(f" → {change.new_path or ROOT}", style="bold default")
    sides = dict.fromkeys(side for side in (change.a, change.b) if side is not None)
    line.append("  " + (text.become(*sides) if len(sides) == 2 else "".join(sides)), style="not bold default")
    if change.modules > 1:
        line.append(f"  ({text.plural(change.modules, 'module')})", style="dim")
    return Padding(line, (0, 0, 0, 2))


def layers(record: Diff, width: int, *, every_row: bool) -> list[RenderableType]:
    """The layers whose cost differs, before and after, the largest difference first, with bars of their MACs."""
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
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("layer", overflow="fold", min_width=12)
    for title in ("params", "MACs A", "MACs B", "ratio"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    most = max(_of(row, "macs") for pair in shown for row in pair)
    length = BAR if width < WIDE else 2 * BAR
    for a, b in shown:
        added = _of(b, "parameters") - _of(a, "parameters")
        sign = "+" if added > 0 else "−" if added else "±"
        path = (a or b).path  # type: ignore[union-attr]
        table.add_row(
            Text(path or ROOT),
            f"{sign}{text.count(abs(added))}",
            text.count(a.macs) if a else "—",
            text.count(b.macs) if b else "—",
            text.ratio(a.macs, b.macs) if a and b else "new" if b else "gone",
            text.bars(_of(a, "macs"), _of(b, "macs"), most, length),
        )
    lines: list[RenderableType] = [Text(), table]
    if len(shown) < len(costly):
        lines.append(Text(f"… and {len(costly) - len(shown)} more; -v shows all", style="dim"))
    return lines


def _indented(line: str, style: str = "") -> RenderableType:
    """What goes on in the next line stays indented."""
    return Padding(Text(line, style=style), (0, 0, 0, 2))


def _of(row: LayerCost | None, field: str) -> float:
    return getattr(row, field, None) or 0


def weights(record: Diff, *, every_row: bool) -> list[RenderableType]:
    """The tensors that differ, largest change first; what has NaN or infinities by name."""
    w = record.weights
    if w is None:
        return []
    lines: list[RenderableType] = [Text(), Text(f"weights: {text.weights(w)}")]
    lines += [_indented(line, style="bold red") for line in w.not_finite]
    for change in w.changed if every_row else w.changed[:CHANGES_SHOWN]:
        where = "" if change.name_b is None else f" ({change.name_b} in B)"
        how = ", as the kernel that is convolved with" if change.as_kernel else ""
        lines.append(_indented(f"{change.name}{where}  {text.weight_change(change)}{how}", style="dim"))
    for label, names in (("another shape", w.reshaped), ("only in A", w.only_in_a), ("only in B", w.only_in_b)):
        if names:
            listed = ", ".join(names) if every_row else text.names(_by_layer(names))
            lines.append(_indented(f"{label}: {listed}", style="dim"))
    return lines


def _by_layer(names: Sequence[str]) -> list[str]:
    """Several tensors of a layer as one entry: ``conv1 (9 tensors)``."""
    owners: dict[str, list[str]] = {}
    for name in names:
        parts = name.split(".")
        inner = next((i for i, part in enumerate(parts) if part in INNER), len(parts) - 1)
        owners.setdefault(".".join(parts[:inner]) if ":" not in name else name, []).append(name)
    return [
        f"{owner or ROOT} ({len(group)} tensors)" if len(group) > 1 else group[0] for owner, group in owners.items()
    ]


def outputs(record: Diff) -> list[RenderableType]:
    """How far apart the outputs are, and which layer is the first to give something else."""
    o = record.outputs
    if o is None:
        return []
    lines: list[RenderableType] = [Text(text.outputs(o), style="green" if o.bit_equal else "default")]
    lines += [Text(f"  {line}", style="bold red") for line in o.not_finite]
    return [*lines, *(Text(f"  {problem}", style="yellow") for problem in o.problems)]


def freedom(record: Diff, width: int) -> list[RenderableType]:
    """What trained switchable atrous layers do with what surgery gave them."""
    lines: list[RenderableType] = []
    for side, found in (("A", record.freedom_a), ("B", record.freedom_b)):
        if not found:
            continue
        lines += [Text(), Text(f"what surgery has become in {side}: {text.freedom_summary(found)}")]
        moved = [f for f in found if f.use != "at rest"]
        if not moved:
            continue
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("layer", overflow="fold", min_width=12)
        table.add_column("use")
        for title in (
            "moved",
            "switch",
            "Δw/w",
            "pre",
            "post",
            *(("offsets",) if any(f.offset for f in moved) else ()),
        ):
            table.add_column(title, justify="right", no_wrap=True)
        for f in sorted(moved, key=lambda f: f.moved or 0.0, reverse=True):
            cells = text.freedom(f)
            table.add_row(*map(Text, (f.path or ROOT, *cells[: len(table.columns) - 1])))
        lines.append(table)
    return lines


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
        table.add_row(*change_cells(change))
    lines: list[RenderableType] = [Text(f"against {record.report} ({record.model})", style="bold"), table]
    if record.layers:
        rows = Table(box=None, pad_edge=False, header_style="bold")
        rows.add_column("changed layer", overflow="fold", min_width=12)
        for title in ("figure", "before", "now", "ratio"):
            rows.add_column(title, justify="left" if title == "figure" else "right", overflow="fold")
        for change in record.layers[:LAYERS_SHOWN]:
            figure, *cells = change_cells(change)
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


def change_cells(change: FigureChange) -> tuple[Text, Text, Text, Text]:
    """The name of the figure, before, now, and their ratio."""
    label = LABELS.get(change.figure, change.figure.replace("_", " "))
    show = text.memory if "bytes" in change.figure else text.seconds if change.figure.endswith("_s") else text.count
    return (
        Text(label),
        Text(show(change.before)),
        Text(show(change.after)),
        Text(text.ratio(change.before, change.after)),
    )
