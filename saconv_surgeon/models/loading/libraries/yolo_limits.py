"""YAML files of YOLO models: read once as a stream before anything is built of them, and refused if they ask for too much."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from saconv_surgeon.errors import ModelError, first_line
from saconv_surgeon.records.input_files import NotReadableError, read_bytes

LARGEST_FILE = 1 << 20
MOST_VALUES, DEEPEST = 50_000, 32
"""Of a file, aliases counted as often as they are used."""
MOST_REPEATS, MOST_LAYERS = 200, 2000
"""Of one layer, and altogether; the largest published model repeats a block 12 times."""
LARGEST_NUMBER = 1 << 17
"""Channels, classes, kernels. Not the size of a model: its parameters are at most the next."""
MOST_PARAMETERS = 1 << 32
LARGEST_MULTIPLE = 16.0
LARGEST_KERNEL = 64


def check_yaml(file: Path) -> None:
    """Checks the file without building anything of it.

    Raises:
        ModelError: It is not a regular file, is no YAML, or would take memory or time beyond reason.
    """
    yaml: Any = importlib.import_module("yaml")
    try:
        text = read_bytes(file, LARGEST_FILE).decode("utf-8", errors="ignore")
        _check_events(yaml.parse(text, Loader=yaml.SafeLoader), yaml)
        content = yaml.safe_load(text)
        if not isinstance(content, Mapping):
            raise NotReadableError("it holds no settings")
        for problem in _problems(content):
            raise NotReadableError(problem)
    except (NotReadableError, OSError, yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        raise ModelError(f"{file} is not a configuration that can be built: {first_line(error)}") from error


def _check_events(events: Iterator[Any], yaml: Any) -> None:
    """Counts what a file holds once its aliases are put in; nothing is put in."""
    open_anchors: list[tuple[str | None, int]] = []
    sizes: dict[str, int] = {}
    count = 0
    for event in events:
        name = getattr(event, "anchor", None)
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == name for anchor, _ in open_anchors):
                raise NotReadableError("it holds itself")
            count += sizes.get(str(name), 1)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            open_anchors.append((name, count))
            count += 1
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            anchor, before = open_anchors.pop()
            if anchor is not None:
                sizes[anchor] = count - before
        else:
            count += 1
        if count > MOST_VALUES or len(open_anchors) > DEEPEST:
            what = "more values" if count > MOST_VALUES else "deeper nesting"
            raise NotReadableError(f"it has {what} than any model")


def _problems(content: Mapping[str, Any]) -> Iterator[str]:
    scales = content.get("scales") or {}
    rows = list(scales.values()) if isinstance(scales, Mapping) else []
    depth = _largest([content.get("depth_multiple"), *(row[0] for row in rows if isinstance(row, list) and row)])
    width = _largest([content.get("width_multiple"), *(v for row in rows if isinstance(row, list) for v in row[1:2])])
    if max(depth, width) > LARGEST_MULTIPLE:
        yield f"it multiplies its depth or width by {max(depth, width):g}"
    for key in ("nc", "channels", "ch", "reg_max"):
        if _largest([content.get(key)]) > LARGEST_NUMBER:
            yield f"it has {key} = {content[key]:.6g}"
    layers = [*(content.get("backbone") or ()), *(content.get("head") or ())]
    total, before = 0.0, 3.0
    for layer in layers:
        if not isinstance(layer, list) or len(layer) != 4:
            continue
        repeats = _largest([layer[1]]) * max(depth, 1.0)
        total += max(repeats, 1.0)
        numbers = list(_numbers(layer[3]))
        if repeats > MOST_REPEATS or total > MOST_LAYERS:
            yield f"it repeats {str(layer[2])[:40]} {repeats:g} times"
        if any(number > LARGEST_NUMBER for number in numbers):
            yield f"{str(layer[2])[:40]} is given {max(numbers):.6g}"
        made = (numbers[0] if numbers else 1.0) * max(width, 1.0)
        kernel = min([n for n in numbers[1:2] if n <= LARGEST_KERNEL] or [1.0])
        if before * made * kernel**2 * max(repeats, 1.0) > MOST_PARAMETERS:
            yield f"{str(layer[2])[:40]} would have more than {MOST_PARAMETERS} parameters"
        if any(n > LARGEST_KERNEL for n in numbers[1:2]) and "Decoder" not in str(layer[2]) and "Conv" in str(layer[2]):
            yield f"{str(layer[2])[:40]} has a kernel of {numbers[1]:g} pixels"
        before = max(before, made)


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, str):  # Ultralytics reads arguments out of texts
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            literal = ast.literal_eval(value)
            yield from () if isinstance(literal, str) else _numbers(literal)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield abs(float(value)) if value == value else float("inf")


def _largest(values: list[Any]) -> float:
    return max((number for value in values for number in _numbers(value)), default=0.0)
