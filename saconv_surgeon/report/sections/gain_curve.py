"""What other budgets would bring: gain against price."""

from __future__ import annotations

from saconv_surgeon.records import BudgetedPlan
from saconv_surgeon.report import human
from saconv_surgeon.report.blocks import Cell, Column, Table
from saconv_surgeon.report.curve import Curve, Mark

LENGTH = 30
"""Characters of the longest bar."""
TITLE = "Gain against price"


def gain_curve(planned: BudgetedPlan) -> Table:
    """One row for each price, with a bar for the gain."""
    most = max((point.gain for point in planned.curve), default=0.0)
    columns = (
        Column(planned.curve_figure, right=True, whole=True),
        Column("layers", right=True, whole=True),
        Column("gain", right=True, whole=True),
        Column("", whole=True),
    )
    rows = tuple(
        (
            f"×{point.price:.3f}",
            str(point.layers),
            gain_of(planned, point.gain),
            Cell(human.bars(point.gain, point.gain, most, LENGTH), "bar"),
        )
        for point in planned.curve
    )
    return Table(TITLE, columns, rows)


def gain_page(planned: BudgetedPlan) -> Table:
    """The same for a page, which draws the curve."""
    shown = gain_curve(planned)
    return Table(shown.title, shown.columns[:-1], tuple(row[:-1] for row in shown.rows))


def gain_chart(planned: BudgetedPlan) -> Curve | None:
    """The same as a line, for a page; None if there are fewer than two points."""
    if len(planned.curve) < 2:
        return None
    points = tuple((point.price, point.gain) for point in planned.curve)
    own = next((p for p in planned.promises if p.budget.figure == planned.curve_figure and p.predicted), None)
    marks = () if own is None or planned.gain is None else (Mark(own.predicted or 0.0, planned.gain, "this plan"),)
    return Curve(
        TITLE, f"{planned.curve_figure}, ratio to the original", f"promised gain ({planned.unit})", points, marks
    )


def gain_of(planned: BudgetedPlan, gain: float | None) -> str:
    """As a share of what converting everything promises, or in the units of the score."""
    if gain is None:
        return human.UNKNOWN
    if planned.everything is not None and planned.everything > 0:
        return human.share(gain / planned.everything)
    return f"{gain:.3g}"
