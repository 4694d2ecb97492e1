"""What ``profile`` says."""

from __future__ import annotations

from collections.abc import Sequence

from saconv_surgeon.records import GateResult, Profile
from saconv_surgeon.report.blocks import BLANK, Block
from saconv_surgeon.report.page import Layer, Page
from saconv_surgeon.report.report import Report, visible
from saconv_surgeon.report.sections.cost_of_one import batches, page_totals, totals, training
from saconv_surgeon.report.sections.cost_words import footnotes
from saconv_surgeon.report.sections.earlier_report import since, since_pages
from saconv_surgeon.report.sections.gate_lines import gate_blocks, gate_lines
from saconv_surgeon.report.sections.layer_table import layer_table


def profile_report(record: Profile, gates: Sequence[GateResult] = (), *, every_layer: bool) -> Report:
    """Totals, layers, and an earlier report if there is one."""
    shown = visible(record)
    return Report(
        lambda width: _blocks(shown, width, gates, every_layer),
        _page(shown, gates),
        _page(record, gates),
    )


def _blocks(record: Profile, width: int, gates: Sequence[GateResult], every_layer: bool) -> list[Block]:
    blocks: list[Block] = [totals(record), BLANK, *batches(record), *training(record)]
    blocks += [*layer_table(record, width, every_layer), *footnotes((record,))]
    if record.comparison is not None:
        blocks += [BLANK, *since(record.comparison)]
    return [*blocks, *gate_blocks(gates)]


def _page(record: Profile, gates: Sequence[GateResult]) -> Page:
    return Page(
        "profile",
        record.model,
        models=(record.model,),
        verdicts=tuple(gate_lines(gates)),
        totals=page_totals(record),
        layers=tuple(Layer(None, row, "same") for row in record.layers),
        tables=since_pages(record.comparison),
        notes=tuple(note.text for note in footnotes((record,)) if note.text),
    )
