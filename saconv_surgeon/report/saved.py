"""Comparing two saved reports, without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from saconv_surgeon.errors import UsageError
from saconv_surgeon.records import Diff, Profile, StructureChange, from_dict


def diff_of_reports(a: Path, b: Path) -> Diff:
    """The difference of two JSON reports: of ``profile``, or of ``convert``, which counts as its profile afterwards.

    Raises:
        UsageError: One of them is no such report.
    """
    first, second = read_profile(a), read_profile(b)
    left, right = ({layer.path: layer.type for layer in p.layers} for p in (first, second))
    changes = [
        StructureChange(
            path,
            "removed" if path not in right else "added" if path not in left else "changed",
            left.get(path),
            right.get(path),
        )
        for path in dict.fromkeys([*left, *right])
        if left.get(path) != right.get(path)
    ]
    return Diff(first, second, tuple(changes))


def read_profile(path: Path) -> Profile:
    """The profile in a saved report.

    Raises:
        UsageError: The file is no report.
    """
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not readable as JSON: {error}") from error
    if isinstance(content, dict) and content.get("after"):
        content = content["after"]
    try:
        return from_dict(Profile, content)
    except ValueError as error:
        raise UsageError(f"{path} is no report of profile or convert ({error}); make one with --json {path}") from error
