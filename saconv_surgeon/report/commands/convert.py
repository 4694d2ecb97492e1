"""What ``convert`` says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from saconv_surgeon.records import BudgetedPlan, Equivalence, Explained, GateResult, Plan, Priced
from saconv_surgeon.report.blocks import BLANK, Block, line
from saconv_surgeon.report.commands.plan import plan_blocks
from saconv_surgeon.report.page import Page
from saconv_surgeon.report.report import Report, visible
from saconv_surgeon.report.sections.chosen_layers import chosen_page, offers_page
from saconv_surgeon.report.sections.chosen_layers import summary as chosen_summary
from saconv_surgeon.report.sections.convolution_table import convolution_table, decisions, ledger, notes, refusals
from saconv_surgeon.report.sections.cost_of_two import cost_of_two, with_price
from saconv_surgeon.report.sections.explained import explained_page, explained_table, summary
from saconv_surgeon.report.sections.gain_curve import gain_chart, gain_page
from saconv_surgeon.report.sections.gate_lines import gate_blocks
from saconv_surgeon.report.sections.proof import proof
from saconv_surgeon.report.sections.targets_in_words import advice, targets_in_use

Gates = Sequence[GateResult]


class Converted(Protocol):
    """What is reported of a conversion."""

    @property
    def plan(self) -> Plan:
        """What was decided."""

    @property
    def equivalence(self) -> Equivalence:
        """The proof."""

    @property
    def explained(self) -> Explained | None:
        """How much of the outputs is kept, if the target cannot preserve them."""

    @property
    def priced(self) -> Priced | None:
        """What it costs."""


Told = tuple[Plan, Equivalence, Explained | None, Priced | None, str, BudgetedPlan | None]


def conversion_report(
    made: Converted, name: str, gates: Gates = (), *, every_site: bool, planned: BudgetedPlan | None = None
) -> Report:
    """Decisions, proof and price, after how layers were chosen for a budget, if they were.

    Refused convolutions are grouped by reason unless ``every_site``.
    """
    raw: Told = (made.plan, made.equivalence, made.explained, made.priced, name, planned)
    shown = visible(raw)
    return Report(lambda width: _blocks(shown, gates, every_site), _page(shown, gates), _page(raw, gates))


def _blocks(told: Told, gates: Gates, every_site: bool) -> list[Block]:
    plan, equivalence, explained, priced, _, planned = told
    blocks: list[Block] = [] if planned is None else [*plan_blocks(planned), BLANK]
    blocks.append(convolution_table(plan, only_converted=not every_site))
    if not every_site:
        blocks += refusals(plan.sites)
    first = advice(plan) if planned is None else []
    blocks += [BLANK, *targets_in_use(plan), *ledger(plan), *first, BLANK]
    if explained is None:
        blocks += proof(equivalence)
    else:
        blocks += [*summary(explained, equivalence), BLANK, explained_table(explained)]
    if priced is not None:
        blocks += [BLANK, *cost_of_two(priced, ("before", "after"))]
    return [*blocks, *gate_blocks(gates)]


def _page(told: Told, gates: Gates) -> Page:
    plan, equivalence, explained, priced, name, planned = told
    said = proof(equivalence) if explained is None else summary(explained, equivalence)
    said = [
        said[0],
        *(line(each.text) for each in said[1:]),
        line(ledger(plan)[0].text),
        *targets_in_use(plan),
        *(advice(plan) if planned is None else chosen_summary(planned)),
        *notes(plan.sites),
    ]
    choices = () if planned is None else (chosen_page(planned), gain_page(planned), offers_page(planned))
    tables = (*(() if explained is None else (explained_page(explained),)), *choices, decisions(plan))
    chart = None if planned is None else gain_chart(planned)
    curves = () if chart is None else (chart,)
    page = Page("convert", name, ("before", "after"), (name, f"{name}, converted"), tables=tables, curves=curves)
    return with_price(page, said, priced, gates)
