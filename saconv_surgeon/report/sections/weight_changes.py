"""Which tensors of two models differ."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from saconv_surgeon.records import Diff, WeightChange, WeightDiff
from saconv_surgeon.report import human
from saconv_surgeon.report.blocks import BLANK, ROOT, Line, Table, line, table

CHANGES_SHOWN = 6


def weight_changes(record: Diff, *, every_row: bool) -> list[Line]:
    """The tensors that differ, largest change first; those with NaN or infinities by name."""
    w = record.weights
    if w is None:
        return []
    lines = [BLANK, line(f"weights: {_counted(w)}")]
    lines += [line(text, "bad", indent=2) for text in w.not_finite]
    for change in w.changed if every_row else w.changed[:CHANGES_SHOWN]:
        where = "" if change.name_b is None else f" ({change.name_b} in B)"
        how = ", as the kernel that is convolved with" if change.as_kernel else ""
        lines.append(line(f"{change.name}{where}  {_in_words(change)}{how}", "dim", indent=2))
    converted = _converted_layers(record)
    for label, names in (("another shape", w.reshaped), ("only in A", w.only_in_a), ("only in B", w.only_in_b)):
        if names:
            listed = ", ".join(names) if every_row else human.names(_by_layer(names, converted))
            lines.append(line(f"{label}: {listed}", "dim", indent=2))
    return lines


def weight_pages(record: Diff) -> list[Table]:
    """The same for a page."""
    w = record.weights
    if w is None:
        return []
    changed = [(c.name, c.name_b or "", _in_words(c), "as kernel" if c.as_kernel else "") for c in w.changed]
    one_sided = [
        (name, what)
        for what, names in (("only in A", w.only_in_a), ("only in B", w.only_in_b), ("other shapes", w.reshaped))
        for name in names
    ]
    counted = _counted(w)
    return [
        table("Weights: NaN and infinities", ("tensor",), [(text,) for text in w.not_finite]),
        table("Weights: changed, largest first", ("tensor", "in B", "change", ""), changed, counted),
        table("Weights: on one side only", ("tensor", "where"), one_sided, "" if changed else counted),
    ]


def _counted(w: WeightDiff) -> str:
    return (
        f"{human.plural(w.equal, 'tensor')} equal, {len(w.changed)} changed, {len(w.reshaped)} of another shape, "
        f"{len(w.only_in_a)} only in A, {len(w.only_in_b)} only in B"
    )


def _in_words(c: WeightChange) -> str:
    """``changed by 0.012 relative``, or why there is no such number."""
    if c.relative is None:
        return f"changed, {c.why or 'by no finite ratio'}"
    return f"changed by {human.error(c.relative)} relative"


def _converted_layers(record: Diff) -> set[str]:
    """The paths of all converted layers; a layer with several paths has a row under the first of them only."""
    rows = [row for p in (record.a, record.b) for row in p.layers if row.converted]
    kinds = {row.type for row in rows}
    sides = [(c.path, c.a) for c in record.structure] + [(c.new_path or c.path, c.b) for c in record.structure]
    return {row.path for row in rows} | {path for path, own in sides if own and own.partition("(")[0] in kinds}


def _by_layer(names: Sequence[str], converted: Collection[str]) -> list[str]:
    """Several tensors of a layer as one entry: ``conv1 (9 tensors)``. The parts of a converted layer count as its own."""
    owners: dict[str, list[str]] = {}
    for name in names:
        layer = next((path for path in converted if name.startswith(f"{path}." if path else "")), None)
        owner = name.rpartition(".")[0] if layer is None else layer
        owners.setdefault(owner if ":" not in name else name, []).append(name)
    return [
        f"{owner or ROOT} ({len(group)} tensors)" if len(group) > 1 else group[0] for owner, group in owners.items()
    ]
