"""``saconv-surgeon profile``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from saconv_surgeon.cli.checks import check_counted, check_gates_alone
from saconv_surgeon.cli.model_and_input_options import InputOptions, ModelOptions
from saconv_surgeon.cli.output import check_destinations, deliver, fail_if_gates_failed, judge
from saconv_surgeon.cli.result_options import ResultOptions, TalkOptions
from saconv_surgeon.cli.streams import progress, reading
from saconv_surgeon.cli.takes import command, option_in, takes
from saconv_surgeon.cli.timing_options import FieldOptions, TimingOptions
from saconv_surgeon.comparing.saved_reports import compared_with, read_profile
from saconv_surgeon.errors import UsageError
from saconv_surgeon.records import to_dict


@command()
@click.argument("model")
@takes(source=ModelOptions, run_on=InputOptions)
@option_in(
    "Measure",
    "--abstract",
    is_flag=True,
    help="On shapes alone: parameters, MACs and memory without allocating weights. The same as --device meta.",
)
@takes(measured=TimingOptions, fields=FieldOptions)
@option_in(
    "Report",
    "--compare",
    "earlier",
    type=click.Path(path_type=Path),
    metavar="REPORT",
    help="Set the figures against those of an earlier --json report.",
)
@option_in("Report", "--tree", is_flag=True, help="The parts of the model, nested, each with all that is in it.")
@option_in(
    "Report",
    "--depth",
    type=click.IntRange(1),
    metavar="N",
    help="How deep the tree is open, as in 2. Default: all of it.",
)
@takes(result=ResultOptions, talk=TalkOptions)
def profile(
    model: str,
    source: ModelOptions,
    run_on: InputOptions,
    abstract: bool,
    measured: TimingOptions,
    fields: FieldOptions,
    earlier: Path | None,
    tree: bool,
    depth: int | None,
    result: ResultOptions,
    talk: TalkOptions,
) -> None:
    """Price MODEL: parameters, MACs, FLOPs, activations, memory, latency; totals and per layer."""
    check_destinations(result)
    check_gates_alone(result.gates, earlier)
    if abstract and run_on.device not in ("auto", "meta"):
        raise UsageError(f"--abstract computes nothing on any device; leave --device {run_on.device} out")
    abstract = abstract or run_on.device == "meta"
    if abstract and fields.receptive_field:
        raise UsageError("--receptive-field takes gradients; it does not go together with --abstract")
    timing = measured.timing(abstract=abstract)
    before = None if earlier is None else read_profile(earlier)
    reading(model, talk.quiet)
    from saconv_surgeon import api
    from saconv_surgeon.cli.opening import open_model
    from saconv_surgeon.report.commands.profile import AsTree, profile_report

    opened = open_model(model, source, run_on, talk, abstract=abstract)
    with progress(talk.quiet) as on_step:
        record = api.profile(opened.model, opened.inputs, name=opened.name, timing=timing, on_step=on_step)
        record = fields.told(record, opened.model, opened.inputs, run_on.seed, on_step)
    if before is not None:
        record = replace(record, comparison=compared_with(before, record, str(earlier)))
    gates = judge(result.gates, to_dict(record))
    nested = AsTree(depth) if tree or depth is not None else None
    report = profile_report(record, gates, every_layer=talk.verbose, tree=nested)
    deliver(result, talk, to_dict(record) | {"gates": to_dict(gates)}, report)
    fail_if_gates_failed(gates)
    check_counted(measured.strict, record)
