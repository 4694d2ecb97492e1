"""The profiles of several candidate architectures."""

from __future__ import annotations

from dataclasses import dataclass

from saconv_surgeon.records.profile import Profile


@dataclass(frozen=True)
class ProfiledCandidate:
    """One candidate; ``profile`` is None if it could not be had, and ``error`` says why."""

    name: str
    profile: Profile | None
    error: str | None = None


@dataclass(frozen=True)
class ProfiledCandidates:
    """All of them, in the order in which they were given."""

    candidates: tuple[ProfiledCandidate, ...]
    schema: str = "saconv-surgeon/profiles/1"
