"""What a sweep over plans says: one table, and accuracy against latency."""

from __future__ import annotations

from collections.abc import Sequence

from saconv_surgeon.records import to_dict
from saconv_surgeon.records.sweep import UNTOUCHED, Sweep, SweepRow
from saconv_surgeon.report import human
from saconv_surgeon.report.blocks import BLANK, Block, Cell, Line, Table, Tone, line, table
from saconv_surgeon.report.curve import Curve, Mark
from saconv_surgeon.report.page import Page
from saconv_surgeon.report.report import Report, visible


def sweep_report(sweep: Sweep, name: str) -> Report:
    """The rows, what failed, and the front."""
    shown, title = visible((sweep, name))
    return Report(lambda width: _blocks(shown), _page(shown, title), _page(sweep, name))


def _blocks(sweep: Sweep) -> list[Block]:
    return [rows_table(sweep), BLANK, *verdicts(sweep)]


def _page(sweep: Sweep, name: str) -> Page:
    chart = front(sweep)
    return Page(
        "sweep",
        name,
        verdicts=tuple(verdicts(sweep)),
        tables=(rows_table(sweep), _failures(sweep)),
        curves=() if chart is None else (chart,),
        rows=tuple(to_dict(trial) for trial in sweep.trials),
    )


def rows_table(sweep: Sweep) -> Table:
    """One row for each plan and recipe."""
    columns = ("plan", "recipe", sweep.metric, "against untouched", "latency, folded", "seeds", "")
    return table("Plans", columns, [_cells(row) for row in sweep.rows])


def verdicts(sweep: Sweep) -> list[Line]:
    """Which plans made a difference, and what was not had."""
    better = 1 if sweep.mode == "max" else -1
    lines = []
    for row in sweep.rows:
        if row.shown and row.gain is not None:
            good = row.gain * better > 0
            lines.append(
                line(f"{_name(row)}: {'better' if good else 'worse'}, {_gain(row)}", "good" if good else "bad")
            )
    if not lines and any(row.gain is not None for row in sweep.rows):
        lines.append(line("no difference to the untouched model is shown"))
    failed = sum(row.failed for row in sweep.rows)
    if failed:
        lines.append(line(f"{failed} of {len(sweep.trials)} trainings failed; the others are compared", "warn"))
    return lines


def front(sweep: Sweep) -> Curve | None:
    """Metric against latency: the front as a line, every plan a named point; None if fewer than two points are known."""
    known = [(_latency(row), row.mean, row) for row in sweep.rows]
    points = [(x, y, row) for x, y, row in known if x is not None and y is not None]
    if len(points) < 2:
        return None
    on_front = sorted((x, y) for x, y, row in points if row.on_front)
    marks = tuple(Mark(x, y, _name(row)) for x, y, row in points)
    return Curve(
        f"{sweep.metric} against latency",
        "latency, folded, ratio to the original",
        sweep.metric,
        tuple(on_front),
        marks,
    )


def _failures(sweep: Sweep) -> Table:
    rows = [(t.plan, t.recipe, str(t.seed), t.error or "") for t in sweep.trials if t.value is None]
    return table("Trainings that failed", ("plan", "recipe", "seed", "why"), rows)


def _cells(row: SweepRow) -> Sequence[Cell | str]:
    mean = human.UNKNOWN if row.mean is None else f"{row.mean:.4g}"
    latency = human.UNKNOWN if row.latency is None else f"×{row.latency.median:.3f}"
    seeds = str(row.n) + (f", {row.failed} failed" if row.failed else "")
    tone: Tone = "good" if row.shown and (row.gain or 0) > 0 else "plain"
    own = "×1" if row.plan == UNTOUCHED else latency
    return (row.plan, row.recipe, mean, Cell(_gain(row), tone), own, seeds, "on the front" if row.on_front else "")


def _gain(row: SweepRow) -> str:
    if row.gain is None:
        return "–"
    text = f"{row.gain:+.3g}".replace("-", "−")
    return text if row.half_width is None else f"{text} ± {row.half_width:.2g}"


def _latency(row: SweepRow) -> float | None:
    return 1.0 if row.plan == UNTOUCHED else None if row.latency is None else row.latency.median


def _name(row: SweepRow) -> str:
    return row.plan if not row.recipe else f"{row.plan}, {row.recipe}"
