"""Options about budgets: what to promise, what to learn gains from, and how. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, get_args

import click

from saconv_surgeon.cli.takes import option
from saconv_surgeon.cli.timing_options import TimingOptions
from saconv_surgeon.errors import UsageError
from saconv_surgeon.records import ScoreName

SECONDS = 4.0
FORMS = '"latency<1.3x", "trained_latency<1.5x", "macs<1.25x" or "parameters<+2M"'


@dataclass(frozen=True)
class Asked:
    """What ``--budget`` said: seconds to measure for, and conditions that a plan has to meet."""

    seconds: float = SECONDS
    conditions: tuple[str, ...] = ()
    in_seconds: bool = False


def _asked(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> Asked:
    """A number is a time to measure for, as with the other commands; anything else is a condition."""
    numbers = [seconds for seconds in map(_number, value) if seconds is not None]
    if len(numbers) > 1:
        raise click.BadParameter("more than one number of seconds was given")
    if numbers and not 0.1 <= numbers[0] < float("inf"):
        raise click.BadParameter(f"{numbers[0]:g} seconds measure nothing; give at least 0.1")
    return Asked(
        numbers[0] if numbers else SECONDS, tuple(text for text in value if _number(text) is None), bool(numbers)
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


@dataclass(frozen=True)
class BudgetedTimingOptions(TimingOptions):
    """As :class:`TimingOptions`, for commands that can be given a budget."""

    budget: Any = option(
        "--budget",
        section="Choose for a budget",
        multiple=True,
        callback=_asked,
        metavar="CONDITION|SECONDS",
        help=f"What the chosen layers may cost: {FORMS}; repeatable. latency is that of the folded model. A number alone is how "
        f"long to measure.  [default: {SECONDS:g}]",
    )

    @property
    def seconds(self) -> float:
        """See :class:`TimingOptions`."""
        asked: Asked = self.budget
        return asked.seconds

    def says_how_to_measure(self, field: str) -> bool:
        """See :class:`TimingOptions`: a condition is not about the measurement."""
        asked: Asked = self.budget
        return super().says_how_to_measure(field) and (field != "budget" or asked.in_seconds)

    def check_plain(self) -> None:
        """Checks that the model is to be timed as it is.

        Raises:
            UsageError: It is to be timed in another way, which prices of layers alone do not know.
        """
        others = {"--batch": self.batches, "--autocast": self.autocast, "--compile": self.compiled}
        name = next((name for name, value in others.items() if value), None)
        if name is not None:
            raise UsageError(
                f"a budget is about the model as it is run on its inputs; {name} does not go together with it: give the batch "
                "with --input, the dtype with --dtype"
            )

    @property
    def conditions(self) -> tuple[str, ...]:
        """What a plan has to meet."""
        asked: Asked = self.budget
        return asked.conditions


@dataclass(frozen=True)
class GainOptions:
    """What gains are learnt from, and how."""

    SECTION: ClassVar = "Choose for a budget"

    loss: str | None = option(
        "--loss",
        metavar="FILE:NAME",
        help="file.py:loss, a function loss(output, batch) that returns a scalar tensor; batch is what --data gave.",
    )
    step: str | None = option(
        "--step",
        metavar="FILE:NAME",
        help="file.py:train_step, a function train_step(model, batch) that returns the loss: the probe trains by it.",
    )
    score: ScoreName | None = option(
        "--score",
        type=click.Choice(get_args(ScoreName)),
        help="How gains are estimated: promise (a score test at the start), probe (a short training); depth, random and stages "
        "are baselines that look at no data.  [default: promise]",
    )
    scores: Path | None = option(
        "--scores",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Keep scores and prices in this file, and take them from there if they are of the same model: another budget then "
        "takes a second.",
    )

    def functions(self) -> tuple[Callable[..., Any] | None, Callable[..., Any] | None]:
        """The loss and the step; None for one that is not given."""
        from saconv_surgeon.models.loading.input_spec import make_function

        loss = "file.py:loss, a function loss(output, batch) that returns a scalar tensor"
        step = "file.py:train_step, a function train_step(model, batch) that returns the loss"
        return (
            None if self.loss is None else make_function("--loss", self.loss, loss),
            None if self.step is None else make_function("--step", self.step, step),
        )

    def check_unused(self) -> None:
        """Checks that no option is given that only a budget gives a meaning.

        Raises:
            UsageError: One is.
        """
        given = {"--loss": self.loss, "--step": self.step, "--score": self.score, "--scores": self.scores}
        name = next((name for name, value in given.items() if value is not None), None)
        if name is not None:
            raise UsageError(f"{name} is about choosing layers for a budget; give one, such as --budget {FORMS}")
