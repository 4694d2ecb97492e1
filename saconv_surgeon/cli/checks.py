"""What the command line checks before and after the work: options that do not go together, outputs, counts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from saconv_surgeon.cli.selection_options import SelectionOptions, WritingOptions
from saconv_surgeon.cli.streams import EXIT_CHECK_FAILED, fail
from saconv_surgeon.cli.takes import is_given, parameters_of
from saconv_surgeon.comparing.gates import Gate
from saconv_surgeon.errors import ModelError, UsageError
from saconv_surgeon.saving.destination import destination

if TYPE_CHECKING:
    from saconv_surgeon.records import Profile

WITH_REPORTS = {"a", "b", "json_to", "quiet", "verbose", "strict", "latency", "reports", "gates", "per_layer"}
"""Parameters of ``diff`` that mean something if A and B are reports."""
CHOOSING = parameters_of(SelectionOptions)


def check_reports_alone(a: str, b: str) -> None:
    """Checks that no option says how to run the models when two reports are compared.

    Raises:
        UsageError: One does.
    """
    context = click.get_current_context()
    parameters = context.command.params
    asked = next((p for p in parameters if p.name not in WITH_REPORTS and is_given(context, str(p.name))), None)
    if asked is not None:
        raise UsageError(
            f"{a} and {b} are reports: nothing is run or measured, and {asked.opts[0]} does not go together with them"
        )


def check_plan_alone(plan_file: Path | None) -> None:
    """Checks that no option decides what a plan has decided already.

    Raises:
        UsageError: One does, or ``--to`` names another target than the plan.
    """
    context = click.get_current_context()
    decided = CHOOSING - {"target"}
    chosen = next((p for p in context.command.params if p.name in decided and is_given(context, p.name)), None)
    if plan_file is not None and chosen is not None:
        raise UsageError(
            f"--plan follows the decisions in {plan_file}; it does not go together with {chosen.opts[0]}: edit the plan instead"
        )
    if plan_file is not None and is_given(context, "target"):
        from saconv_surgeon.surgery.plan_file import read_plan

        target, recorded = context.params["target"], read_plan(plan_file).target
        if target != recorded:
            raise UsageError(
                f"--plan follows the decisions in {plan_file}, whose target is {recorded!r}, not {target!r}: leave --to out, or "
                "edit the targets in the plan"
            )


def nothing_chosen() -> bool:
    """Whether no option says what to convert, and to what."""
    context = click.get_current_context()
    return not any(is_given(context, str(p.name)) for p in context.command.params if p.name in CHOOSING)


def check_delta(written: WritingOptions, outputs: tuple[Path, ...]) -> None:
    """Checks that there is a folder to write a delta to.

    Raises:
        UsageError: There are only files, which hold whole models.
    """
    from saconv_surgeon.saving.conversion_files import FILES

    if written.delta and outputs and all(path.suffix in FILES for path in outputs):
        raise UsageError(f"--delta is for a folder, and {outputs[0]} holds a whole model; give -o FOLDER")


def check_gates_alone(gates: tuple[Gate, ...], earlier: Path | None) -> None:
    """Checks that a gate about a ratio has an earlier report to compare with.

    Raises:
        UsageError: It has none.
    """
    ratio = next((gate for gate in gates if gate.is_ratio), None)
    if ratio is not None and earlier is None:
        raise UsageError(
            f'--fail-if "{ratio.text}" is a ratio, and there is one model only; leave the x out for a value, or give an earlier '
            "report with --compare"
        )


def check_outputs(
    outputs: tuple[Path, ...], dry_run: bool, overwrite: bool, *, model: str, folded: bool = False
) -> None:
    """Checks before anything slow is done that every output can be written; ``folded`` models go to other kinds of files.

    Raises:
        UsageError: One cannot, or none is given.
        ModelError: None is given, and ``model`` is code without the name of a factory: that has to be known first.
    """
    if not outputs and not dry_run:
        from saconv_surgeon.models.loading.factories import is_place, split_factory
        from saconv_surgeon.models.loading.model_spec import check_names_factory

        if not is_place(Path(model), Path.is_dir) and split_factory(model) is None:
            check_names_factory(model)
        kinds = (
            "-o file.pt, file.pt2, file.onnx or file.aoti.pt2" if folded else "-o FOLDER (or -o file.pt, -o file.pt2)"
        )
        raise UsageError(f"where to? give {kinds}, or --dry-run to see what would happen")
    if len({_real(path) for path in outputs}) < len(outputs):
        raise UsageError("the same -o was given twice")
    if outputs and not dry_run:
        from saconv_surgeon.saving.conversion_files import check_output
        from saconv_surgeon.saving.folded_files import check_folded_output

        for path in outputs:
            (check_folded_output if folded else check_output)(path, overwrite=overwrite)


def _real(path: Path) -> Path:
    try:
        return destination(path).real
    except OSError as error:
        raise ModelError(f"{path} cannot be written: {error.strerror or error}") from error


def check_counted(strict: bool, *profiles: Profile) -> None:
    """The gate of ``--strict``: exits with 1 if a figure leaves something out."""
    for record in profiles:
        if strict and record.macs is None:
            fail(f"--strict: {record.model} could not be counted: {record.note}", EXIT_CHECK_FAILED)
        if strict and record.uncounted_ops:
            fail(
                f"--strict: {record.model} has operations that are not counted: {', '.join(record.uncounted_ops)}",
                EXIT_CHECK_FAILED,
            )
