"""Comparing saved reports, without torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from saconv_surgeon.errors import UsageError
from saconv_surgeon.records import (
    Comparison,
    ConditionChange,
    Diff,
    FigureChange,
    Latency,
    Profile,
    StructureChange,
    from_dict,
)

TOTALS = (
    *("parameters", "trainable_parameters", "macs", "flops", "fvcore_flops", "activations", "ops", "bytes_moved"),
    "peak_memory_bytes",
)
LAYER_FIGURES = ("parameters", "macs", "flops", "activations")
SETTINGS = ("device", "batch", "dtype", "autocast", "channels_last", "compiled", "threads", "clock")
DECISIVE = ("device_name", "torch", "cuda", "cudnn", "driver", "platform", "python", "float32_matmul_precision")
"""What of the environment has to agree for latencies to be set beside each other, besides the settings."""
PASSING = ("load_1min", "clock_mhz")
"""What is different every time."""


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


def compared_with(earlier: Profile, now: Profile, report: str) -> Comparison:
    """``now`` against ``earlier``, which the file ``report`` holds."""
    before, after = _conditions(earlier), _conditions(now)
    changed = [name for name in dict.fromkeys([*before, *after]) if before.get(name) != after.get(name)]
    decisive = {*DECISIVE, *SETTINGS, "input"}
    return Comparison(
        report=report,
        model=earlier.model,
        totals=(
            *(_change(name, getattr(earlier, name), getattr(now, name)) for name in TOTALS),
            _change("latency_median_s", _median(earlier.latency), _median(now.latency)),
        ),
        layers=tuple(_layer_changes(earlier, now)),
        conditions=tuple(
            ConditionChange(
                name, *(None if value is None else str(value) for value in (before.get(name), after.get(name)))
            )
            for name in changed
            if name not in PASSING
        ),
        same_conditions=not decisive.intersection(changed),
    )


def _conditions(p: Profile) -> dict[str, Any]:
    measured = {name: getattr(p.latency, name) for name in SETTINGS} if p.latency is not None else {}
    return {**p.environment, **measured, "input": [list(shape) for shape in p.input_shapes]}


def _median(latency: Latency | None) -> float | None:
    return None if latency is None else latency.median_s


def _change(figure: str, before: float | None, after: float | None, path: str | None = None) -> FigureChange:
    ratio = after / before if before and after is not None else None
    return FigureChange(figure, before, after, ratio, path)


def _layer_changes(earlier: Profile, now: Profile) -> Iterator[FigureChange]:
    """Figures of layers that are not what they were; a layer that is in one profile only has None in the other."""
    left, right = ({layer.path: layer for layer in p.layers} for p in (earlier, now))
    for path in dict.fromkeys([*left, *right]):
        for name in LAYER_FIGURES:
            before, after = (getattr(side.get(path), name, None) for side in (left, right))
            if before != after:
                yield _change(name, before, after, path)


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
