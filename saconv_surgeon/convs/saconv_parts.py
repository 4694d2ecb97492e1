"""The parts of a switchable atrous convolution that a layer can do without: its contexts, or its wide branch and switch."""

from __future__ import annotations

from typing import Literal, get_args

Parts = Literal["all", "contexts", "branches"]
"""``contexts`` has no wide branch and no switch, ``branches`` has no contexts."""


def parse_parts(text: str) -> Parts:
    """``text`` if it names parts.

    Raises:
        ValueError: It does not.
    """
    for parts in get_args(Parts):
        if text == parts:
            return parts
    raise ValueError(f"there is no such choice; there is: {', '.join(get_args(Parts))}")


def has_contexts(parts: str) -> bool:
    """Whether a layer with these parts has a context before and after its convolution."""
    return parts != "branches"


def has_branches(parts: str) -> bool:
    """Whether a layer with these parts has a wide branch, with its ``weight_diff``, and a switch."""
    return parts != "contexts"
