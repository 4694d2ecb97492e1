"""What a command says of its record, before it has a format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from saconv_surgeon.records import with_strings
from saconv_surgeon.report import human
from saconv_surgeon.report.blocks import Block
from saconv_surgeon.report.page import Page, Step

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

    def completed(self, steps: Sequence[Step], made_by: str) -> Report:
        """With what can be done next, and what made the report."""
        shown = tuple(Step(human.visible(step.purpose), visible_code(step.code)) for step in steps)
        page = replace(self.page, steps=shown, made_by=human.visible(made_by))
        return replace(self, page=page, raw=replace(self.raw, steps=tuple(steps), made_by=made_by))


def visible(record: R) -> R:
    """A copy of a record in which every name can be shown: its control characters are escapes."""
    changed: R = with_strings(record, human.visible)
    return changed


def visible_code(code: str) -> str:
    """Lines of code in which every name can be shown."""
    return "\n".join(map(human.visible, code.split("\n")))
