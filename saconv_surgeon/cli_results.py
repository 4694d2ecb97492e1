"""What a command found, delivered: the report on the terminal and in files, the record as JSON, the gates."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saconv_surgeon.cli_talk import EXIT_CHECK_FAILED, fail, report_console, show, talk_console, write_json, write_whole
from saconv_surgeon.comparing.gates import Gate, evaluate
from saconv_surgeon.errors import UsageError
from saconv_surgeon.records import GateResult

if TYPE_CHECKING:
    from saconv_surgeon.report.delivery import Report


@dataclass(frozen=True)
class Wanted:
    """Where a command's result goes, and what it must satisfy."""

    json_to: str | None
    quiet: bool
    reports: tuple[Path, ...] = ()
    gates: tuple[Gate, ...] = ()

    @classmethod
    def of(cls, options: dict[str, Any]) -> Wanted:
        """From the options of a command; looked at before anything slow is done.

        Raises:
            UsageError: A report cannot be written where it is wanted.
        """
        wanted = cls(options["json_to"], options["quiet"], options["reports"], options["gates"])
        files = [path.resolve() for path in wanted.reports]
        files += [Path(wanted.json_to).resolve()] if wanted.json_to not in (None, "-") else []
        if len(set(files)) < len(files):
            raise UsageError("the same file was given twice with --report or --json")
        for path in wanted.reports:
            _check_report(path)
        inside = next((f for f in files if any(o.resolve() in f.parents for o in options.get("outputs") or ())), None)
        if inside is not None:
            raise UsageError(f"{inside} would lie inside a folder given with -o; put it beside that")
        return wanted

    def judge(self, record: dict[str, Any]) -> tuple[GateResult, ...]:
        """What each gate says of a record; one about a figure that the record does not have fails, and nothing is lost."""
        return tuple(_judged(gate, record) for gate in self.gates)

    def deliver(self, record: dict[str, Any], report: Report) -> None:
        """Prints the report and writes it and the record to where they are wanted."""
        out = report_console(self.json_to, self.quiet)
        show(out, report.terminal(out.width))
        write_json(record, self.json_to)
        for path in self.reports:
            write_whole(path, report.as_file(path.suffix.lower()), "--report")
            talk_console(self.quiet).print(f"report {path}", markup=False, highlight=False, soft_wrap=True)


def _judged(gate: Gate, record: dict[str, Any]) -> GateResult:
    try:
        return evaluate(gate, record)
    except UsageError as error:
        return GateResult(gate.text, None, failed=True, found=str(error))


def fail_where(results: Sequence[GateResult], besides: str | None = None) -> None:
    """Leaves with exit code 1 where a gate failed, and says which."""
    failed = [f'--fail-if "{r.gate}" failed: {r.found}' for r in results if r.failed]
    if failed:
        fail("\n".join([*failed, *([besides] if besides else [])]), EXIT_CHECK_FAILED)


def _check_report(path: Path) -> None:
    from saconv_surgeon.report.delivery import KINDS  # not for --help, which it would slow down

    if path.suffix.lower() not in KINDS:
        raise UsageError(f"--report {path} is of no known kind; its name ends in {', '.join(KINDS)}")
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        why = "is a folder" if path.is_dir() else f"cannot be written: is {path.parent} a folder that you may write to?"
        raise UsageError(f"--report {path} {why}")
