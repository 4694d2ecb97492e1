"""What the command line checks before and after the work: options that do not go together, outputs, gates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saconv_surgeon.cli_options import is_given
from saconv_surgeon.cli_talk import EXIT_CHECK_FAILED, fail
from saconv_surgeon.errors import UsageError

if TYPE_CHECKING:
    from saconv_surgeon.comparing.gates import Gate
    from saconv_surgeon.opening import Opened
    from saconv_surgeon.records import Profile


def check_reports_alone(a: str, b: str) -> None:
    """Nothing is run where two reports are compared, so nothing can be said about how."""
    context = click.get_current_context()
    wanted = {"a", "b", "json_to", "quiet", "verbose", "strict", "latency", "reports", "gates", "per_layer"}
    asked = next((p for p in context.command.params if p.name not in wanted and is_given(context, str(p.name))), None)
    if asked is not None:
        raise UsageError(
            f"{a} and {b} are reports: nothing is run or measured, and {asked.opts[0]} does not go together with them"
        )


def check_gates_alone(gates: tuple[Gate, ...], earlier: Path | None) -> None:
    """A ratio wants something to be compared with."""
    ratio = next((gate for gate in gates if gate.is_ratio), None)
    if ratio is not None and earlier is None:
        raise UsageError(
            f'--fail-if "{ratio.text}" is a ratio, and there is one model only; leave the x out for a value, or give an earlier '
            "report with --compare"
        )


def check_counted(strict: bool, *profiles: Profile) -> None:
    """The gate of --strict: a figure that leaves something out fails."""
    for record in profiles:
        if strict and record.macs is None:
            fail(f"--strict: {record.model} could not be counted: {record.note}", EXIT_CHECK_FAILED)
        if strict and record.uncounted_ops:
            fail(
                f"--strict: {record.model} has operations that are not counted: {', '.join(record.uncounted_ops)}",
                EXIT_CHECK_FAILED,
            )


def check_outputs(outputs: tuple[Path, ...], dry_run: bool, overwrite: bool, *, folded: bool = False) -> None:
    """Before anything slow is done; ``folded`` models go to other kinds of files."""
    if not outputs and not dry_run:
        kinds = (
            "-o file.pt, file.pt2, file.onnx or file.aoti.pt2" if folded else "-o FOLDER (or -o file.pt, -o file.pt2)"
        )
        raise UsageError(f"where to? give {kinds}, or --dry-run to see what would happen")
    if len({p.resolve() for p in outputs}) < len(outputs):
        raise UsageError("the same -o was given twice")
    if outputs and not dry_run:
        from saconv_surgeon.folding.files import check_folded_output
        from saconv_surgeon.surgery.saving import check_output

        for path in outputs:
            (check_folded_output if folded else check_output)(path, overwrite=overwrite)


def check_plan_alone(plan_file: Path | None, options: dict[str, Any]) -> None:
    """A plan has decided already."""
    names = ("include", "exclude", "min_stride", "allow_depthwise", "absorb", "ratio", "settings")
    chosen = ["option" if name == "settings" else name for name in names if options[name]]
    if plan_file is not None and chosen:
        option = "--" + chosen[0].replace("_", "-")
        raise UsageError(
            f"--plan follows the decisions in {plan_file}; it does not go together with {option}: edit the plan instead"
        )


def check_finite(opened: Opened) -> None:
    """Weights that are no numbers prove nothing."""
    from saconv_surgeon.models import weights

    weights.check_finite(opened.model, opened.name)
