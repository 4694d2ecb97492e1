"""Budgets: ``latency<1.3x``, ``parameters<+2M``, ``macs<6G``. The figures and units are those of ``--fail-if``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from saconv_surgeon.comparing.gates import FORM, OTHER_NAMES, UNITS
from saconv_surgeon.errors import UsageError
from saconv_surgeon.records.budgeted_plan import Budget

TIMED: Mapping[str, str] = {
    "latency": "of the folded model",
    "trained_latency": "of the model as it is trained",
    "training": "of a training step",
}
"""Figures that are timed, in seconds, and of what."""
COUNTED: Mapping[str, str] = {
    "macs": "of the model as it is trained",
    "parameters": "of the model as it is trained",
    "peak_memory_bytes": "of one forward pass of the model as it is trained, with its weights",
    "training_memory": "at the peak of one training step, with weights and gradients, in bytes",
}
"""Figures that are counted, and of what."""
FIGURES = (*TIMED, *COUNTED)
BYTES = ("peak_memory_bytes", "training_memory")
OF_TIME, OF_BYTES = ("s", "ms", "us", "µs"), ("B", "KiB", "MiB", "GiB")
TOLERATED = 1.03
"""A promise about time is kept if what was found is at most so many times the limit."""
FORMS = '"latency<1.3x" for a ratio, "parameters<+2M" for an increase, "latency<20ms" for a value'


def parse_budget(text: str) -> Budget:
    """The budget in ``text``. ``latency<+30%`` and ``latency<130%`` are the ratio 1.3.

    Raises:
        UsageError: It is not a budget, there is no such figure, its unit is not one of the figure, or the original model itself
            is beyond it by definition (a ratio below 1, an increase below 0).
    """
    found = FORM.match(text)
    if found is None:
        raise _wrong(text, f"is not a budget; write {FORMS}")
    name, comparison, written, unit = found.groups()
    if comparison.startswith(">"):
        raise _wrong(text, f"is a lower limit, and a budget is an upper one; write {name}<{written}{unit}")
    figure = OTHER_NAMES.get(name, name)
    if figure not in FIGURES:
        raise _wrong(text, f"names a figure that layers are not priced by; there are {', '.join(FIGURES)}")
    try:
        number = float(written)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _wrong(text, f"has no number that can be read; write {FORMS}")
    increases = written.startswith(("+", "-"))
    if unit in ("x", "×", "%"):
        return _as_ratio(text, figure, number, unit, increases)
    _check_unit(text, figure, number, unit)
    if increases and number < 0:
        raise _wrong(
            text, "asks for less than the original model has, and conversion adds; give an increase of 0 or more"
        )
    return Budget(text.strip(), figure, number * UNITS[unit], "increase" if increases else "value")


def _as_ratio(text: str, figure: str, number: float, unit: str, increases: bool) -> Budget:
    if increases and unit != "%":
        raise _wrong(
            text, f"is both an increase and a ratio; write {figure}<{1 + abs(number):g}x or {figure}<{number:+g}%"
        )
    ratio = number if unit != "%" else 1 + number / 100 if increases else number / 100
    if ratio < 1:
        raise _wrong(
            text, f"asks for {ratio:g} times the original model, and conversion adds; give a ratio of 1.0x or more"
        )
    return Budget(text.strip(), figure, ratio, "ratio")


def _check_unit(text: str, figure: str, number: float, unit: str) -> None:
    if unit not in UNITS:
        raise _wrong(text, f"has the unit {unit!r}, which is not known; write {FORMS}")
    if figure in TIMED and unit not in OF_TIME:
        raise _wrong(text, f"is about time; write {figure}<{abs(number):g}x for a ratio, or give s, ms or us")
    if figure not in TIMED and unit in (*OF_TIME, *(() if figure in BYTES else OF_BYTES)):
        raise _wrong(text, f"gives {figure} in {unit}; write a number with k, M, G or T, or x for a ratio")


def _wrong(text: str, why: str) -> UsageError:
    return UsageError(f"--budget {text.strip()!r} {why}")


@dataclass(frozen=True)
class Allowance:
    """How much a figure of the model may grow, in its own units: seconds, parameters, MACs, bytes."""

    budget: Budget
    original: float
    added: float

    @property
    def limit(self) -> float:
        """What the figure of the whole model may be."""
        return self.original + self.added

    def in_units(self, value: float) -> float:
        """A figure of the whole model in the units of the budget."""
        if self.budget.kind == "ratio":
            return value / self.original if self.original else math.inf if value else 1.0
        return value - self.original if self.budget.kind == "increase" else value

    def keeps(self, value: float) -> bool:
        """Whether a figure of the whole model keeps the promise: within the limit, or, of a time, at most 3 % above it.

        The 3 % are of the whole figure, also if the budget is an increase.
        """
        return value <= self.limit * (TOLERATED if self.budget.figure in TIMED else 1)


def allowances(budgets: Iterable[Budget], original: Mapping[str, float]) -> tuple[Allowance, ...]:
    """What each budget leaves to conversion, given the figures of the original model.

    Raises:
        UsageError: The original model itself is above a budget that is a value.
    """
    return tuple(_allowance(budget, original[budget.figure]) for budget in budgets)


def _allowance(budget: Budget, own: float) -> Allowance:
    added = {"ratio": own * (budget.limit - 1), "increase": budget.limit, "value": budget.limit - own}[budget.kind]
    if added < 0:
        raise _wrong(
            budget.text,
            f"is below what the original model has, {written(budget.figure, own)}; give more than that",
        )
    return Allowance(budget, own, added)


def written(figure: str, value: float) -> str:
    """A figure with its unit, for people."""
    if figure in TIMED:
        return f"{value * 1e3:.4g} ms"
    for size, unit in (
        ((1024.0**3, "GiB"), (1024.0**2, "MiB")) if figure in BYTES else ((1e9, "G"), (1e6, "M"), (1e3, "k"))
    ):
        if abs(value) >= size:
            return f"{value / size:.4g} {unit}"
    return f"{value:.4g}"
