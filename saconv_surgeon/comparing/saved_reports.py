"""Comparing saved reports, without torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from saconv_surgeon.comparing.aligning import align
from saconv_surgeon.comparing.part_tree import Part, tree_of
from saconv_surgeon.comparing.structure_changes import changes_of, layer_pairs
from saconv_surgeon.errors import UsageError, raised_as
from saconv_surgeon.records import (
    PROFILE_SCHEMA,
    Comparison,
    ConditionChange,
    Diff,
    FigureChange,
    Profile,
    from_dict,
)
from saconv_surgeon.records.input_files import read_json

KIND = PROFILE_SCHEMA.rpartition("/")[0]
TOTALS = (
    *(
        "parameters",
        "trainable_parameters",
        "buffers",
        "macs",
        "flops",
        "fvcore_flops",
        "activations",
        "ops",
        "bytes_moved",
    ),
    "peak_memory_bytes",
)
TRAINING = ("forward_s", "backward_s", "saved_bytes", "peak_memory_bytes")
LAYER_FIGURES = ("parameters", "macs", "flops", "activations")
SETTINGS = ("device", "batch", "dtype", "autocast", "channels_last", "compiled", "threads", "clock")
HARMLESS = ("saconv-surgeon", "fvcore")
"""What of the environment has nothing to do with how fast a model is."""
ALWAYS_DESCRIBED = ("Conv2d", "Linear", "BatchNorm2d")
"""Layers that say their settings in every report but the oldest."""
PASSING = ("load_1min", "clock_mhz")
"""What is different every time."""


def diff_of_reports(a: Path, b: Path) -> Diff:
    """The difference of two JSON reports: of ``profile``, or of ``convert``, which counts as its profile afterwards.

    Raises:
        UsageError: One of them is not such a report.
    """
    first, second = read_profile(a), read_profile(b)
    with raised_as(UsageError, f"{a} and {b} cannot be compared"):
        return _diff(first, second)


def _diff(first: Profile, second: Profile) -> Diff:
    described = all(layer.settings for p in (first, second) for layer in p.layers if layer.type in ALWAYS_DESCRIBED)
    matches = align(*(_tree(p, described) for p in (first, second)))
    pairs = layer_pairs(matches, *([layer.path for layer in p.layers] for p in (first, second)))
    return Diff(first, second, changes_of(matches), layers=pairs)


def _tree(p: Profile, described: bool) -> Part:
    """The parts that have a row; if an older report does not describe them, their size does."""
    return tree_of(
        (row.path, row.type, row.settings if described else text_of_size(row.parameters), "") for row in p.layers
    )


def text_of_size(parameters: int) -> str:
    """What stands for the settings of a layer of which only the size is known."""
    return f"{parameters:,} parameters" if parameters else ""


def compared_with(earlier: Profile, now: Profile, report: str) -> Comparison:
    """``now`` against ``earlier``, which the file ``report`` holds.

    Raises:
        UsageError: What the report says cannot be compared.
    """
    with raised_as(UsageError, f"{report} cannot be compared with"):
        return _compared_with(earlier, now, report)


def _compared_with(earlier: Profile, now: Profile, report: str) -> Comparison:
    before, after = _conditions(earlier), _conditions(now)
    changed = [name for name in dict.fromkeys([*before, *after]) if before.get(name) != after.get(name)]
    return Comparison(
        report=report,
        model=earlier.model,
        totals=(
            *(_change(name, getattr(earlier, name), getattr(now, name)) for name in TOTALS),
            *_time_changes(earlier, now),
        ),
        layers=tuple(_layer_changes(earlier, now)),
        conditions=tuple(
            ConditionChange(
                name, *(None if value is None else str(value) for value in (before.get(name), after.get(name)))
            )
            for name in changed
            if name not in PASSING
        ),
        same_conditions=not set(changed) - {*HARMLESS, *PASSING},
    )


def _conditions(p: Profile) -> dict[str, Any]:
    measured = {name: getattr(p.latency, name) for name in SETTINGS} if p.latency is not None else {}
    return {**p.environment, **measured, "input": [list(shape) for shape in p.input_shapes]}


def _time_changes(earlier: Profile, now: Profile) -> Iterator[FigureChange]:
    """The latencies of each batch size, and the training step if either report has one."""
    before, after = ({t.batch: t.median_s for t in p.all_latencies} for p in (earlier, now))
    for batch in dict.fromkeys([*before, *after]):
        label = "latency_median_s" if len({*before, *after}) < 2 else f"latency_batch_{batch}_median_s"
        yield _change(label, before.get(batch), after.get(batch))
    if earlier.training is not None or now.training is not None:
        for name in TRAINING:
            yield _change(f"training_{name}", getattr(earlier.training, name, None), getattr(now.training, name, None))


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
        UsageError: The file is not a report.
    """
    with raised_as(UsageError, f"{path} is not readable as JSON"):
        content: Any = read_json(path)
        json.dumps(content, ensure_ascii=False).encode()  # half a character is no text: no report can be written of it
    if isinstance(content, dict) and content.get("after"):
        content = content["after"]
    schema = content.get("schema", PROFILE_SCHEMA) if isinstance(content, dict) else PROFILE_SCHEMA
    if isinstance(schema, str) and schema.startswith(KIND) and schema != PROFILE_SCHEMA:
        raise UsageError(f"{path} is a {schema} of another version; this one reads {PROFILE_SCHEMA}")
    try:
        return from_dict(Profile, content)
    except (ValueError, RecursionError, OverflowError) as error:
        raise UsageError(
            f"{path} is not a report of profile or convert ({error}); make one with --json {path}"
        ) from error
