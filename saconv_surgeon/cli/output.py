"""What becomes of a command's result: the report, the record as JSON, the gates, the saved files, the exit code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saconv_surgeon.cli.checks import check_counted
from saconv_surgeon.cli.command_line import made_by
from saconv_surgeon.cli.result_options import ResultOptions, TalkOptions
from saconv_surgeon.cli.selection_options import ProofOptions
from saconv_surgeon.cli.streams import EXIT_CHECK_FAILED, fail, report_console, say, show, write_json, write_whole
from saconv_surgeon.comparing.gates import Gate, evaluate
from saconv_surgeon.errors import ModelError, UsageError
from saconv_surgeon.models.loading.users_code import process_kept
from saconv_surgeon.records import GateResult
from saconv_surgeon.report.formats import FORMATS
from saconv_surgeon.saving.atomic import check_place
from saconv_surgeon.saving.destination import destination

if TYPE_CHECKING:
    from saconv_surgeon.cli.opening import Opened
    from saconv_surgeon.folding.folded_model import Folding
    from saconv_surgeon.report.page import Step
    from saconv_surgeon.report.report import Report
    from saconv_surgeon.surgery.converted_model import Conversion


def check_destinations(result: ResultOptions, outputs: Sequence[Path] = ()) -> None:
    """Checks before anything slow is done that reports and record can be written.

    Raises:
        UsageError: One cannot, or two go to the same file.
    """
    for path in result.reports:
        if path.suffix.lower() not in FORMATS:
            raise UsageError(f"--report {path} is of no known kind; its name ends in {', '.join(FORMATS)}")
    files = [checked_file(path, "--report") for path in result.reports]
    files += [checked_file(Path(result.json_to), "--json")] if result.json_to not in (None, "-") else []
    if len(set(files)) < len(files):
        raise UsageError("the same file was given twice with --report or --json")
    folders = [destination(path).real for path in outputs]
    inside = next((f for f in files if any(folder in f.parents for folder in folders)), None)
    if inside is not None:
        raise UsageError(f"{inside} would lie inside a folder given with -o; put it beside that")


def checked_file(path: Path, option: str) -> Path:
    """Where ``path`` leads, if a file can be written there.

    Raises:
        UsageError: It cannot; ``option`` is the one that asked for it.
    """
    try:
        if path.is_dir():
            raise UsageError(f"{option} {path} is a folder")
        if not path.parent.is_dir():
            raise UsageError(f"{option} {path} cannot be written: is {path.parent} a folder that you may write to?")
        check_place(path)
        return destination(path).real
    except (ModelError, OSError) as error:
        raise UsageError(f"{option} {error}") from error


def judge(gates: Sequence[Gate], record: dict[str, Any]) -> tuple[GateResult, ...]:
    """What each gate says of a record. A gate about a figure that the record does not have fails."""
    return tuple(_judged(gate, record) for gate in gates)


def _judged(gate: Gate, record: dict[str, Any]) -> GateResult:
    try:
        return evaluate(gate, record)
    except UsageError as error:
        return GateResult(gate.text, None, failed=True, found=str(error))


def deliver(
    result: ResultOptions, talk: TalkOptions, record: dict[str, Any], report: Report, steps: Sequence[Step] = ()
) -> None:
    """Writes the report and the record to where they are wanted, then prints: what cannot be printed is not lost.

    ``steps`` are what a report in a file says can be done next.

    Raises:
        UsageError: One of them cannot be written; the others were.
    """
    from saconv_surgeon.report.formats import terminal

    report = report.completed(steps, made_by())
    written: list[Path] = []

    def write_report(path: Path) -> None:
        write_whole(path, FORMATS[path.suffix.lower()].render(report), "--report")
        written.append(path)

    def print_report() -> None:
        out = report_console(result.json_to, talk.quiet)
        show(out, terminal.render(report, out.width))

    writers = [partial(write_report, path) for path in result.reports]
    last = [print_report]
    if result.json_to is not None:
        (last if result.json_to == "-" else writers).append(partial(write_json, record, result.json_to))
    failed = attempted([*writers, *last])
    for path in written:
        say(f"report {path}", talk.quiet)
    if failed:
        raise failed[0]


def attempted(tasks: Iterable[Callable[[], object]]) -> list[Exception]:
    """Does all of them, and gives the errors of those that failed."""
    failed: list[Exception] = []
    for task in tasks:
        try:
            task()
        except Exception as error:
            failed.append(error)
    return failed


def fail_if_gates_failed(results: Sequence[GateResult], besides: str | None = None) -> None:
    """Exits with 1 if a gate failed, and says which."""
    failed = [f'--fail-if "{r.gate}" failed: {r.found}' for r in results if r.failed]
    if failed:
        fail("\n".join([*failed, *([besides] if besides else [])]), EXIT_CHECK_FAILED)


@dataclass(frozen=True)
class Saved:
    """What saving came to: what to say of it, and the errors of what could not be saved."""

    lines: tuple[str, ...] = ()
    failed: tuple[Exception, ...] = ()


def save_accepted(
    made: Conversion | Folding,
    opened: Opened,
    outputs: tuple[Path, ...],
    gates: Sequence[GateResult],
    *,
    proof: ProofOptions,
    overwrite: bool,
    delta: bool = False,
) -> Saved:
    """Saves if the outputs are as promised and no gate failed, or with ``--force``; a ``delta`` to folders. Prints nothing."""
    acceptable = made.acceptable and not any(gate.failed for gate in gates)
    if proof.dry_run or not (acceptable or proof.force):
        return Saved()
    from saconv_surgeon.saving.conversion_files import FILES
    from saconv_surgeon.saving.save import save

    lines: list[str] = []

    def save_to(path: Path) -> None:
        notes = save(
            made,
            path,
            overwrite=overwrite,
            force=proof.force,
            checkpoint=opened.checkpoint,
            example_inputs=opened.inputs,
            program=opened.program,
            base="reference" if delta and path.suffix not in FILES else "whole",
        )
        lines.extend((f"saved {path}", *notes))

    with process_kept():  # to export a model is to run it
        failed = attempted(partial(save_to, path) for path in outputs)
    return Saved(tuple(lines), tuple(failed))


def conclude(
    made: Conversion | Folding,
    saved: Saved,
    gates: Sequence[GateResult],
    *,
    proof: ProofOptions,
    strict: bool,
    quiet: bool,
    hints: Sequence[str] = (),
) -> None:
    """Says what was saved, and ``hints`` if all was; exits with 1 if a check failed.

    Raises:
        SurgeonError: Something could not be saved.
    """
    for line in (*saved.lines, *(hints if saved.lines and not saved.failed else ())):
        say(line, quiet)
    if saved.failed:
        for error in saved.failed[1:]:
            say(str(error), quiet=False)
        raise saved.failed[0]
    kept = "saved all the same (--force)" if saved.lines else "nothing was saved"
    if not made.acceptable:
        fail(f"the outputs moved: {kept}", EXIT_CHECK_FAILED)
    fail_if_gates_failed(gates, kept)
    if made.before is not None and made.after is not None:
        check_counted(strict, made.before, made.after)
