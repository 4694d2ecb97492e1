"""``saconv-surgeon env``."""

from __future__ import annotations

from saconv_surgeon.cli.result_options import JsonOption
from saconv_surgeon.cli.streams import report_console, show, write_json
from saconv_surgeon.cli.takes import command, takes


@command()
@takes(result=JsonOption)
def env(result: JsonOption) -> None:
    """Show versions, devices and optional packages: what a bug report needs."""
    from saconv_surgeon.profiling.environment import environment
    from saconv_surgeon.report.commands.env import environment_table
    from saconv_surgeon.report.formats.terminal import drawn

    facts = environment()
    if result.json_to is not None and result.json_to != "-":
        write_json(facts, result.json_to)
    out = report_console(result.json_to, quiet=False)
    show(out, drawn(environment_table(facts), out.width))
    if result.json_to == "-":
        write_json(facts, result.json_to)
