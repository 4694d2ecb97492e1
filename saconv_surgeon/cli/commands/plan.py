"""``saconv-surgeon plan``."""

from __future__ import annotations

from pathlib import Path

import click

from saconv_surgeon.cli.model_and_input_options import InputOptions, ModelOptions, mode_option
from saconv_surgeon.cli.output import check_destinations, deliver, fail_if_gates_failed, judge
from saconv_surgeon.cli.plan_options import BudgetedTimingOptions, GainOptions
from saconv_surgeon.cli.planned import check_plan_file, plan_for_budgets, planned_record
from saconv_surgeon.cli.result_options import ResultOptions, TalkOptions
from saconv_surgeon.cli.selection_options import CandidateOptions, overwrite_option
from saconv_surgeon.cli.streams import (
    EXIT_CHECK_FAILED,
    EXIT_NOTHING_ELIGIBLE,
    fail,
    progress,
    reading,
    say,
    write_whole,
)
from saconv_surgeon.cli.takes import command, option_in, takes
from saconv_surgeon.errors import UsageError
from saconv_surgeon.records import Mode, to_dict


@command()
@click.argument("model")
@option_in(
    "Save",
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The plan as JSON, for convert --plan.",
)
@takes(source=ModelOptions, run_on=InputOptions, chosen=CandidateOptions)
@option_in(
    "Choose for a budget",
    "--data",
    metavar="FILE:NAME",
    help="file.py:make_batches, a function that gives batches, as convert takes them; sixteen are looked at.",
)
@takes(learnt=GainOptions)
@mode_option
@overwrite_option
@takes(measured=BudgetedTimingOptions, result=ResultOptions, talk=TalkOptions)
def plan(
    model: str,
    output: Path | None,
    source: ModelOptions,
    run_on: InputOptions,
    chosen: CandidateOptions,
    data: str | None,
    learnt: GainOptions,
    mode: Mode,
    overwrite: bool,
    measured: BudgetedTimingOptions,
    result: ResultOptions,
    talk: TalkOptions,
) -> None:
    """Choose which layers of MODEL to convert, and to what, for a budget: prices, gains, and a promise that was timed."""
    check_plan_file(output, overwrite)
    check_destinations(result)
    if measured.roofline or measured.energy:
        raise UsageError("--roofline and --energy are about a whole model; give them to convert --plan, or to profile")
    reading(model, talk.quiet)
    from saconv_surgeon.cli.next_steps import after_planning
    from saconv_surgeon.cli.opening import open_for_data
    from saconv_surgeon.models.loading.input_spec import make_data
    from saconv_surgeon.report.commands.plan import plan_report

    batches = None if data is None else make_data(data)
    opened, batches = open_for_data(model, source, run_on, talk, batches, mode=mode)
    with progress(talk.quiet) as on_step:
        planned = plan_for_budgets(opened, chosen, learnt, measured, batches, run_on.seed, mode, on_step)
    record = planned_record(planned, opened.name)
    gates = judge(result.gates, record)
    if output is not None:
        import json

        write_whole(output, json.dumps(record, indent=2, allow_nan=False) + "\n", "-o")
    steps = after_planning(model, output, kept=planned.kept and bool(planned.layers))
    deliver(result, talk, record | {"gates": to_dict(gates)}, plan_report(planned, opened.name, gates), steps)
    if not planned.layers:
        fail(f"nothing to plan in {opened.name}: no convolution can be converted", EXIT_NOTHING_ELIGIBLE)
    if output is not None:
        say(f"saved {output}", talk.quiet)
        say(f"to convert by it: saconv-surgeon convert {model} --plan {output} -o out", talk.quiet)
    if not planned.kept:
        fail("a budget is not kept; see the report", EXIT_CHECK_FAILED)
    fail_if_gates_failed(gates)
