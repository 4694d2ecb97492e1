"""What ``inspect`` says."""

from __future__ import annotations

from collections.abc import Sequence

from saconv_surgeon.records import GateResult, Plan
from saconv_surgeon.report.blocks import BLANK, Block, line
from saconv_surgeon.report.page import Page
from saconv_surgeon.report.report import Report, visible
from saconv_surgeon.report.sections.convolution_table import convolution_table, decisions, ledger, target_of
from saconv_surgeon.report.sections.gate_lines import gate_blocks, gate_lines


def inspection_report(plan: Plan, name: str, gates: Sequence[GateResult] = ()) -> Report:
    """Every convolution with its decision."""
    shown, title = visible((plan, name))
    return Report(lambda width: _blocks(shown, gates), _page(shown, title, gates), _page(plan, name, gates))


def _blocks(plan: Plan, gates: Sequence[GateResult]) -> list[Block]:
    return [convolution_table(plan.sites, target_of(plan)), BLANK, *ledger(plan), *gate_blocks(gates)]


def _page(plan: Plan, name: str, gates: Sequence[GateResult]) -> Page:
    found = [line(each.text) for each in ledger(plan)]
    return Page(
        "inspect",
        name,
        models=(name,),
        verdicts=(*found, *gate_lines(gates)),
        tables=(decisions(plan),),
        sites=plan.sites,
    )
