"""Scores from a file, whichever score they are of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saconv_surgeon.planning.scores.gains import Gains, SumOfGains
from saconv_surgeon.planning.scores.overlapping import OverlappingGains


def gains_from_dict(data: Mapping[str, Any]) -> Gains:
    """What ``to_dict`` of some gains gave.

    Raises:
        ArtefactError: The data are damaged, or not those of gains.
    """
    return OverlappingGains.from_dict(data) if "effects" in data else SumOfGains.from_dict(data)
