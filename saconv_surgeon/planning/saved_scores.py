"""Scores and prices in a file, so that another budget for the same model does not need them again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from saconv_surgeon._version import __version__
from saconv_surgeon.errors import ArtefactError, ModelError, UsageError
from saconv_surgeon.planning.scores.gains import Gains
from saconv_surgeon.planning.scores.saved import gains_from_dict
from saconv_surgeon.records import SCORES_SCHEMA, from_dict, to_dict, unique_keys
from saconv_surgeon.records.budgeted_plan import Price
from saconv_surgeon.records.input_files import read_json
from saconv_surgeon.saving.atomic import write_text

Prices = Mapping[str, Mapping[str, Price]]


@dataclass(frozen=True)
class Subject:
    """What scores and prices are of. ``timing`` says on what machine and with which settings prices were measured."""

    fingerprint: str
    inputs: tuple[tuple[int, ...], ...]
    candidates: Mapping[str, tuple[str, ...]]
    score: str
    seed: int
    timing: str


@dataclass(frozen=True)
class SavedScores:
    """The contents of a file; a part that is not there yet is None. ``factors`` calibrate the sum of the prices."""

    subject: Subject
    gains: Gains | None = None
    prices: Prices | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Writes the file, which appears whole.

        Raises:
            UsageError: It cannot be written.
        """
        content = {
            "schema": SCORES_SCHEMA,
            "tool_version": __version__,
            "subject": to_dict(self.subject),
            "gains": None if self.gains is None else self.gains.to_dict(),
            "prices": None if self.prices is None else to_dict(self.prices),
            "extra": to_dict(self.extra),
        }
        try:
            write_text(path, json.dumps(content, allow_nan=False) + "\n")
        except ModelError as error:
            raise UsageError(f"the scores cannot be kept: {error}") from error


def read_scores(path: Path, subject: Subject) -> SavedScores:
    """What ``path`` has of ``subject``: nothing if there is no such file. Prices of another machine are left out.

    Raises:
        UsageError: The scores in the file are of something else; says of what.
        ArtefactError: The file does not hold scores.
    """
    if not path.exists():
        return SavedScores(subject)
    try:
        content = read_json(path, unique_keys)
        if content["schema"] != SCORES_SCHEMA:
            raise ArtefactError(f"{path} has schema {content['schema']!r}; scores have {SCORES_SCHEMA!r}")
        found = from_dict(Subject, content["subject"])
        gains = None if content["gains"] is None else gains_from_dict(content["gains"])
        prices = from_dict(_Priced, {"prices": content["prices"]}).prices
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtefactError(f"{path} does not hold scores of this program ({error}); give another name") from error
    different = [
        name for name in asdict(subject) if name != "timing" and getattr(found, name) != getattr(subject, name)
    ]
    if different:
        raise UsageError(
            f"{path} has scores of something else: another {' and another '.join(_said(name) for name in different)}; give "
            "another name, or remove the file"
        )
    same = found.timing == subject.timing
    return SavedScores(subject, gains, prices if same else None, content.get("extra") or {} if same else {})


@dataclass(frozen=True)
class _Priced:
    prices: Mapping[str, Mapping[str, Price]] | None


def _said(name: str) -> str:
    return {
        "fingerprint": "model or other weights",
        "inputs": "size of the inputs",
        "candidates": "choice of targets",
    }.get(name, name)
