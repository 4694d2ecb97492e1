"""``inspect --safety``: looks through a file without loading it."""

from __future__ import annotations

from pathlib import Path

import click

from saconv_surgeon.cli.output import deliver
from saconv_surgeon.cli.result_options import ResultOptions, TalkOptions
from saconv_surgeon.cli.streams import EXIT_CHECK_FAILED, fail
from saconv_surgeon.cli.takes import is_given
from saconv_surgeon.errors import UsageError

MEANT = {"model", "safety", "reports", "json_to", "quiet", "verbose"}
"""The options that mean something when nothing is loaded."""


def look_through(file: str, result: ResultOptions, talk: TalkOptions) -> None:
    """Reports what ``file`` wants; exits with 1 if it does not load without ``--trust``.

    Raises:
        UsageError: An option was given that says how to load a model.
        ModelError: There is no such file, or it cannot be read.
    """
    context = click.get_current_context()
    besides = [
        p.opts[0] for p in context.command.params if p.name not in MEANT and p.name and is_given(context, p.name)
    ]
    if besides:
        raise UsageError(f"--safety loads nothing, and {', '.join(besides)} would say how; leave it out")
    from saconv_surgeon.models.loading.file_safety import safety_of
    from saconv_surgeon.report.commands.safety import safety_report, verdict
    from saconv_surgeon.report.sarif import sarif

    record = safety_of(Path(file))
    deliver(result, talk, sarif(record), safety_report(record))
    if record.findings:
        fail(verdict(record), EXIT_CHECK_FAILED)
