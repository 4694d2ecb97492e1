"""What a user asks ``plan`` for, and whether all that it needs is there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saconv_surgeon.errors import UsageError
from saconv_surgeon.planning.budgets import parse_budget
from saconv_surgeon.records import Base, Mode, Timing
from saconv_surgeon.records.budgeted_plan import Budget, ScoreName
from saconv_surgeon.surgery.decisions import Selection

DEFAULT_SCORE: ScoreName = "promise"
NEED_DATA = ("promise", "probe")
"""Scores that look at data."""


@dataclass(frozen=True)
class Asked:
    """What the user wants: see :func:`saconv_surgeon.plan`."""

    budgets: tuple[Budget, ...]
    targets: tuple[str, ...]
    selection: Selection
    score: ScoreName
    scores_file: Path | None
    timing: Timing | None
    seed: int
    mode: Mode
    base: Base

    @classmethod
    def of(cls, budgets: str | Iterable[str], score: ScoreName | None, **rest: Any) -> Asked:
        """With budgets as they are written.

        Raises:
            UsageError: One is no budget, or there is none.
        """
        written = (budgets,) if isinstance(budgets, str) else tuple(budgets)
        if not written:
            raise UsageError('for which budget? give one, such as "latency<1.3x" or "parameters<+2M"')
        return cls(tuple(map(parse_budget, written)), score=score or DEFAULT_SCORE, **rest)


def check_needs(asked: Asked, data: Any, loss: Any, step: Any) -> None:
    """Checks that the score has what it learns from.

    Raises:
        UsageError: It does not.
    """
    if asked.score in NEED_DATA and data is None:
        raise UsageError(
            f"the score {asked.score!r} learns from data; give batches (--data) and a loss (--loss), or take one of the "
            "baselines: depth, random, stages"
        )
    if asked.score == "promise" and loss is None:
        raise UsageError("the score 'promise' needs a loss; give --loss file.py:loss, a function loss(output, batch)")
    if asked.score == "probe" and loss is None and step is None:
        raise UsageError("the score 'probe' trains; give a loss (--loss) or a training step (--step)")
