"""The command line: parse, one library call, render, exit code. torch is imported inside the commands only."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saconv_surgeon._version import __version__
from saconv_surgeon.cli_checks import (
    check_counted,
    check_finite,
    check_gates_alone,
    check_outputs,
    check_plan_alone,
    check_reports_alone,
)
from saconv_surgeon.cli_options import (
    base_option,
    finite,
    input_options,
    json_option,
    layer_latency_option,
    mode_option,
    overwrite_option,
    pretrained_option,
    proof_options,
    result_options,
    selection_options,
    start_options,
    talk_options,
    target_options_of,
    timing_of,
    timing_options,
    trust_option,
    weights_option,
)
from saconv_surgeon.cli_results import Wanted, fail_where
from saconv_surgeon.cli_talk import (
    EXIT_CHECK_FAILED,
    EXIT_INTERRUPTED,
    EXIT_NOTHING_ELIGIBLE,
    fail,
    progress,
    report_console,
    show,
    show_traceback,
    talk_console,
    write_json,
)
from saconv_surgeon.errors import NoEffectWarning, SurgeonError, UsageError, UserCodeError
from saconv_surgeon.records import to_dict

if TYPE_CHECKING:
    from saconv_surgeon.folding.result import Folding
    from saconv_surgeon.opening import Opened
    from saconv_surgeon.surgery.conversion import Conversion


class SurgeonGroup(click.Group):
    """Turns what went wrong into one message and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """See ``click.Group``."""
        try:
            return super().invoke(ctx)
        except SurgeonError as error:
            if isinstance(error, UserCodeError) and error.__cause__ is not None:
                show_traceback(error.__cause__)
            fail(str(error), error.exit_code)
        except KeyboardInterrupt:
            fail("interrupted; nothing half-written was left", EXIT_INTERRUPTED)


@click.group(cls=SurgeonGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="saconv-surgeon")
def cli() -> None:
    """Swap the convolutions of a trained PyTorch model for switchable atrous ones without losing a prediction.

    MODEL is file.py:factory, package.module:factory(arguments), a pickled model.pt with --trust, or the folder that an earlier
    convert wrote. A factory is a function or class that returns the model.

    \b
    saconv-surgeon inspect sample_models/tiny_resnet.py:build
    saconv-surgeon convert sample_models/tiny_resnet.py:build -o out
    saconv-surgeon profile my.nets:make(depth=18) --input 1x3x224x224
    saconv-surgeon diff    sample_models/tiny_resnet.py:build out
    saconv-surgeon fold    out --weights trained.pt -o fast.onnx

    Exit codes: 0 done, 1 a check failed, 2 usage, 3 a model cannot be found, loaded, run or saved, 4 nothing eligible,
    130 interrupted.
    """


@cli.command()
@click.argument("model")
@weights_option
@pretrained_option
@base_option
@trust_option
@input_options
@selection_options
@mode_option
@result_options
@talk_options
def inspect(model: str, verbose: bool, **options: Any) -> None:
    """List every convolution of MODEL: what it does, whether it can be converted, or why not."""
    wanted = Wanted.of(options)
    from saconv_surgeon import api
    from saconv_surgeon.records import INSPECTION_SCHEMA
    from saconv_surgeon.report import delivery

    opened = _open(model, options)
    with progress(wanted.quiet) as on_step:
        plan = api.make_plan(
            opened.model,
            opened.inputs,
            target=options["target"],
            selection=_selection(options),
            mode=options["mode"],
            base=opened.base,
            on_step=on_step,
        )
    record = to_dict(plan) | {"schema": INSPECTION_SCHEMA, "model": opened.name, "ledger": to_dict(plan.ledger)}
    gates = wanted.judge(record | to_dict(plan.ledger))
    wanted.deliver(record | {"gates": to_dict(gates)}, delivery.of_inspection(plan, opened.name, gates))
    fail_where(gates)


