"""What ``plan`` says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from saconv_surgeon.records import BudgetedPlan, GateResult, to_dict
from saconv_surgeon.report.blocks import BLANK, Block, line
from saconv_surgeon.report.page import Page
from saconv_surgeon.report.report import Report, visible
from saconv_surgeon.report.sections.chosen_layers import chosen_layers, chosen_page, offers_page, summary
from saconv_surgeon.report.sections.gain_curve import gain_chart, gain_curve, gain_page
from saconv_surgeon.report.sections.gate_lines import gate_blocks, gate_lines

Gates = Sequence[GateResult]


def plan_report(planned: BudgetedPlan, name: str, gates: Gates = ()) -> Report:
    """Choices, promises, and the curve of gain against price."""
    shown, title = visible((planned, name))
    return Report(lambda width: plan_blocks(shown, gates), _page(shown, title, gates), _page(planned, name, gates))


def plan_blocks(planned: BudgetedPlan, gates: Gates = ()) -> list[Block]:
    """For the terminal."""
    blocks: list[Block] = [chosen_layers(planned), BLANK, *summary(planned)]
    if planned.curve:
        blocks += [BLANK, line("Gain against price", "strong"), gain_curve(planned), BLANK]
    return [*blocks, *gate_blocks(gates)]


def _page(planned: BudgetedPlan, name: str, gates: Gates) -> Page:
    chart = gain_chart(planned)
    return Page(
        "plan",
        name,
        models=(name,),
        verdicts=(*summary(planned), *gate_lines(gates)),
        tables=(chosen_page(planned), gain_page(planned), offers_page(planned)),
        curves=() if chart is None else (chart,),
        rows=tuple(_rows(planned)),
    )


def _rows(planned: BudgetedPlan) -> Iterator[Mapping[str, Any]]:
    """One for each candidate of each layer."""
    for layer in planned.layers:
        for offer in layer.offers:
            name = offer.candidate.name
            rest = {"gain": offer.gain, "why_no_gain": offer.why_no_gain}
            yield {
                "path": layer.path,
                "candidate": name,
                "chosen": layer.chosen == name,
                **to_dict(offer.price),
                **rest,
            }
