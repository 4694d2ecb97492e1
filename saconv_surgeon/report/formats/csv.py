"""The layers of a report, the convolutions of an inspection, or the candidates of a plan, as CSV: numbers as they are.

Text that a spreadsheet would compute begins with an apostrophe, which spreadsheets do not show.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields

from saconv_surgeon.records import LayerCost
from saconv_surgeon.report.report import Report

NUMBERS = tuple(f.name for f in fields(LayerCost) if f.name not in ("path", "type", "settings", "converted"))

FORMULA = re.compile(r"[\t\r\n]|\s*[=+\-@＝＋－＠]")
"""How text begins that Excel, LibreOffice or Google's spreadsheet compute, the wide signs included."""

SITE = (
    *("path", "type", "decision", "reason", "calls", "parameters", "added_parameters", "added_macs"),
    *("norm", "activation", "found_by", "target", "options", "instead"),
)
"""What is written of a convolution in an inspection."""


def render(report: Report) -> str:
    """A header, then the layers in the order of the model. What a model does not have is empty."""
    page = report.raw
    out = io.StringIO()
    writer = _Writer(out)
    if page.sites:
        writer.writerows([SITE, *([_written(getattr(site, name)) for name in SITE] for site in page.sites)])
        return out.getvalue()
    if page.rows:
        writer.writerows([list(page.rows[0]), *(list(row.values()) for row in page.rows)])
        return out.getvalue()
    sides = [f"_{side}" for side in page.sides] if page.is_pair else [""]
    described = [f"{name}{side}" for side in sides for name in ("path", "type", "settings")]
    figures = [f"{name}{side}" for name in NUMBERS for side in sides]
    writer.writerow([*described, *(["change"] if page.is_pair else []), "converted", *figures])
    for layer in page.layers:
        rows = (layer.a, layer.b) if page.is_pair else (layer.b,)
        said = [None if row is None else getattr(row, name) for row in rows for name in ("path", "type", "settings")]
        numbers = [None if row is None else getattr(row, name) for name in NUMBERS for row in rows]
        writer.writerow([*said, *([layer.change] if page.is_pair else []), layer.converted, *numbers])
    return out.getvalue()


class _Writer:
    """Rows of numbers, which stay numbers, and of text, which is never a formula."""

    def __init__(self, out: io.StringIO) -> None:
        self.out = out

    def writerow(self, row: Sequence[object]) -> None:
        """One row."""
        line = io.StringIO()
        csv.writer(line, lineterminator="\r\n").writerow(
            [_not_a_formula(cell) for cell in row]
        )  # quotes cells with either
        self.out.write(line.getvalue().removesuffix("\r\n") + "\n")

    def writerows(self, rows: Iterable[Sequence[object]]) -> None:
        """Several."""
        for row in rows:
            self.writerow(row)


def _not_a_formula(cell: object) -> object:
    if cell is None or isinstance(cell, (int, float)):
        return cell
    text = str(cell)
    return f"'{text}" if FORMULA.match(text) else text


def _written(value: object) -> object:
    """Options as ``ratio=1/4``, the rest as it is."""
    return " ".join(f"{name}={text}" for name, text in value.items()) if isinstance(value, Mapping) else value
