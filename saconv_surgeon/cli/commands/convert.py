"""``saconv-surgeon convert``."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from saconv_surgeon.cli.checks import check_delta, check_outputs, check_plan_alone, nothing_chosen
from saconv_surgeon.cli.model_and_input_options import InputOptions, ModelOptions, mode_option
from saconv_surgeon.cli.output import check_destinations, conclude, deliver, judge, save_accepted
from saconv_surgeon.cli.plan_options import BudgetedTimingOptions, GainOptions
from saconv_surgeon.cli.planned import check_budget_alone, plan_for_budgets, planned_record
from saconv_surgeon.cli.result_options import ResultOptions, TalkOptions
from saconv_surgeon.cli.selection_options import InitOptions, ProofOptions, SelectionOptions, WritingOptions
from saconv_surgeon.cli.streams import EXIT_CHECK_FAILED, EXIT_NOTHING_ELIGIBLE, fail, progress, reading
from saconv_surgeon.cli.takes import command, finite, option_in, takes
from saconv_surgeon.cli.timing_options import FieldOptions
from saconv_surgeon.errors import NoEffectWarning
from saconv_surgeon.records import Mode, to_dict

if TYPE_CHECKING:
    from saconv_surgeon.surgery.converted_model import Conversion


@command()
@click.argument("model")
@option_in(
    "Save",
    "-o",
    "--output",
    "outputs",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Folder, file.pt or file.pt2; repeatable.",
)
@takes(source=ModelOptions, run_on=InputOptions, chosen=SelectionOptions, start=InitOptions)
@mode_option
@option_in(
    "What to convert",
    "--plan",
    "plan_file",
    type=click.Path(path_type=Path),
    help="Follow the decisions in this JSON instead of selecting.",
)
@takes(proof=ProofOptions)
@option_in(
    "Proof",
    "--tolerance",
    type=click.FloatRange(min=0),
    callback=finite,
    default=1e-5,
    show_default=True,
    help="Largest relative movement.",
)
@takes(
    written=WritingOptions,
    learnt=GainOptions,
    measured=BudgetedTimingOptions,
    fields=FieldOptions,
    result=ResultOptions,
    talk=TalkOptions,
)
def convert(
    model: str,
    outputs: tuple[Path, ...],
    source: ModelOptions,
    run_on: InputOptions,
    chosen: SelectionOptions,
    start: InitOptions,
    mode: Mode,
    plan_file: Path | None,
    proof: ProofOptions,
    tolerance: float,
    written: WritingOptions,
    learnt: GainOptions,
    measured: BudgetedTimingOptions,
    fields: FieldOptions,
    result: ResultOptions,
    talk: TalkOptions,
) -> None:
    """Convert MODEL, prove that its outputs did not move (or say how far they did), price it, and save it.

    With a condition as --budget, the layers are chosen as ``plan`` chooses them, from --data and --loss.

    If MODEL is the folder of a conversion, its layers stay and others are converted besides. With --plan FOLDER/plan.json, and
    for a folder that --delta wrote if nothing says what to convert, it is written again as it is.
    """
    check_outputs(outputs, proof.dry_run, written.overwrite, model=model)
    check_delta(written, outputs)
    check_plan_alone(plan_file)
    check_budget_alone(measured, learnt, plan_file)
    check_destinations(result, outputs)
    timing = measured.timing()
    reading(model, talk.quiet)
    from saconv_surgeon import api
    from saconv_surgeon.cli.next_steps import after_converting
    from saconv_surgeon.cli.opening import open_for_data
    from saconv_surgeon.cli.saved_conversions import base_tensors, plan_to_keep
    from saconv_surgeon.models.loading.in_memory import check_finite
    from saconv_surgeon.models.loading.input_spec import make_data, make_redraw
    from saconv_surgeon.report.commands.convert import conversion_report
    from saconv_surgeon.saving.conversion_files import FILES
    from saconv_surgeon.saving.stored_state import check_storable

    redraw = None if proof.redraw is None else make_redraw(proof.redraw)
    data = None if start.data is None else make_data(start.data)
    opened, batches = open_for_data(model, source, run_on, talk, data, mode=mode)
    check_finite(opened.model, opened.name)
    if any(path.suffix not in FILES for path in outputs) and not proof.dry_run:
        check_storable(opened.model)
    known = base_tensors(model, source) if written.delta and opened.earlier is not None else None
    if plan_file is None and opened.earlier is not None and not measured.conditions and nothing_chosen():
        plan_file = plan_to_keep(model)
    with progress(talk.quiet) as on_step, warnings.catch_warnings():
        warnings.simplefilter("ignore", NoEffectWarning)  # the report and the exit code say so
        planned = None
        if measured.conditions:
            planned = plan_for_budgets(opened, chosen, learnt, measured, batches, run_on.seed, mode, on_step)
        conversion = api.convert(
            opened.model,
            opened.inputs,
            target="saconv" if planned else chosen.target,
            include=chosen.include,
            exclude=chosen.exclude,
            min_stride=chosen.min_stride,
            allow_depthwise=chosen.allow_depthwise,
            absorb=chosen.absorb,
            options=chosen.target_options,
            init=start.init,
            data=None if planned else batches,
            plan=planned.plan if planned else plan_file,
            earlier=opened.earlier,
            trials=proof.trials,
            tolerance=tolerance,
            seed=run_on.seed,
            mode=mode,
            base=opened.base,
            redraw=redraw,
            on_step=on_step,
        )
        if conversion.converted:
            conversion = api.price(
                conversion, opened.model, opened.inputs, name=opened.name, timing=timing, on_step=on_step
            )
            conversion = replace(
                conversion,
                before=fields.told(conversion.before, opened.model, opened.inputs, run_on.seed, on_step),
                after=fields.told(conversion.after, conversion.model, opened.inputs, run_on.seed, on_step),
            )
    if known is not None:
        conversion = replace(conversion, base_tensors=known)
    record = conversion.to_dict()
    if planned is not None:
        record["planning"] = planned_record(planned, opened.name)["planning"]
    gates = judge(result.gates, record) if conversion.converted else ()
    every_site = talk.verbose or not conversion.converted
    report = conversion_report(conversion, opened.name, gates, every_site=every_site, planned=planned)
    places = outputs if conversion.converted else ()
    saved = save_accepted(
        conversion, opened, places, gates, proof=proof, overwrite=written.overwrite, delta=written.delta
    )
    steps = after_converting(outputs, delta=written.delta) if saved.lines else ()
    deliver(result, talk, record | {"gates": to_dict(gates)}, report, steps)
    if not conversion.converted:
        refused = conversion.plan.ledger.refused
        fail(f"nothing to convert in {opened.name}: all {refused} convolutions are refused", EXIT_NOTHING_ELIGIBLE)
    hints = tuple(_hints(conversion, outputs))
    conclude(conversion, saved, gates, proof=proof, strict=measured.strict, quiet=talk.quiet, hints=hints)
    if planned is not None and not planned.kept:
        fail("a budget is not kept; see the report", EXIT_CHECK_FAILED)


def _hints(conversion: Conversion, outputs: Sequence[Path]) -> Iterator[str]:
    """What to do with what was saved."""
    from saconv_surgeon.saving.conversion_files import FILES

    if type(conversion.model).__module__.startswith("ultralytics."):
        yield "train it with saconv_surgeon.integrations.ultralytics.YOLO: Ultralytics' own trainer would drop the surgery"
    folder = next((path for path in outputs if path.suffix not in FILES), None)
    if folder is not None:
        yield f"in your training script: model = saconv_surgeon.restore(build_your_model(), {str(folder)!r})"
