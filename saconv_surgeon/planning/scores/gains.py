"""What scores answer: what sets of choices promise together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from saconv_surgeon.errors import ArtefactError
from saconv_surgeon.records.budgeted_plan import ScoreName
from saconv_surgeon.records.serialization import from_dict, to_dict

UNKNOWN = "this layer was not scored"


class Gains(Protocol):
    """What sets of choices promise together. A choice is the name of a candidate, by the path of its layer."""

    @property
    def name(self) -> ScoreName:
        """Of the score."""

    @property
    def unit(self) -> str:
        """Of the gains."""

    def of(self, chosen: Mapping[str, str]) -> float:
        """What all of ``chosen`` gain together; 0 for nothing. Choices whose gain is not known add nothing."""

    def beside(self, chosen: Mapping[str, str], path: str, name: str) -> float | None:
        """What ``name`` at ``path`` adds to the other choices in ``chosen``; what is chosen at ``path`` is left out.

        None if that is not known, see :meth:`why_unknown`. Below 0 if noise alone is added.
        """

    def why_unknown(self, path: str, name: str) -> str | None:
        """Why the gain of this candidate is not known; None if it is."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, which ``saved.gains_from_dict`` reads."""


@dataclass(frozen=True)
class SumOfGains:
    """Gains that do not overlap: those of the chosen candidates are added.

    ``gains`` and ``reasons`` are by path and by candidate; a candidate has either a gain or the reason why there is none.
    """

    name: ScoreName
    unit: str
    gains: Mapping[str, Mapping[str, float]]
    reasons: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def of(self, chosen: Mapping[str, str]) -> float:
        """See :class:`Gains`."""
        return sum((self.gains.get(path, {}).get(name, 0.0) for path, name in chosen.items()), 0.0)

    def beside(self, chosen: Mapping[str, str], path: str, name: str) -> float | None:
        """See :class:`Gains`."""
        return self.gains.get(path, {}).get(name)

    def why_unknown(self, path: str, name: str) -> str | None:
        """See :class:`Gains`."""
        if name in self.gains.get(path, {}):
            return None
        return self.reasons.get(path, {}).get(name, UNKNOWN)

    def to_dict(self) -> dict[str, Any]:
        """See :class:`Gains`."""
        data: dict[str, Any] = to_dict(self)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """From what :meth:`to_dict` gave.

        Raises:
            ArtefactError: It did not.
        """
        return read_record(cls, data)


def read_record(cls: Any, data: Any) -> Any:
    """A record of scores from plain data.

    Raises:
        ArtefactError: The data are not those of one.
    """
    try:
        return from_dict(cls, data)
    except ValueError as error:
        raise ArtefactError(f"these saved scores cannot be read: {error}; score again without --scores") from error
