"""The formats of a report: one file for each, and the table that ``--report`` and its help are made of."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from saconv_surgeon.report.report import Report


class Format(NamedTuple):
    """A format: the module whose ``render`` makes the text of a file, and a remark for the help."""

    module: str
    remark: str = ""

    @property
    def render(self) -> Callable[[Report], str]:
        """Imported when it is needed: Jinja2 takes as long to import as all the rest."""
        render: Callable[[Report], str] = importlib.import_module(f"{__name__}.{self.module}").render
        return render


FORMATS = {
    ".html": Format("html"),
    ".md": Format("markdown", "for a pull request"),
    ".csv": Format("csv", "the layers"),
    ".svg": Format("svg"),
}
"""By the suffix of the file."""
