"""A report as SVG: what the terminal shows, as a picture."""

from __future__ import annotations

import io
import re

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from saconv_surgeon.report.formats import terminal
from saconv_surgeon.report.report import Report

WIDTH = 100
"""Columns."""
SVG = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
"""Rich's own format without the fonts that it would fetch from the network: every cell has its width, so any font will do."""


def render(report: Report) -> str:
    """The whole file."""
    out = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    out.print(terminal.render(report, WIDTH), highlight=False)
    return out.export_svg(title=f"saconv-surgeon {report.page.command}", code_format=SVG)
