"""What a conversion target is. Another package can offer one; see ``docs/targets.md``.

Targets are read for ``--help`` too, so neither this module nor those that define one import torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from saconv_surgeon.errors import UsageError
from saconv_surgeon.records import CallShape, ConvArguments, ConvSite

if TYPE_CHECKING:
    from torch import nn

    from saconv_surgeon.convs.converted import ConvertedLayer


@dataclass(frozen=True)
class Reason:
    """Why a convolution is refused: ``code`` for machines, ``text`` for people."""

    code: str
    text: str


@dataclass(frozen=True)
class Cost:
    """What converting one convolution adds; negative if it saves. ``macs`` is for all its calls."""

    parameters: int
    macs: int


@dataclass(frozen=True)
class Option:
    """An option of a target. ``parse`` makes a value of what the user typed, or raises ``ValueError``.

    A plan records ``str`` of the value, which must parse to the same value. ``help`` says what is needed. ``unwritten`` leaves
    the default out of plans: they mean what they meant before there was this option.
    """

    default: str
    parse: Callable[[str], Any]
    help: str
    unwritten: bool = False


Options = Mapping[str, Any]
"""Parsed options by name. ``refuses`` and ``added`` get ``allow_depthwise`` as well."""


def _nothing_to_note(site: ConvSite, options: Options) -> str | None:
    return None


@dataclass(frozen=True)
class Target:
    """A layer that can take the place of an ``nn.Conv2d``.

    Args:
        name: What ``--to`` calls it.
        layer: Its class, or :func:`imported_later`.
        summary: One line about it.
        refuses: ``refuses(conv, shapes, options)`` says why a convolution called at ``shapes`` cannot become this layer, or None.
        added: ``added(arguments, shapes, options)`` is what one converted convolution costs more than the plain one.
        options: Its options, passed to ``layer.from_conv2d`` as keywords.
        inits: Empty if a new layer computes what its convolution computes. Otherwise the ways to initialize it, the default
            first; ``from_conv2d`` gets one as ``init``: ``"project"`` if ``fit`` follows.
        absorbs: Whether the layer can take the norm and the activation after it as ``bn`` and ``act``.
        norm_inside: Whether the norm becomes a part of the layer wherever it can, as in a block whose branches have norms of
            their own; ``absorbs`` is then true.
        after_folding: As ``added``, of the layer that ``fold`` makes; None if it is not known, as for one that stays what it is.
        inexact: Why a new layer equals its convolution only up to rounding, if so.
        note: ``note(site, options)`` says what the layer cannot do in this place, although it is not refused; or None.
    """

    name: str
    layer: type[ConvertedLayer]
    summary: str
    refuses: Callable[[nn.Conv2d, Iterable[CallShape], Options], Reason | None]
    added: Callable[[ConvArguments, Iterable[CallShape], Options], Cost]
    options: Mapping[str, Option] = field(default_factory=dict)
    inits: tuple[str, ...] = ()
    absorbs: bool = False
    norm_inside: bool = False
    after_folding: Callable[[ConvArguments, Iterable[CallShape], Options], Cost] | None = None
    inexact: str | None = None
    note: Callable[[ConvSite, Options], str | None] = _nothing_to_note

    @property
    def preserves(self) -> bool:
        """Whether a converted model computes what the original does."""
        return not self.inits

    def parse(self, given: Mapping[str, str]) -> dict[str, Any]:
        """The values of all options; an option that is not given has its default.

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

    def written(self, values: Options) -> dict[str, str]:
        """The values of all options as a plan records them; :meth:`parse` reads them again."""
        texts = {name: str(values[name]) for name in self.options}
        return {
            n: text for n, text in texts.items() if not (self.options[n].unwritten and text == self.options[n].default)
        }


class _Later(str):
    """The place of a class, as ``package.module:Class``."""


def imported_later(place: str) -> Any:
    """A layer's class for :class:`Target`, imported from ``package.module:Class`` when it is read first."""
    return _Later(place)


class _LayerClass:
    """What the attribute ``layer`` of a target gives: always the class."""

    def __get__(self, target: Target | None, owner: type[Target]) -> Any:
        if target is None:
            return self
        found = vars(target)["layer"]
        if isinstance(found, _Later):
            module, _, name = found.partition(":")
            found = vars(target)["layer"] = getattr(importlib.import_module(module), name)
        return found

    def __set__(self, target: Target, layer: object) -> None:
        vars(target)["layer"] = layer


Target.layer = _LayerClass()  # type: ignore[assignment]
