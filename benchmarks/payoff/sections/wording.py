"""Sentences about differences: they say what an interval allows, and no more."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.payoff.tables import Results
from benchmarks.payoff.words import TASK_WORDS, run_tasks
from saconv_surgeon.comparing.paired_difference import Difference

Arm = tuple[str, str]
"""A recipe and an arm."""
TWIN, TWIN_2X, WIDER = (("adamw-x1", arm) for arm in ("twin", "twin-2x", "wider"))
ALL, CONTEXTS, BRANCHES = (("adamw-x1", arm) for arm in ("all", "contexts", "branches"))
ALL_3, CONTEXTS_3, BRANCHES_3 = (("adamw-x3", arm) for arm in ("all", "contexts", "branches"))


def verdict(found: Difference | None) -> str:
    """Better or worse if the interval excludes zero, otherwise that nothing was shown."""
    if found is None:
        return "not run"
    if found.half_width is None:
        return f"{found.text()}, one seed only"
    if not found.shown:
        return f"no difference shown ({found.text()})"
    return f"**{'better' if found.mean > 0 else 'worse'}** ({found.text()})"


def by_task(results: Results, find: Callable[[str], Difference | None]) -> str:
    """The verdict for each task that was run."""
    return "; ".join(f"{TASK_WORDS[task].short} {verdict(find(task))}" for task in run_tasks(results))


def against_untouched(results: Results, arm: Arm, size: str | None = None) -> str:
    """An arm against the untouched model, for each task."""
    return by_task(results, lambda task: results.gain(task, *arm, size))


def compared(results: Results, a: Arm, b: Arm) -> str:
    """``b`` against ``a``, for each task."""
    return by_task(results, lambda task: results.between(task, a, b))


def bullets(*lines: str) -> str:
    """A list."""
    return "\n".join(f"* {line}." for line in lines)
