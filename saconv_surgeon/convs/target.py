"""What a conversion target is. A package of its own can offer one; see ``docs/targets.md``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.errors import UsageError
from saconv_surgeon.records import CallShape, ConvArguments

Init = Literal["project", "calibrate", "random"]
"""Where a layer begins that cannot equal its convolution: with what it can express of the kernel, with a least-squares fit to
data, or with random weights.
"""


@dataclass(frozen=True)
class Reason:
    """Why a convolution is refused: ``code`` for machines, ``text`` for people."""

    code: str
    text: str


@dataclass(frozen=True)
class Cost:
    """What converting one convolution adds; negative where it saves. ``macs`` is for all its calls."""

    parameters: int
    macs: int


@dataclass(frozen=True)
class Option:
    """A setting of a target. ``parse`` makes a value of what the user typed, or raises ``ValueError``.

    ``str`` of the value is what a plan records, and parses to the same value.
    """

    default: str
    parse: Callable[[str], Any]
    help: str


Options = Mapping[str, Any]
"""Parsed options by name. Questions about single convolutions get ``allow_depthwise`` beside them."""


@dataclass(frozen=True)
class Target:
    """A layer that can take the place of an ``nn.Conv2d``.

    Args:
        name: What ``--to`` calls it.
        layer: Its class.
        summary: A line about it.
        refuses: ``refuses(conv, shapes, options)`` says why a convolution called at ``shapes`` cannot become this layer, or None.
        added: ``added(arguments, shapes, options)`` is what one converted convolution costs more than the plain one.
        options: The options it has, handed to ``layer.from_conv2d`` as keywords.
        inits: Empty for a layer that begins as the very function of its convolution. Else the starts that it offers, the default
            first; ``from_conv2d`` gets it as ``init``, and ``"project"`` where ``fit`` follows.
        absorbs: Whether the layer can take the norm and the activation behind it as ``bn`` and ``act``.
        inexact: Why a new layer equals its convolution only up to rounding, where it does.
    """

    name: str
    layer: type[ConvertedLayer]
    summary: str
    refuses: Callable[[nn.Conv2d, Iterable[CallShape], Options], Reason | None]
    added: Callable[[ConvArguments, Iterable[CallShape], Options], Cost]
    options: Mapping[str, Option] = field(default_factory=dict)
    inits: tuple[Init, ...] = ()
    absorbs: bool = False
    inexact: str | None = None

    @property
    def preserves(self) -> bool:
        """Whether a converted model computes what the original does."""
        return not self.inits

    def parse(self, given: Mapping[str, str]) -> dict[str, Any]:
        """The values of all options, those that are not given at their defaults.

        Raises:
            UsageError: An option that the target does not have, or a value that it does not take.
        """
        unknown = [name for name in given if name not in self.options]
        if unknown:
            has = ", ".join(self.options) or "none"
            raise UsageError(f"the target {self.name!r} has no option {unknown[0]!r}; it has: {has}")
        values = {}
        for name, option in self.options.items():
            text = str(given.get(name, option.default))
            try:
                values[name] = option.parse(text)
            except (ValueError, ZeroDivisionError) as error:
                raise UsageError(
                    f"{name} {text!r} of the target {self.name!r}: {error}; needed: {option.help}"
                ) from error
        return values
