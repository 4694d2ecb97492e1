"""``Goal``: what one convolution is to become, ready to be made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from saconv_surgeon.convs.targets.known_targets import find_target
from saconv_surgeon.convs.targets.target import Target


@dataclass(frozen=True)
class Goal:
    """A target with the values of all its options."""

    target: Target
    options: Mapping[str, Any]

    @classmethod
    def of(cls, name: str, options: Mapping[str, str]) -> Self:
        """The target called ``name`` with ``options`` as the user writes them.

        Raises:
            UsageError: There is no such target, or it does not have an option.
        """
        target = find_target(name)
        return cls(target, target.parse(options))

    def started(self, init: str) -> Self:
        """The same, for a target that cannot equal the convolution: its layer is initialized by ``init``."""
        return replace(self, options={**self.options, "init": init})

    @property
    def written(self) -> dict[str, str]:
        """All options as a plan records them."""
        return self.target.written(self.options)
