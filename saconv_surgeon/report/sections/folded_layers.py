"""What became of every layer of a folded model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from saconv_surgeon.records import FoldedLayer, FoldLedger, OutputDiff
from saconv_surgeon.report import human
from saconv_surgeon.report.blocks import ROOT, Cell, Column, Line, Table, led, line, table
from saconv_surgeon.report.sections.output_changes import outputs_in_words

MEDIUM = 110
COLUMNS = (
    Column("layer", least=12),
    Column("became", least=14),
    Column("left to compute"),
    Column("norm", from_width=MEDIUM),
    Column("removed"),
)


def ledger(layers: Sequence[FoldedLayer]) -> list[Line]:
    """Every layer accounted for, then the norms."""
    n = FoldLedger.of(tuple(layers))
    parts = []
    if n.plain:
        untouched = f", {n.at_rest} of them as {'it was' if n.at_rest == 1 else 'they were'}" if n.at_rest else ""
        parts.append(f"{n.plain} plain convolution{'s' if n.plain > 1 else ''} now{untouched}")
    parts += [f"{n.switchable} still switchable"] if n.switchable else []
    parts += [f"{n.others} folded otherwise"] if n.others else []
    parts += [f"{n.kept} left alone"] if n.kept else []
    norms = f"{human.plural(n.norms, 'norm')} folded"
    norms += f", {n.convolutions} of them into convolutions that never were converted" if n.convolutions else ""
    first = led(human.plural(n.layers, "converted layer"), f": {'; '.join(parts)}" if parts else "", "strong")
    return [first, line(norms)]


def folded_table(layers: Sequence[FoldedLayer]) -> Table:
    """One row for each layer."""
    rows = []
    for layer in layers:
        path, _, now, left, norm, removed = _cells(layer)
        rows.append((path, Cell(now, "good" if layer.changed else "dim"), left, norm, removed))
    return Table("", COLUMNS, tuple(rows))


def folded_page(layers: Sequence[FoldedLayer]) -> Table:
    """The same for a page."""
    columns = ("layer", "was", "is now", "left to compute", "norm", "removed")
    return table("What became of each layer", columns, [_cells(layer) for layer in layers])


def norms_that_stay(layers: Sequence[FoldedLayer]) -> list[Line]:
    """Why norms could not be folded, each reason once."""
    reasons = Counter(layer.norm_stays for layer in layers if layer.norm_stays)
    return [line(f"{n} × norm not folded: {reason}", "dim") for reason, n in reasons.most_common()]


def cost_of_removal(tolerance: float | None, cost: OutputDiff | None, layers: Sequence[FoldedLayer]) -> list[Line]:
    """How far the outputs moved by what was taken out."""
    if tolerance is None or cost is None:
        return []
    thinned = sum(bool(layer.removed) for layer in layers)
    lead = f"taken out of {human.plural(thinned, 'layer')}"
    text = f", each within {human.share(tolerance)} of its output; {outputs_in_words(cost)}"
    return [led(lead, text, "strong" if thinned else "plain"), *(line(problem, "bad") for problem in cost.problems)]


def _cells(layer: FoldedLayer) -> tuple[str, ...]:
    now = layer.reason or (
        "the original convolution" if layer.plain and layer.at_rest and not layer.norm else layer.after
    )
    taken = ", ".join(layer.removed)
    removed = f"{taken} (moved by {human.share(layer.cost)})" if taken else ""
    norm = f"in: {layer.norm.rpartition(' (')[0]}" if layer.norm else layer.norm_stays or ""
    return layer.path or ROOT, layer.before, now, ", ".join(layer.parts), norm, removed
