"""``saconv-surgeon fold``."""

from __future__ import annotations

from pathlib import Path

import click

from saconv_surgeon.cli.checks import check_outputs
from saconv_surgeon.cli.model_and_input_options import InputOptions, TrainedModelOptions
from saconv_surgeon.cli.output import check_destinations, conclude, deliver, judge, save_accepted
from saconv_surgeon.cli.result_options import ResultOptions, TalkOptions
from saconv_surgeon.cli.selection_options import ProofOptions, overwrite_option
from saconv_surgeon.cli.streams import EXIT_NOTHING_ELIGIBLE, fail, progress, reading
from saconv_surgeon.cli.takes import command, finite, option_in, takes
from saconv_surgeon.cli.timing_options import TimingOptions
from saconv_surgeon.records import to_dict


@command()
@click.argument("model")
@option_in(
    "Save",
    "-o",
    "--output",
    "outputs",
    multiple=True,
    type=click.Path(path_type=Path),
    help="file.pt, file.pt2, file.onnx, or file.aoti.pt2 (compiled by AOTInductor); repeatable.",
)
@takes(source=TrainedModelOptions, run_on=InputOptions)
@option_in(
    "Fold",
    "--fold-norms",
    is_flag=True,
    help="Fold the norms after layers that never moved, and after plain convolutions, as well.",
)
@option_in(
    "Fold",
    "--tolerance",
    type=click.FloatRange(min=0, max=1, max_open=True),
    callback=finite,
    metavar="SHARE",
    help="Also take out parts of a layer that move its output by no more than this share, as in 0.001. Give real images.",
)
@takes(proof=ProofOptions)
@overwrite_option
@takes(measured=TimingOptions, result=ResultOptions, talk=TalkOptions)
def fold(
    model: str,
    outputs: tuple[Path, ...],
    source: TrainedModelOptions,
    run_on: InputOptions,
    fold_norms: bool,
    tolerance: float | None,
    proof: ProofOptions,
    overwrite: bool,
    measured: TimingOptions,
    result: ResultOptions,
    talk: TalkOptions,
) -> None:
    """Make the trained converted MODEL the fastest equal one for inference, prove it equal, price it, and export it."""
    check_outputs(outputs, proof.dry_run, overwrite, model=model, folded=True)
    check_destinations(result, outputs)
    timing = measured.timing()
    reading(model, talk.quiet)
    from saconv_surgeon import api
    from saconv_surgeon.cli.next_steps import after_folding
    from saconv_surgeon.cli.opening import open_model
    from saconv_surgeon.models.loading.in_memory import check_finite
    from saconv_surgeon.models.loading.input_spec import make_redraw
    from saconv_surgeon.report.commands.fold import folding_report

    redraw = None if proof.redraw is None else make_redraw(proof.redraw)
    opened = open_model(model, source, run_on, talk)
    check_finite(opened.model, opened.name)
    with progress(talk.quiet) as on_step:
        folding = api.fold(
            opened.model,
            opened.inputs,
            fold_norms=fold_norms,
            tolerance=tolerance,
            trials=proof.trials,
            seed=run_on.seed,
            base=opened.base,
            redraw=redraw,
            on_step=on_step,
        )
        if folding.changed:
            folding = api.price(folding, opened.model, opened.inputs, name=opened.name, timing=timing, on_step=on_step)
    gates = judge(result.gates, folding.to_dict()) if folding.changed else ()
    places = outputs if folding.changed else ()
    saved = save_accepted(folding, opened, places, gates, proof=proof, overwrite=overwrite)
    steps = after_folding(outputs) if saved.lines and not saved.failed else ()
    record = folding.to_dict() | {"gates": to_dict(gates)}
    deliver(result, talk, record, folding_report(folding, opened.name, gates), steps)
    if not folding.changed:
        why = f": {folding.layers[0].reason}" if folding.layers else ": it has no converted layers"
        norms = "" if fold_norms else "; --fold-norms folds the norms after plain convolutions"
        fail(f"nothing to fold in {opened.name}{why}{norms}", EXIT_NOTHING_ELIGIBLE)
    conclude(folding, saved, gates, proof=proof, strict=measured.strict, quiet=talk.quiet)