@cli.command()
@click.argument("model")
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Folder, file.pt or file.pt2; repeatable.",
)
@weights_option
@pretrained_option
@base_option
@trust_option
@input_options
@selection_options
@start_options
@mode_option
@click.option(
    "--plan",
    "plan_file",
    type=click.Path(path_type=Path),
    help="Follow the decisions in this JSON instead of selecting.",
)
@proof_options
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    callback=finite,
    default=1e-5,
    show_default=True,
    help="Largest relative movement.",
)
@overwrite_option
@timing_options
@layer_latency_option
@result_options
@talk_options
def convert(
    model: str,
    outputs: tuple[Path, ...],
    plan_file: Path | None,
    dry_run: bool,
    force: bool,
    overwrite: bool,
    verbose: bool,
    **options: Any,
) -> None:
    """Convert MODEL, prove that its outputs did not move (or say how far they did), price it, and save it."""
    check_outputs(outputs, dry_run, overwrite)
    check_plan_alone(plan_file, options)
    wanted = Wanted.of(options | {"outputs": outputs})
    quiet = wanted.quiet
    from saconv_surgeon import api
    from saconv_surgeon.report import delivery

    timing = timing_of(options)
    data = _data(options["data"])
    opened = _open(model, options)
    check_finite(opened)
    with progress(quiet) as on_step, warnings.catch_warnings():
        warnings.simplefilter("ignore", NoEffectWarning)  # said below, by the report and the exit code
        conversion = api.convert(
            opened.model,
            opened.inputs,
            **{
                name: options[name]
                for name in ("target", "include", "exclude", "min_stride", "allow_depthwise", "absorb")
            },
            **{name: options[name] for name in ("init", "trials", "tolerance", "seed", "mode")},
            options=target_options_of(options),
            data=data,
            plan=plan_file,
            base=opened.base,
            on_step=on_step,
        )
        if conversion.converted:
            conversion = api.price(
                conversion,
                opened.model,
                opened.inputs,
                name=opened.name,
                timing=timing,
                on_step=on_step,
            )
    gates = wanted.judge(conversion.to_dict()) if conversion.converted else ()
    wanted.deliver(
        conversion.to_dict() | {"gates": to_dict(gates)},
        delivery.of_conversion(conversion, opened.name, gates, every_site=verbose or not conversion.converted),
    )
    if not conversion.converted:
        fail(
            f"nothing to convert in {opened.name}: all {conversion.plan.ledger.refused} convolutions are refused",
            EXIT_NOTHING_ELIGIBLE,
        )
    acceptable = conversion.acceptable and not any(gate.failed for gate in gates)
    if not dry_run and (acceptable or force):
        _save_all(conversion, opened, outputs, overwrite=overwrite, force=force, quiet=quiet)
    saved = "saved all the same (--force)" if force and outputs and not dry_run else "nothing was saved"
    if not conversion.acceptable:
        fail(f"the outputs moved: {saved}", EXIT_CHECK_FAILED)
    fail_where(gates, saved)
    if conversion.before is not None and conversion.after is not None:
        check_counted(options["strict"], conversion.before, conversion.after)


@cli.command()
@click.argument("model")
@weights_option
@pretrained_option
@base_option
@trust_option
@input_options
@click.option(
    "--abstract",
    is_flag=True,
    help="On shapes alone: parameters, MACs and memory without allocating weights. The same as --device meta.",
)
@timing_options
@layer_latency_option
@click.option(
    "--compare",
    "earlier",
    type=click.Path(path_type=Path),
    metavar="REPORT",
    help="Set the figures against those of an earlier --json report.",
)
@result_options
@talk_options
def profile(model: str, earlier: Path | None, verbose: bool, **options: Any) -> None:
    """Price MODEL: parameters, MACs, FLOPs, activations, memory, latency; totals and per layer."""
    from saconv_surgeon.comparing.saved import compared_with, read_profile

    wanted = Wanted.of(options)
    check_gates_alone(wanted.gates, earlier)
    if options["abstract"] and options["device"] not in ("auto", "meta"):
        raise UsageError(f"--abstract computes nothing on any device; leave --device {options['device']} out")
    options["abstract"] = options["abstract"] or options["device"] == "meta"
    timing = timing_of(options)
    before = None if earlier is None else read_profile(earlier)
    from saconv_surgeon import api
    from saconv_surgeon.report import delivery

    opened = _open(model, options)
    with progress(wanted.quiet) as on_step:
        record = api.profile(opened.model, opened.inputs, name=opened.name, timing=timing, on_step=on_step)
    if before is not None:
        record = replace(record, comparison=compared_with(before, record, str(earlier)))
    gates = wanted.judge(to_dict(record))
    wanted.deliver(to_dict(record) | {"gates": to_dict(gates)}, delivery.of_profile(record, gates, every_layer=verbose))
    fail_where(gates)
    check_counted(options["strict"], record)


