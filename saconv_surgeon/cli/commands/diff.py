"""``saconv-surgeon diff``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from saconv_surgeon.cli.checks import check_counted, check_reports_alone
from saconv_surgeon.cli.model_and_input_options import InputOptions, PairOptions
from saconv_surgeon.cli.output import check_destinations, deliver, fail_if_gates_failed, judge
from saconv_surgeon.cli.result_options import ResultOptions, TalkOptions
from saconv_surgeon.cli.streams import progress, reading
from saconv_surgeon.cli.takes import command, option_in, takes
from saconv_surgeon.cli.timing_options import FieldOptions, TimingOptions
from saconv_surgeon.comparing.saved_reports import diff_of_reports
from saconv_surgeon.records import Diff, to_dict


@command()
@click.argument("a")
@click.argument("b")
@takes(pair=PairOptions, run_on=InputOptions, measured=TimingOptions, fields=FieldOptions)
@option_in(
    "Report",
    "--image",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A picture, as cat.jpg: where in it each switchable layer looks far. The maps are in the HTML report.",
)
@takes(result=ResultOptions, talk=TalkOptions)
def diff(
    a: str,
    b: str,
    pair: PairOptions,
    run_on: InputOptions,
    measured: TimingOptions,
    fields: FieldOptions,
    image: Path | None,
    result: ResultOptions,
    talk: TalkOptions,
) -> None:
    """Compare two variants: structure, price, weights and outputs. A and B are models, or two reports saved with --json."""
    check_destinations(result)
    pair.of_each()
    if a.endswith(".json") and b.endswith(".json"):
        check_reports_alone(a, b)
        record = diff_of_reports(Path(a), Path(b))
    else:
        record = _diff_of_models(a, b, pair, run_on, measured, fields, image, talk)
    from saconv_surgeon.report.commands.diff import diff_report

    record = replace(record, gates=judge(result.gates, to_dict(record)))
    deliver(result, talk, to_dict(record), diff_report(record, every_row=talk.verbose))
    fail_if_gates_failed(record.gates)
    check_counted(measured.strict, record.a, record.b)


def _diff_of_models(
    a: str,
    b: str,
    pair: PairOptions,
    run_on: InputOptions,
    measured: TimingOptions,
    fields: FieldOptions,
    image: Path | None,
    talk: TalkOptions,
) -> Diff:
    reading(f"{a} and {b}", talk.quiet)
    from saconv_surgeon import api
    from saconv_surgeon.cli.opening import open_model
    from saconv_surgeon.models.loading.input_spec import NoInputsError

    timing = measured.timing()
    source_a, source_b = pair.of_each()
    try:
        first = open_model(a, source_a, run_on, talk)
        second = open_model(b, source_b, run_on, talk, inputs=first.inputs)
    except NoInputsError as none:
        try:
            second = open_model(b, source_b, run_on, talk)
        except NoInputsError:
            raise none from None
        first = open_model(a, source_a, run_on, talk, inputs=second.inputs)
    names = (first.name, second.name)
    inputs = replace(first.inputs, batch_axis=first.inputs.batch_axis or second.inputs.batch_axis)
    with progress(talk.quiet) as on_step:
        record = api.diff(first.model, second.model, inputs, names=names, timing=timing, image=image, on_step=on_step)
        return replace(
            record,
            a=fields.told(record.a, first.model, inputs, run_on.seed, on_step),
            b=fields.told(record.b, second.model, inputs, run_on.seed, on_step),
        )
