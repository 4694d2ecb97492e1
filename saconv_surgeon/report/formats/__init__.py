"""The formats of a report: one file for each, and the table that ``--report`` and its help are made of."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from saconv_surgeon.errors import visible_lines

if TYPE_CHECKING:
    from saconv_surgeon.report.report import Report


class Format(NamedTuple):
    """A format: the module whose ``render`` makes the text of a file, and a remark for the help."""

    module: str
    remark: str = ""
    raw: bool = False
    """Whether names are data, which are written as they are; any other file is read by people, and nothing in it acts."""

    @property
    def render(self) -> Callable[[Report], str]:
        """Imported when it is needed: Jinja2 takes as long to import as all the rest."""
        render: Callable[[Report], str] = importlib.import_module(f"{__name__}.{self.module}").render
        return render if self.raw else lambda report: visible_lines(render(report))


FORMATS = {
    ".html": Format("html"),
    ".md": Format("markdown", "for a pull request"),
    ".csv": Format("csv", "the layers", raw=True),
    ".svg": Format("svg"),
}
"""By the suffix of the file."""
