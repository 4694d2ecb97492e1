"""How much of a model is left after a conversion that cannot preserve its function."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from saconv_surgeon.records import Equivalence, Explained
from saconv_surgeon.report import text

INITS = {
    "project": "the part of each kernel that the new layer can express",
    "calibrate": "a least-squares fit to the original's outputs",
    "random": "random weights",
}


COLUMNS = ("explained", "R² alone", "R² in place", "cosine")


def explained(record: Explained, equivalence: Equivalence) -> list[RenderableType]:
    """The verdict, then the whole model and each layer."""
    return [*summary(record, equivalence), Text(), _table(record)]


def summary(record: Explained, equivalence: Equivalence) -> list[Text]:
    """The verdict and the whole model."""
    verdict = Text()
    if record.problems:
        verdict.append("✗ not usable", style="bold red")
        verdict.append("".join(f"\n  {problem}" for problem in record.problems))
    else:
        verdict.append("≠ not equal: fine-tune", style="bold yellow")
        verdict.append(
            f". The target computes something else; its layers begin with {INITS.get(record.init, record.init)}"
        )
        if record.calibrated_on is not None:
            verdict.append(f", on {text.plural(record.calibrated_on, 'sample')}")
    whole = Text("of the outputs: ")
    whole.append(
        f"R² {_share(record.r2)}, cosine {_share(record.cosine)}, top-1 agreement {text.percent(record.top1)}",
        style="bold",
    )
    whole.append(
        f"\n  on {text.plural(record.samples, 'sample')}, {record.source}; "
        f"outputs move by {text.error(equivalence.max_rel)} relative"
    )
    if record.not_compared:
        whole.append(f"\n  not compared, as they have other sizes: {text.names(record.not_compared)}")
    return [verdict, whole]


def rows(record: Explained) -> list[tuple[str, ...]]:
    """Each layer, under ``COLUMNS``."""
    return [(f.path or "(the model itself)", *map(_share, (f.r2_alone, f.r2, f.cosine))) for f in record.layers]


def _table(record: Explained) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(COLUMNS[0], overflow="fold", min_width=12)
    for title in COLUMNS[1:]:
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows(record):
        table.add_row(*map(Text, row))
    return table


def _share(value: float | None) -> str:
    return text.UNKNOWN if value is None else f"{value:.3f}"
