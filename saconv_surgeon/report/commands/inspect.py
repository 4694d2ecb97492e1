"""What ``inspect`` says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from saconv_surgeon.records import GateResult, Plan, PlannedSite
from saconv_surgeon.report.blocks import BLANK, Block, line
from saconv_surgeon.report.page import Page
from saconv_surgeon.report.report import Report, visible
from saconv_surgeon.report.sections.convolution_table import convolution_table, decisions, ledger, refusals
from saconv_surgeon.report.sections.gate_lines import gate_blocks, gate_lines
from saconv_surgeon.report.sections.targets_in_words import advice, targets_in_use


def inspection_report(plan: Plan, name: str, gates: Sequence[GateResult] = (), *, every_site: bool = True) -> Report:
    """Every convolution with its decision; on a terminal those that stay are grouped by reason unless ``every_site``."""
    shown, title = visible((plan, name))
    return Report(lambda width: _blocks(shown, gates, every_site), _page(shown, title, gates), _page(plan, name, gates))


def _blocks(plan: Plan, gates: Sequence[GateResult], every_site: bool) -> list[Block]:
    said = [*targets_in_use(plan), *ledger(plan), *advice(plan)]
    every_site = every_site or not any(site.converts for site in plan.sites)
    grouped = [] if every_site else refusals(plan.sites)
    return [convolution_table(plan, only_converted=not every_site), *grouped, BLANK, *said, *gate_blocks(gates)]


def _page(plan: Plan, name: str, gates: Sequence[GateResult]) -> Page:
    found = [*(line(each.text) for each in ledger(plan)), *targets_in_use(plan), *advice(plan)]
    return Page(
        "inspect",
        name,
        models=(name,),
        verdicts=(*found, *gate_lines(gates)),
        tables=(decisions(plan),),
        sites=tuple(_with_target(plan, site) for site in plan.sites),
    )


def _with_target(plan: Plan, site: PlannedSite) -> PlannedSite:
    """``site`` with what it becomes, also if that is the plan's own; without, if it stays."""
    target, options = plan.target_of(site)
    return replace(site, target=target, options=options) if site.converts else replace(site, target=None, options=None)
