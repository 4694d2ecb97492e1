"""What ``diff`` says."""

from __future__ import annotations

from saconv_surgeon.records import Diff
from saconv_surgeon.report.blocks import BLANK, Block
from saconv_surgeon.report.page import Page, paired_layers
from saconv_surgeon.report.report import Report, visible
from saconv_surgeon.report.sections.cost_of_two import cost_of_two, page_totals, page_verdicts
from saconv_surgeon.report.sections.cost_words import footnotes
from saconv_surgeon.report.sections.field_table import field_gallery, field_tables
from saconv_surgeon.report.sections.gate_lines import gate_blocks, gate_lines
from saconv_surgeon.report.sections.layer_changes import layer_changes
from saconv_surgeon.report.sections.output_changes import divergence_page, output_changes, output_verdicts
from saconv_surgeon.report.sections.roofline_table import roofline_chart
from saconv_surgeon.report.sections.structure import structure, structure_page
from saconv_surgeon.report.sections.switch_pictures import switch_blocks, switch_gallery, switch_tables
from saconv_surgeon.report.sections.use_of_layers import use_of_layers, use_pages
from saconv_surgeon.report.sections.weight_changes import weight_changes, weight_pages


def diff_report(record: Diff, *, every_row: bool) -> Report:
    """Totals first, then only what differs."""
    shown = visible(record)
    return Report(lambda width: _blocks(shown, width, every_row), _page(shown), _page(record))


def _blocks(record: Diff, width: int, every_row: bool) -> list[Block]:
    return [
        *cost_of_two(record.priced, ("A", "B")),
        BLANK,
        *structure(record, every_row=every_row),
        *layer_changes(record, width, every_row=every_row),
        *weight_changes(record, every_row=every_row),
        *output_changes(record),
        *use_of_layers(record),
        *switch_blocks(record),
        *gate_blocks(record.gates),
    ]


def _page(record: Diff) -> Page:
    a, b = record.a, record.b
    return Page(
        "diff",
        f"A = {a.model}, B = {b.model}",
        ("A", "B"),
        (a.model, b.model),
        verdicts=(*output_verdicts(record), *page_verdicts(record.priced), *gate_lines(record.gates)),
        totals=page_totals(record.priced),
        layers=paired_layers(a.layers, b.layers, record.layers),
        scatters=roofline_chart((a, b), record.layers),
        galleries=(*switch_gallery(record), *field_gallery((a, b), ("A", "B"))),
        tables=(
            *field_tables((a, b), ("A", "B")),
            *switch_tables(record),
            structure_page(record),
            *weight_pages(record),
            *divergence_page(record),
            *use_pages(record),
        ),
        notes=tuple(note.text for note in footnotes((a, b)) if note.text),
    )
