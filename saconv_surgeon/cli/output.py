"""What becomes of a command's result: the report, the record as JSON, the gates, the saved files, the exit code."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saconv_surgeon.cli.checks import check_counted
from saconv_surgeon.cli.result_options import ResultOptions, TalkOptions
from saconv_surgeon.cli.selection_options import ProofOptions
from saconv_surgeon.cli.streams import EXIT_CHECK_FAILED, fail, report_console, say, show, write_json, write_whole
from saconv_surgeon.comparing.gates import Gate, evaluate
from saconv_surgeon.errors import UsageError
from saconv_surgeon.records import GateResult
from saconv_surgeon.report.formats import FORMATS

if TYPE_CHECKING:
    from saconv_surgeon.cli.opening import Opened
    from saconv_surgeon.folding.folded_model import Folding
    from saconv_surgeon.report.report import Report
    from saconv_surgeon.surgery.converted_model import Conversion


def check_destinations(result: ResultOptions, outputs: Sequence[Path] = ()) -> None:
    """Checks before anything slow is done that reports and record can be written.

    Raises:
        UsageError: One cannot, or two go to the same file.
    """
    files = [path.resolve() for path in result.reports]
    files += [Path(result.json_to).resolve()] if result.json_to not in (None, "-") else []
    if len(set(files)) < len(files):
        raise UsageError("the same file was given twice with --report or --json")
    for path in result.reports:
        _check_report(path)
    inside = next((f for f in files if any(o.resolve() in f.parents for o in outputs)), None)
    if inside is not None:
        raise UsageError(f"{inside} would lie inside a folder given with -o; put it beside that")


def _check_report(path: Path) -> None:
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"--report {path} is of no known kind; its name ends in {', '.join(FORMATS)}")
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        why = "is a folder" if path.is_dir() else f"cannot be written: is {path.parent} a folder that you may write to?"
        raise UsageError(f"--report {path} {why}")


def judge(gates: Sequence[Gate], record: dict[str, Any]) -> tuple[GateResult, ...]:
    """What each gate says of a record. A gate about a figure that the record does not have fails."""
    return tuple(_judged(gate, record) for gate in gates)


def _judged(gate: Gate, record: dict[str, Any]) -> GateResult:
    try:
        return evaluate(gate, record)
    except UsageError as error:
        return GateResult(gate.text, None, failed=True, found=str(error))


def deliver(result: ResultOptions, talk: TalkOptions, record: dict[str, Any], report: Report) -> None:
    """Prints the report, and writes it and the record to where they are wanted."""
    from saconv_surgeon.report.formats import terminal

    out = report_console(result.json_to, talk.quiet)
    show(out, terminal.render(report, out.width))
    write_json(record, result.json_to)
    for path in result.reports:
        write_whole(path, FORMATS[path.suffix.lower()].render(report), "--report")
        say(f"report {path}", talk.quiet)


def fail_if_gates_failed(results: Sequence[GateResult], besides: str | None = None) -> None:
    """Exits with 1 if a gate failed, and says which."""
    failed = [f'--fail-if "{r.gate}" failed: {r.found}' for r in results if r.failed]
    if failed:
        fail("\n".join([*failed, *([besides] if besides else [])]), EXIT_CHECK_FAILED)


def save_or_fail(
    made: Conversion | Folding,
    opened: Opened,
    outputs: tuple[Path, ...],
    gates: Sequence[GateResult],
    *,
    proof: ProofOptions,
    overwrite: bool,
    strict: bool,
    quiet: bool,
    hints: Sequence[str] = (),
) -> None:
    """Saves if the outputs are as promised and no gate failed, or with ``--force``; then exits with 1 if a check failed.

    ``hints`` are said after saving.
    """
    acceptable = made.acceptable and not any(gate.failed for gate in gates)
    if not proof.dry_run and (acceptable or proof.force):
        _save_each(made, opened, outputs, overwrite=overwrite, force=proof.force, quiet=quiet)
        for hint in hints:
            say(hint, quiet)
    forced = proof.force and outputs and not proof.dry_run
    saved = "saved all the same (--force)" if forced else "nothing was saved"
    if not made.acceptable:
        fail(f"the outputs moved: {saved}", EXIT_CHECK_FAILED)
    fail_if_gates_failed(gates, saved)
    if made.before is not None and made.after is not None:
        check_counted(strict, made.before, made.after)


def _save_each(
    made: Conversion | Folding,
    opened: Opened,
    outputs: tuple[Path, ...],
    *,
    overwrite: bool,
    force: bool,
    quiet: bool,
) -> None:
    from saconv_surgeon.saving.save import save

    for path in outputs:
        notes = save(
            made,
            path,
            overwrite=overwrite,
            force=force,
            checkpoint=opened.checkpoint,
            example_inputs=opened.inputs,
            program=opened.program,
        )
        for line in (f"saved {path}", *notes):
            say(line, quiet)
