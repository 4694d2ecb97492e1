"""``saconv-surgeon inspect``."""

from __future__ import annotations

import click

from saconv_surgeon.cli.model_and_input_options import InputOptions, ModelOptions, mode_option
from saconv_surgeon.cli.output import check_destinations, deliver, fail_if_gates_failed, judge
from saconv_surgeon.cli.result_options import ResultOptions, TalkOptions
from saconv_surgeon.cli.selection_options import SelectionOptions
from saconv_surgeon.cli.streams import progress, reading
from saconv_surgeon.cli.takes import command, option_in, takes
from saconv_surgeon.records import INSPECTION_SCHEMA, Mode, to_dict

EVERY = "all"
"""What ``--to`` takes here in place of a target."""


@command()
@click.argument("model")
@takes(source=ModelOptions, run_on=InputOptions, chosen=SelectionOptions)
@mode_option
@option_in(
    "Report",
    "--safety",
    is_flag=True,
    help="Load nothing: say what the file MODEL wants and what of that is refused. --json writes SARIF; exit code 1 if it "
    "does not load without --trust.",
)
@takes(result=ResultOptions, talk=TalkOptions)
def inspect(
    model: str,
    source: ModelOptions,
    run_on: InputOptions,
    chosen: SelectionOptions,
    mode: Mode,
    safety: bool,
    result: ResultOptions,
    talk: TalkOptions,
) -> None:
    """List every convolution of MODEL: what it does, whether it can be converted, or why not.

    With --to all: what every target would be there, and what it costs while it is trained and after folding.
    """
    check_destinations(result)
    if safety:
        from saconv_surgeon.cli.safety import look_through

        return look_through(model, result, talk)
    reading(model, talk.quiet)
    from saconv_surgeon.cli.opening import open_model
    from saconv_surgeon.report.commands.inspect import inspection_report
    from saconv_surgeon.surgery.inspect import make_plan

    opened = open_model(model, source, run_on, talk, mode=mode)
    if chosen.target == EVERY:
        from saconv_surgeon.report.commands.target_choice import choice_report
        from saconv_surgeon.surgery.every_target import every_target

        with progress(talk.quiet) as on_step:
            choice = every_target(opened.model, opened.inputs, selection=chosen.selection(), mode=mode, on_step=on_step)
        found = to_dict(choice) | {"model": opened.name}
        gates = judge(result.gates, found)
        deliver(result, talk, found | {"gates": to_dict(gates)}, choice_report(choice, opened.name, gates))
        return fail_if_gates_failed(gates)
    with progress(talk.quiet) as on_step:
        plan = make_plan(
            opened.model,
            opened.inputs,
            target=chosen.target,
            selection=chosen.selection(),
            mode=mode,
            base=opened.base,
            on_step=on_step,
        )
    ledger = to_dict(plan.ledger)
    record = to_dict(plan) | {"schema": INSPECTION_SCHEMA, "model": opened.name, "ledger": ledger}
    gates = judge(result.gates, record | ledger)
    deliver(
        result,
        talk,
        record | {"gates": to_dict(gates)},
        inspection_report(plan, opened.name, gates, every_site=talk.verbose),
    )
    return fail_if_gates_failed(gates)
