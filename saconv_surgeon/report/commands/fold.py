"""What ``fold`` says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from saconv_surgeon.records import Equivalence, FoldedLayer, GateResult, OutputDiff, Priced
from saconv_surgeon.report.blocks import BLANK, Block, line
from saconv_surgeon.report.page import Page
from saconv_surgeon.report.report import Report, visible
from saconv_surgeon.report.sections.cost_of_two import cost_of_two, with_price
from saconv_surgeon.report.sections.folded_layers import (
    cost_of_removal,
    folded_page,
    folded_table,
    ledger,
    norms_that_stay,
)
from saconv_surgeon.report.sections.gate_lines import gate_blocks
from saconv_surgeon.report.sections.proof import proof

Gates = Sequence[GateResult]


class Folded(Protocol):
    """What is reported of a folded model."""

    @property
    def layers(self) -> tuple[FoldedLayer, ...]:
        """What became of each."""

    @property
    def equivalence(self) -> Equivalence | None:
        """The proof."""

    @property
    def tolerance(self) -> float | None:
        """How far a layer was allowed to move by what was taken out of it."""

    @property
    def cost(self) -> OutputDiff | None:
        """How far the outputs moved by that."""

    @property
    def priced(self) -> Priced | None:
        """What it costs."""


Told = tuple[tuple[FoldedLayer, ...], Equivalence | None, float | None, OutputDiff | None, Priced | None, str]


def folding_report(made: Folded, name: str, gates: Gates = ()) -> Report:
    """What became of the layers, proof and price."""
    raw: Told = (made.layers, made.equivalence, made.tolerance, made.cost, made.priced, name)
    shown = visible(raw)
    return Report(lambda width: _blocks(shown, gates), _page(shown, gates), _page(raw, gates))


def _blocks(told: Told, gates: Gates) -> list[Block]:
    layers, equivalence, tolerance, cost, priced, _ = told
    blocks: list[Block] = [folded_table(layers), BLANK, *ledger(layers), *norms_that_stay(layers), BLANK]
    blocks += cost_of_removal(tolerance, cost, layers)
    blocks += [] if equivalence is None else proof(equivalence)
    if priced is not None:
        blocks += [BLANK, *cost_of_two(priced, ("before", "after"))]
    return [*blocks, *gate_blocks(gates)]


def _page(told: Told, gates: Gates) -> Page:
    layers, equivalence, tolerance, cost, priced, name = told
    said = [line(each.text, "warn") for each in cost_of_removal(tolerance, cost, layers)]
    if equivalence is not None:
        first, *rest = proof(equivalence)
        said += [first, *(line(each.text) for each in rest)]
    said += [line(each.text) for each in (*ledger(layers), *norms_that_stay(layers))]
    page = Page("fold", name, ("before", "after"), (name, f"{name}, folded"), tables=(folded_page(layers),))
    return with_price(page, said, priced, gates)
