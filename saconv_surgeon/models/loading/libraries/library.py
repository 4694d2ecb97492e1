"""What a user asks a library of models for, and what the libraries' entries have in common."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch import nn

from saconv_surgeon.errors import ModelError


@dataclass(frozen=True)
class ModelRequest:
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

    ``inputs`` gets the model and the request that it was made by, None for a model from a file.
    """

    package: str
    extra: str
    make: Callable[[ModuleType, ModelRequest], nn.Module]
    inputs: Callable[[nn.Module, ModelRequest | None], Any]


def unknown(name: str, known: Iterable[str], prefix: str) -> ModelError:
    """The error for a name that the library at ``prefix`` does not know, with names like it."""
    close = difflib.get_close_matches(name, list(known), n=3)
    return ModelError(
        f"{prefix} has no model {name!r}"
        + (f" (near: {', '.join(map(repr, close))})" if close else "; see its own list")
    )
