"""How much of a model is kept by a conversion that cannot preserve its function."""

from __future__ import annotations

from saconv_surgeon.records import INIT_MEANING, Equivalence, Explained
from saconv_surgeon.report import human
from saconv_surgeon.report.blocks import ROOT, Column, Line, Span, Table, led, line, table

COLUMNS = ("R² alone", "R² in place", "cosine")


def summary(record: Explained, equivalence: Equivalence) -> list[Line]:
    """The verdict, then the whole model."""
    share = f"R² {_share(record.r2)}, cosine {_share(record.cosine)}, top-1 agreement {human.percent(record.top1)}"
    lines = [
        *_verdict(record),
        Line((Span("of the outputs: "), Span(share, "strong"))),
        line(
            f"on {human.plural(record.samples, 'sample')}, {record.source}; "
            f"outputs move by {human.error(equivalence.max_rel)} relative",
            indent=2,
        ),
    ]
    if equivalence.note is not None:
        lines.append(line(equivalence.note, indent=2))
    if record.not_compared:
        names = human.names(record.not_compared)
        lines.append(line(f"not compared, as they have other sizes: {names}", indent=2))
    return lines


def explained_table(record: Explained) -> Table:
    """One row for each layer."""
    numbers = (Column(title, right=True, whole=True) for title in COLUMNS)
    return Table("", (Column("explained", least=12), *numbers), tuple(_rows(record)))


def explained_page(record: Explained) -> Table:
    """The same for a page."""
    note = "alone: for the inputs that the convolution gets; in place: with the changes of all layers before"
    return table("How much of each layer's output is explained", ("layer", *COLUMNS), _rows(record), note)


def _verdict(record: Explained) -> list[Line]:
    if record.problems:
        return [led("not usable", "", "bad", mark="✗"), *(line(problem, indent=2) for problem in record.problems)]
    text = f". The target computes something else; its layers start from {INIT_MEANING.get(record.init, record.init)}"
    text += f", on {human.plural(record.calibrated_on, 'sample')}" if record.calibrated_on is not None else ""
    return [led("not equal: fine-tune", text, "warn", mark="≠")]


def _rows(record: Explained) -> list[tuple[str, ...]]:
    return [(f.path or ROOT, *map(_share, (f.r2_alone, f.r2, f.cosine))) for f in record.layers]


def _share(value: float | None) -> str:
    return human.UNKNOWN if value is None else f"{value:.3f}"
