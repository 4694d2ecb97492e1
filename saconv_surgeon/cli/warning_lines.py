"""Warnings on the command line: those of this package in one line each, those of others as Python shows them, each once."""

from __future__ import annotations

import linecache
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from saconv_surgeon import errors
from saconv_surgeon.cli.streams import PACKAGE, complain
from saconv_surgeon.errors import visible, visible_lines

TORCH_CORE = "Triggered internally at"
"""In warnings of torch's C++ code, which Python takes for warnings of whoever called it."""


@contextmanager
def warnings_in_lines() -> Iterator[None]:
    """Inside, each text is shown once; afterwards Python shows warnings as before."""
    before, seen = warnings.showwarning, set[tuple[type[Warning], str]]()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        text = str(message)
        if (category, text) in seen:
            return
        seen.add((category, text))
        if file is None and _is_ours(category, text):
            complain(f"saconv-surgeon: warning: {' '.join(text.split())}\n")
        else:
            if line is None:
                line = linecache.getline(filename, lineno)
            shown = message if visible_lines(text) == text else visible_lines(text)
            before(shown, category, visible(filename), lineno, file, visible(line.strip()))

    warnings.showwarning = show
    try:
        yield
    finally:
        if warnings.showwarning is show:  # nobody has put another in its place
            warnings.showwarning = before


def _is_ours(category: type[Warning], text: str) -> bool:
    if category.__module__ == errors.__name__:
        return True
    return category is UserWarning and TORCH_CORE not in text and _raised_by().startswith(PACKAGE)


def _raised_by() -> str:
    """The file that called ``warnings.warn``; the one that a warning names is further up, with its user."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename in (__file__, warnings.__file__):
        frame = frame.f_back
    return frame.f_code.co_filename
