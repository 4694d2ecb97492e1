"""What a user asks a library of models for, and what the libraries' entries have in common."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import nn

from saconv_surgeon.errors import ModelError

FALLBACK_SIZE = 224
DETECTION_SIZE = 640
FEWEST_FOLDED = 12
"""Channels of 2×2 pixels in colour."""


@dataclass(frozen=True)
class Order:
    """What the user asked a library for: ``name(*args, **kwargs)``."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()
    pretrained: bool = False
    trust: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments."""
        return dict(self.kwargs)


@dataclass(frozen=True)
class Library:
    """One library: its package, the extra that installs it, how it makes a model, and what that model is usually run on.

    ``inputs`` gets the model and the order that it was made by, which is None for a model that came out of a file.
    """

    package: str
    extra: str
    make: Callable[[ModuleType, Order], nn.Module]
    inputs: Callable[[nn.Module, Order | None], Any]


def unknown(name: str, known: Iterable[str], prefix: str) -> ModelError:
    """The error for a name that the library at ``prefix`` does not know, with names like it."""
    close = difflib.get_close_matches(name, list(known), n=3)
    return ModelError(
        f"{prefix} has no model {name!r}"
        + (f" (near: {', '.join(map(repr, close))})" if close else "; see its own list")
    )


def channels_of(model: nn.Module, order: Order | None, option: str, usual: int) -> int:
    """How many channels an image for ``model`` has: as asked for; for a model from a file, what its first convolution takes.

    That says nothing if the model first folds pixels into channels, which are then twelve or more.
    """
    if order is not None:
        return int(order.options.get(option, usual))
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups == 1), None)
    return first.in_channels if first is not None and first.in_channels < FEWEST_FOLDED else usual


def image(*shape: int) -> torch.Tensor:
    """Normal random values, the same every time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))