@cli.command()
@click.argument("a")
@click.argument("b")
@click.option(
    "--weights", "weights_pair", multiple=True, type=click.Path(path_type=Path), help="Weights for A; again for B."
)
@pretrained_option
@base_option
@trust_option
@input_options
@timing_options
@layer_latency_option
@result_options
@talk_options
def diff(a: str, b: str, weights_pair: tuple[Path, ...], verbose: bool, **options: Any) -> None:
    """Compare two variants: structure, price, weights and outputs. A and B are models, or two reports saved with --json."""
    wanted = Wanted.of(options)
    if len(weights_pair) > 2:
        raise UsageError(f"--weights was given {len(weights_pair)} times; it is given once for A and once for B")
    if a.endswith(".json") and b.endswith(".json"):
        from saconv_surgeon.comparing.saved import diff_of_reports

        check_reports_alone(a, b)
        record = diff_of_reports(Path(a), Path(b))
    else:
        from saconv_surgeon import api

        timing = timing_of(options)
        pair = (*weights_pair, None, None)
        first = _open(a, {**options, "weights": pair[0]})
        second = _open(b, {**options, "weights": pair[1]}, inputs_of=first)
        with progress(wanted.quiet) as on_step:
            record = api.diff(
                first.model,
                second.model,
                first.inputs,
                names=(first.name, second.name),
                timing=timing,
                on_step=on_step,
            )
    from saconv_surgeon.report import delivery

    record = replace(record, gates=wanted.judge(to_dict(record)))
    wanted.deliver(to_dict(record), delivery.of_diff(record, every_row=verbose))
    fail_where(record.gates)
    check_counted(options["strict"], record.a, record.b)


@cli.command()
@click.argument("model")
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    type=click.Path(path_type=Path),
    help="file.pt, file.pt2, file.onnx, or file.aoti.pt2 (compiled by AOTInductor); repeatable.",
)
@weights_option
@base_option
@trust_option
@input_options
@click.option(
    "--fold-norms",
    is_flag=True,
    help="Fold the norms behind layers that never moved, and behind plain convolutions, as well.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0, max=1, max_open=True),
    callback=finite,
    metavar="SHARE",
    help="Also take out parts of a layer that move its output by no more than this share, as in 0.001. Give real images.",
)
@proof_options
@overwrite_option
@timing_options
@layer_latency_option
@result_options
@talk_options
def fold(
    model: str,
    outputs: tuple[Path, ...],
    dry_run: bool,
    force: bool,
    overwrite: bool,
    verbose: bool,
    **options: Any,
) -> None:
    """Make the trained converted MODEL the fastest equal one for inference, prove it equal, price it, and export it."""
    check_outputs(outputs, dry_run, overwrite, folded=True)
    wanted = Wanted.of(options | {"outputs": outputs})
    quiet = wanted.quiet
    from saconv_surgeon import api
    from saconv_surgeon.report import delivery

    timing = timing_of(options)
    opened = _open(model, options)
    check_finite(opened)
    with progress(quiet) as on_step:
        folding = api.fold(
            opened.model,
            opened.inputs,
            **{name: options[name] for name in ("fold_norms", "tolerance", "trials", "seed")},
            base=opened.base,
            on_step=on_step,
        )
        if folding.changed:
            folding = api.price(folding, opened.model, opened.inputs, name=opened.name, timing=timing, on_step=on_step)
    gates = wanted.judge(folding.to_dict()) if folding.changed else ()
    wanted.deliver(folding.to_dict() | {"gates": to_dict(gates)}, delivery.of_folding(folding, opened.name, gates))
    if not folding.changed:
        why = f": {folding.layers[0].reason}" if folding.layers else ": it has no converted layers"
        norms = "" if options["fold_norms"] else "; --fold-norms folds the norms behind plain convolutions"
        fail(f"nothing to fold in {opened.name}{why}{norms}", EXIT_NOTHING_ELIGIBLE)
    acceptable = folding.acceptable and not any(gate.failed for gate in gates)
    if not dry_run and (acceptable or force):
        _save_each(folding, opened, outputs, overwrite=overwrite, force=force, quiet=quiet)
    saved = "saved all the same (--force)" if force and outputs and not dry_run else "nothing was saved"
    if not folding.acceptable:
        fail(f"the outputs moved: {saved}", EXIT_CHECK_FAILED)
    fail_where(gates, saved)
    if folding.before is not None and folding.after is not None:
        check_counted(options["strict"], folding.before, folding.after)


