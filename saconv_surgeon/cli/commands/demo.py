"""``saconv-surgeon demo``."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from saconv_surgeon.cli.commands.convert import convert
from saconv_surgeon.cli.streams import say
from saconv_surgeon.cli.takes import command, option_in

MODEL = "saconv_surgeon.cli.demo_model:build"


@command()
@option_in(
    "Save",
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Keep the conversion in this folder.  [default: it is not kept]",
)
@option_in(
    "Report", "--report", type=click.Path(path_type=Path), help="Also write the report: .html, .md, .csv or .svg."
)
@option_in("Report", "-q", "--quiet", is_flag=True, help="No report, only errors.")
def demo(output: Path | None, report: Path | None, quiet: bool) -> None:
    """Convert a small model that is installed with the package, prove it equal and price it: the main job, at once."""
    arguments = [MODEL, *(["--dry-run"] if output is None else ["-o", str(output)])]
    arguments += [*(["--report", str(report)] if report else []), *(["--quiet"] if quiet else [])]
    say(f"$ saconv-surgeon convert {shlex.join(arguments)}", quiet)
    convert.main(arguments, prog_name="saconv-surgeon convert", standalone_mode=False)
    say("\nyour own: saconv-surgeon convert my_nets.py:build --input 1x3x224x224 -o out", quiet)
