"""How long work reports what it is doing."""

from __future__ import annotations

from collections.abc import Callable

OnStep = Callable[[str, float], None]
"""Called with the name of the current step and the share of it that is done, 0 to 1."""


def silent(step: str, done: float) -> None:
    """Reports nothing."""
