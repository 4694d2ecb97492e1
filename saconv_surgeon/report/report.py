"""What a command says of its record, before it has a format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from saconv_surgeon.records import with_strings
from saconv_surgeon.report import human
from saconv_surgeon.report.blocks import Block
from saconv_surgeon.report.page import Page

R = TypeVar("R")


@dataclass(frozen=True)
class Report:
    """The report of one command; ``saconv_surgeon.report.formats`` renders it.

    ``blocks`` gives the lines and tables for the terminal at a width. ``page`` is everything, for files. ``raw`` is the page with
    the names of the model as they are, control characters included.
    """

    blocks: Callable[[int], Sequence[Block]]
    page: Page
    raw: Page


def visible(record: R) -> R:
    """A copy of a record in which every name can be shown: its control characters are escapes."""
    changed: R = with_strings(record, human.visible)
    return changed
