"""What became of every layer of a folded model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from saconv_surgeon.records import FoldedLayer, FoldLedger, OutputDiff
from saconv_surgeon.report import text

MEDIUM = 110
SWITCHABLE = ("narrow", "wide", "switch", "pre-context", "post-context")
COLUMNS = ("layer", "was", "is now", "left to compute", "norm", "removed")


def ledger(layers: Sequence[FoldedLayer]) -> Text:
    """One line in which every layer is accounted for."""
    n = FoldLedger.of(tuple(layers))
    line = Text()
    line.append(text.plural(n.layers, "converted layer"), style="bold")
    parts = []
    if n.plain:
        untouched = f", {n.at_rest} of them as {'it was' if n.at_rest == 1 else 'they were'}" if n.at_rest else ""
        parts.append(f"{n.plain} plain convolution{'s' if n.plain > 1 else ''} now{untouched}")
    parts += [f"{n.switchable} still switchable"] if n.switchable else []
    parts += [f"{n.others} folded otherwise"] if n.others else []
    parts += [f"{n.kept} left alone"] if n.kept else []
    line.append(f": {'; '.join(parts)}" if parts else "")
    line.append(f"\n{text.plural(n.norms, 'norm')} folded")
    line.append(f", {n.convolutions} of them into convolutions that never were converted" if n.convolutions else "")
    return line


def table(layers: Sequence[FoldedLayer], width: int) -> RenderableType:
    """One row for each layer."""
    rows = Table(box=None, pad_edge=False, header_style="bold")
    rows.add_column(COLUMNS[0], overflow="fold", min_width=12)
    rows.add_column("became", overflow="fold", min_width=14)
    for title in COLUMNS[3:]:
        if width >= MEDIUM or title != "norm":
            rows.add_column(title, overflow="fold")
    for layer in layers:
        path, _, now, left, norm, removed = cells(layer)
        style = "green" if layer.changed else "dim"
        shown = [Text(path), Text(now, style=style), Text(left)]
        shown += [Text(norm)] if width >= MEDIUM else []
        rows.add_row(*shown, Text(removed))
    return rows


def cells(layer: FoldedLayer) -> tuple[str, ...]:
    """A layer under ``COLUMNS``."""
    now = layer.reason or (
        "the original convolution" if layer.plain and layer.at_rest and not layer.norm else layer.after
    )
    taken = ", ".join(layer.removed)
    removed = f"{taken} (moved by {text.share(layer.cost)})" if taken else ""
    norm = f"in: {layer.norm.rpartition(' (')[0]}" if layer.norm else layer.norm_stays or ""
    return layer.path or "(the model itself)", layer.before, now, ", ".join(layer.parts), norm, removed


def norms_that_stay(layers: Sequence[FoldedLayer]) -> list[Text]:
    """Why norms could not be folded, each reason once."""
    reasons = Counter(layer.norm_stays for layer in layers if layer.norm_stays)
    return [Text(f"{n} × norm not folded: {reason}", style="dim") for reason, n in reasons.most_common()]


def cost(tolerance: float | None, record: OutputDiff | None, layers: Sequence[FoldedLayer]) -> list[Text]:
    """What the parts that were taken out did to the outputs."""
    if tolerance is None or record is None:
        return []
    thinned = sum(bool(layer.removed) for layer in layers)
    line = Text(f"taken out of {text.plural(thinned, 'layer')}", style="bold" if thinned else "")
    line.append(f", each within {text.share(tolerance)} of its output; ", style="not bold")
    line.append(text.outputs(record), style="not bold")
    return [line, *(Text(problem, style="bold red") for problem in record.problems)]
