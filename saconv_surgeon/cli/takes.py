"""Groups of options as frozen dataclasses: each field is an option, and a command takes the whole group as one argument.

::

    @dataclass(frozen=True)
    class TalkOptions:
        SECTION: ClassVar = "Report"
        quiet: bool = option("-q", "--quiet", is_flag=True, help="No report, only errors.")

    @click.command()
    @takes(talk=TalkOptions)
    def env(talk: TalkOptions) -> None: ...
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import Field, field, fields
from typing import Any, NamedTuple, TypeVar

import click
from click.core import ParameterSource

from saconv_surgeon.cli.help_sections import SectionedCommand, SectionedOption

F = TypeVar("F", bound=Callable[..., Any])
DECLARED = "click"


class Declared(NamedTuple):
    """What ``click.option`` is called with."""

    names: tuple[str, ...]
    settings: Mapping[str, Any]


def option(*names: str, before: tuple[Declared, ...] = (), **settings: Any) -> Any:
    """A field of a group: ``names`` and ``settings`` as for ``click.option``.

    Args:
        *names: As for ``click.option``; ``section``, where ``--help`` shows it, is the group's unless it is given.
        before: Options without a field of their own, shown before this one.
        **settings: As for ``click.option``.
    """
    return field(metadata={DECLARED: (*before, Declared(names, settings))})


def takes(**groups: type[Any]) -> Callable[[F], F]:
    """Gives a command the options of each group; it gets them as an argument of the name that is given here."""

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def run(*args: Any, **kwargs: Any) -> Any:
            for name, group in groups.items():
                kwargs[name] = group(**{f.name: kwargs.pop(f.name) for f in fields(group)})
            return command(*args, **kwargs)

        decorated: Any = run
        for group in reversed(groups.values()):
            for each in reversed(fields(group)):
                decorated = _declare(each, decorated, group.SECTION)
        return decorated

    return decorate


def parameters_of(group: type[Any]) -> set[str]:
    """The names of a group's parameters, also of those without a field."""
    declared = [d for each in fields(group) for d in each.metadata[DECLARED][:-1]]
    return {each.name for each in fields(group)} | {d.names[0].removeprefix("--").replace("-", "_") for d in declared}


def _declare(each: Field[Any], command: Any, section: str) -> Any:
    *before, own = each.metadata[DECLARED]
    settings = {"section": section, "cls": SectionedOption}
    command = click.option(*own.names, each.name, **settings | own.settings)(command)
    for declared in reversed(before):
        command = click.option(*declared.names, **settings | declared.settings)(command)
    return command


def option_in(section: str, *names: str, **settings: Any) -> Callable[[F], F]:
    """``click.option`` for an option that belongs to no group; ``--help`` shows it in ``section``."""
    return click.option(*names, cls=SectionedOption, section=section, **settings)


def command() -> Callable[[Callable[..., Any]], click.Command]:
    """``click.command`` whose ``--help`` is in sections."""
    return click.command(cls=SectionedCommand)


def is_given(context: click.Context, name: str) -> bool:
    """Whether the user typed the option that is called ``name``."""
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def finite(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """Refuses nan and infinity, which ranges let through."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a number to work with")
    return value
