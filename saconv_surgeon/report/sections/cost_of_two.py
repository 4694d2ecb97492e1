"""What two models cost, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from saconv_surgeon.records import GateResult, LatencyRatio, Priced
from saconv_surgeon.report import human
from saconv_surgeon.report.blocks import Block, Cell, Column, Line, Table, line
from saconv_surgeon.report.page import Page, Total, paired_layers
from saconv_surgeon.report.sections.cost_words import (
    ROWS,
    TONES,
    TRAINING_ROWS,
    energy_settings,
    footnotes,
    settings,
    verdicts,
)
from saconv_surgeon.report.sections.field_table import field_blocks, field_gallery, field_tables
from saconv_surgeon.report.sections.gate_lines import gate_lines
from saconv_surgeon.report.sections.roofline_table import roofline_blocks, roofline_chart
from saconv_surgeon.report.sections.roofline_table import warnings as roofline_warnings

WIDE = 110


def cost_of_two(priced: Priced, names: tuple[str, str]) -> list[Block]:
    """Two profiles side by side, with the verdicts and the footnotes."""
    columns = (
        Column("price", whole=True),
        *(Column(name, right=True, whole=True) for name in (*names, "ratio")),
        Column("", from_width=WIDE, tone="dim"),
    )
    rows = (*_totals(priced), *_latencies(priced), *_training(priced), *_energy(priced))
    blocks: list[Block] = [Table("", columns, rows), *verdicts(priced)]
    if priced.a.latency is not None:
        blocks.append(line(settings(priced.a.latency), "dim"))
    both = (priced.a, priced.b)
    return [*blocks, *roofline_blocks(both), *field_blocks(both, names), *footnotes(both)]


def page_totals(priced: Priced) -> tuple[Total, ...]:
    """The totals for a page."""
    a, b = priced.a, priced.b
    totals = [
        Total(label, (left, right), str(ratio), meaning) for label, left, right, ratio, meaning in _totals(priced)
    ]
    ratios = {ratio.batch: ratio for ratio in priced.latency_ratios}
    several = len(a.all_latencies) > 1
    for x, y in zip(a.all_latencies, b.all_latencies, strict=False):
        label = f"latency, batch {x.batch}" if several else "latency"
        values = (human.seconds(x.median_s), human.seconds(y.median_s))
        ratio = _ratio(ratios.get(x.batch), x.median_s, y.median_s)
        totals.append(Total(label, values, ratio.text, settings(x)))
        rates = x.samples_per_s, y.samples_per_s
        if None not in rates:
            shown = (human.rate(rates[0]), human.rate(rates[1]))
            totals.append(
                Total(label.replace("latency", "throughput"), shown, human.ratio(*rates), "samples per second")
            )
    if a.training is not None and b.training is not None:
        pair = a.training.step.median_s, b.training.step.median_s
        totals.append(Total("training step", (human.seconds(pair[0]), human.seconds(pair[1])), human.ratio(*pair)))
        for row in TRAINING_ROWS:
            left, right = getattr(a.training, row.field), getattr(b.training, row.field)
            totals.append(Total(row.label.strip(), (row.show(left), row.show(right)), human.ratio(left, right)))
    totals += [
        Total(label, (left, right), str(ratio), meaning) for label, left, right, ratio, meaning in _energy(priced)
    ]
    return tuple(totals)


def page_verdicts(priced: Priced) -> list[Line]:
    """The verdicts for a page, in which ``inconclusive`` is neither good nor bad news."""
    said = [line(each.text, "plain" if each.tone == "dim" else each.tone) for each in verdicts(priced)]
    return [*said, *roofline_warnings((priced.a, priced.b))]


def with_price(page: Page, said: Sequence[Line], priced: Priced | None, gates: Sequence[GateResult]) -> Page:
    """``page`` with what was ``said``, with the price of its two models if that is known, and with the gates."""
    if priced is None:
        return replace(page, verdicts=(*said, *gate_lines(gates)))
    return replace(
        page,
        verdicts=(*said, *page_verdicts(priced), *gate_lines(gates)),
        totals=page_totals(priced),
        layers=paired_layers(priced.a.layers, priced.b.layers),
        scatters=roofline_chart((priced.a, priced.b)),
        galleries=field_gallery((priced.a, priced.b), page.sides),
        tables=(*field_tables((priced.a, priced.b), page.sides), *page.tables),
        notes=tuple(note.text for note in footnotes((priced.a, priced.b)) if note.text),
    )


_Row = tuple[str, str, str, Cell, str]
"""Label, before, after, ratio, meaning."""


def _totals(priced: Priced) -> Iterator[_Row]:
    for row in ROWS:
        left, right = getattr(priced.a, row.field), getattr(priced.b, row.field)
        if left is not None or right is not None:
            yield row.label, row.show(left), row.show(right), Cell(human.ratio(left, right)), row.meaning


def _latencies(priced: Priced) -> Iterator[_Row]:
    ratios = {ratio.batch: ratio for ratio in priced.latency_ratios}
    pairs = list(zip(priced.a.all_latencies, priced.b.all_latencies, strict=False))
    for left, right in pairs:
        label = f"latency, batch {left.batch}" if len(pairs) > 1 else "latency"
        ratio = _ratio(ratios.get(left.batch), left.median_s, right.median_s)
        yield label, human.seconds(left.median_s), human.seconds(right.median_s), ratio, ""
        yield "  p90", human.seconds(left.p90_s), human.seconds(right.p90_s), Cell(""), ""
        yield "  IQR", human.seconds(left.iqr_s), human.seconds(right.iqr_s), Cell(""), ""
        rates = left.samples_per_s, right.samples_per_s
        if None not in rates:
            label = label.replace("latency", "throughput")
            a, b = (human.rate(rate) for rate in rates)
            yield label, a, b, Cell(human.ratio(*rates)), "samples per second, by the medians"


def _training(priced: Priced) -> Iterator[_Row]:
    a, b = priced.a.training, priced.b.training
    if a is None or b is None:
        return
    pair = a.step.median_s, b.step.median_s
    yield "training step", human.seconds(pair[0]), human.seconds(pair[1]), _ratio(priced.training_ratio, *pair), ""
    for row in TRAINING_ROWS:
        left, right = getattr(a, row.field), getattr(b, row.field)
        yield row.label, row.show(left), row.show(right), Cell(human.ratio(left, right)), ""


def _energy(priced: Priced) -> Iterator[_Row]:
    a, b = priced.a.energy, priced.b.energy
    if a is None or b is None:
        return
    joules = a.joules_per_sample, b.joules_per_sample
    yield "energy", f"{joules[0]:.3g} J", f"{joules[1]:.3g} J", _ratio(priced.energy_ratio, *joules), energy_settings(b)


def _ratio(paired: LatencyRatio | None, before: float, after: float) -> Cell:
    """The paired ratio with its verdict; that of the medians if there is none."""
    return Cell(human.ratio(before, after)) if paired is None else Cell(f"×{paired.median:.3g}", TONES[paired.verdict])
