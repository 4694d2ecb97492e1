"""What ``profile`` says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from saconv_surgeon.records import GateResult, Profile
from saconv_surgeon.report.blocks import BLANK, Block
from saconv_surgeon.report.page import Layer, Page
from saconv_surgeon.report.report import Report, visible
from saconv_surgeon.report.sections.cost_of_one import batches, page_totals, totals, training
from saconv_surgeon.report.sections.cost_words import footnotes
from saconv_surgeon.report.sections.earlier_report import since, since_pages
from saconv_surgeon.report.sections.field_table import field_blocks, field_gallery, field_tables
from saconv_surgeon.report.sections.gate_lines import gate_blocks, gate_lines
from saconv_surgeon.report.sections.layer_table import layer_table
from saconv_surgeon.report.sections.model_tree import model_tree, page_tree
from saconv_surgeon.report.sections.roofline_table import roofline_blocks, roofline_chart
from saconv_surgeon.report.sections.roofline_table import warnings as roofline_warnings


@dataclass(frozen=True)
class AsTree:
    """The layers as a tree, open down to ``depth``; None for all of it."""

    depth: int | None = None


def profile_report(
    record: Profile, gates: Sequence[GateResult] = (), *, every_layer: bool, tree: AsTree | None = None
) -> Report:
    """Totals, layers, and an earlier report if there is one."""
    shown = visible(record)
    return Report(
        lambda width: _blocks(shown, width, gates, every_layer, tree),
        _page(shown, gates, tree),
        _page(record, gates, tree),
    )


def _blocks(
    record: Profile, width: int, gates: Sequence[GateResult], every_layer: bool, tree: AsTree | None
) -> list[Block]:
    blocks: list[Block] = [totals(record), BLANK, *batches(record), *training(record)]
    blocks += layer_table(record, width, every_layer) if tree is None else model_tree(record, tree.depth)
    blocks += [*roofline_blocks((record,)), *field_blocks((record,)), *footnotes((record,))]
    if record.comparison is not None:
        blocks += [BLANK, *since(record.comparison)]
    return [*blocks, *gate_blocks(gates)]


def _page(record: Profile, gates: Sequence[GateResult], tree: AsTree | None) -> Page:
    return Page(
        "profile",
        record.model,
        models=(record.model,),
        verdicts=(*roofline_warnings((record,)), *gate_lines(gates)),
        scatters=roofline_chart((record,)),
        totals=page_totals(record),
        layers=tuple(Layer(None, row, "same") for row in record.layers),
        tree=None if tree is None else page_tree(record, tree.depth),
        galleries=field_gallery((record,), ("",)),
        tables=(*field_tables((record,)), *since_pages(record.comparison)),
        notes=tuple(note.text for note in footnotes((record,)) if note.text),
    )
