"""What ``plan`` and ``convert --budget`` share: from options to a plan for a budget, and its record."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saconv_surgeon.cli.output import checked_file
from saconv_surgeon.cli.plan_options import FORMS, BudgetedTimingOptions, GainOptions
from saconv_surgeon.cli.selection_options import SelectionOptions
from saconv_surgeon.errors import UsageError
from saconv_surgeon.records import BudgetedPlan, Mode, Timing, to_dict
from saconv_surgeon.records.progress import OnStep

if TYPE_CHECKING:
    from saconv_surgeon.cli.opening import Opened


def check_plan_file(path: Path | None, overwrite: bool) -> None:
    """Checks before anything slow is done that a plan can be written.

    Raises:
        UsageError: It exists, or cannot be written.
    """
    if path is None:
        return
    if path.is_dir():
        raise UsageError(f"-o {path} is a folder; a plan is one file, such as plan.json")
    checked_file(path, "-o")
    if path.is_file() and not overwrite:
        raise UsageError(f"{path} exists; give another name, or --overwrite to replace it")


def check_budget_alone(measured: BudgetedTimingOptions, learnt: GainOptions, plan_file: Path | None) -> None:
    """Checks that a budget does not meet a plan that was made already, and that nothing is given that only a budget uses.

    Raises:
        UsageError: One of the two.
    """
    if not measured.conditions:
        learnt.check_unused()
    elif plan_file is not None:
        raise UsageError(
            f"--plan follows the decisions in {plan_file}, and --budget makes new ones; give one of the two"
        )


def plan_for_budgets(
    opened: Opened,
    chosen: SelectionOptions,
    learnt: GainOptions,
    measured: BudgetedTimingOptions,
    batches: Iterable[Any] | None,
    seed: int,
    mode: Mode,
    on_step: OnStep,
) -> BudgetedPlan:
    """The plan that the options ask for.

    Raises:
        UsageError: No condition is given, or what the score needs is missing.
    """
    if not measured.conditions:
        raise UsageError(f"for which budget? give --budget {FORMS}")
    measured.check_plain()
    from saconv_surgeon import api

    loss, step = learnt.functions()
    return api.plan(
        opened.model,
        opened.inputs,
        data=batches,
        loss=loss,
        step=step,
        budgets=measured.conditions,
        targets=tuple(name.strip() for name in chosen.target.split(",")),
        include=chosen.include,
        exclude=chosen.exclude,
        min_stride=chosen.min_stride,
        allow_depthwise=chosen.allow_depthwise,
        absorb=chosen.absorb,
        options=chosen.target_options,
        score=learnt.score,
        scores=learnt.scores,
        timing=_of_layers(measured.timing()),
        seed=seed,
        mode=mode,
        base=opened.base,
        on_step=on_step,
    )


def _of_layers(timing: Timing | None) -> Timing | None:
    """What is said of a whole model later is not measured for every candidate."""
    return None if timing is None else replace(timing, roofline=False, energy=False)


def planned_record(planned: BudgetedPlan, name: str) -> dict[str, Any]:
    """The JSON of a plan: that of a plan as everywhere, and what led to it."""
    rest = {key: value for key, value in to_dict(planned).items() if key != "plan"}
    return to_dict(planned.plan) | {"model": name, "planning": rest | {"kept": planned.kept}}