@cli.command()
@json_option
def env(json_to: str | None) -> None:
    """Show versions, devices and optional packages: what a bug report needs."""
    from saconv_surgeon.profiling.environment import environment
    from saconv_surgeon.report import console as render

    facts = environment()
    show(report_console(json_to, quiet=False), render.environment(facts))
    write_json(facts, json_to)


def main() -> None:
    """The console script."""
    cli(prog_name="saconv-surgeon")


# ------------------------------------------------------------------ from options to the library


def _open(model: str, options: dict[str, Any], inputs_of: Opened | None = None) -> Opened:
    from saconv_surgeon.opening import Request, open_model

    names = (
        "weights",
        "base",
        "trust",
        "pretrained",
        "inputs",
        "device",
        "dtype",
        "channels_last",
        "seed",
        "mode",
        "abstract",
    )
    request = Request(model, **{name: options[name] for name in names if name in options})
    opened = open_model(request, inputs=inputs_of.inputs if inputs_of else None)
    if opened.note is not None:
        talk_console(quiet=bool(options.get("quiet"))).print(opened.note, markup=False, highlight=False, soft_wrap=True)
    return opened


def _selection(options: dict[str, Any]) -> Any:
    from saconv_surgeon.surgery.planning import Selection

    names = ("include", "exclude", "min_stride", "allow_depthwise", "absorb")
    return Selection(**{name: options[name] for name in names}, options=target_options_of(options))


def _data(spec: str | None) -> Any:
    if spec is None:
        return None
    from saconv_surgeon.models.source import make_data

    return make_data(spec)


def _save_all(
    conversion: Conversion, opened: Opened, outputs: tuple[Path, ...], *, overwrite: bool, force: bool, quiet: bool
) -> None:
    from saconv_surgeon.surgery.saving import FILES

    _save_each(conversion, opened, outputs, overwrite=overwrite, force=force, quiet=quiet)
    talk = talk_console(quiet)
    if type(conversion.model).__module__.startswith("ultralytics."):
        hint = "train it with saconv_surgeon.integrations.ultralytics.YOLO: Ultralytics' own trainer would drop the surgery"
        talk.print(hint, markup=False, highlight=False, soft_wrap=True)
    folder = next((path for path in outputs if path.suffix not in FILES), None)
    if folder is not None:
        call = f"model = saconv_surgeon.restore(build_your_model(), {str(folder)!r})"
        talk.print(f"in your training script: {call}", markup=False, highlight=False, soft_wrap=True)


def _save_each(
    done: Conversion | Folding,
    opened: Opened,
    outputs: tuple[Path, ...],
    *,
    overwrite: bool,
    force: bool,
    quiet: bool,
) -> None:
    from saconv_surgeon.saving import save

    talk = talk_console(quiet)
    for path in outputs:
        notes = save(
            done,
            path,
            overwrite=overwrite,
            force=force,
            checkpoint=opened.checkpoint,
            example_inputs=opened.inputs,
            program=opened.program,
        )
        for line in (f"saved {path}", *notes):
            talk.print(line, markup=False, highlight=False, soft_wrap=True)
