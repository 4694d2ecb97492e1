"""Settings in files that a library builds a model from: none may ask for more than there is time and memory for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from saconv_surgeon.errors import ModelError
from saconv_surgeon.records.input_files import NotReadableError, read_json

LARGEST_NUMBER = 1 << 24
MOST_LAYERS = 4096
COUNTS = re.compile(r".*(layers|depths?|blocks|stages|repeats)$")
"""Settings that say how many parts are made, one after the other."""


def check_settings(file: Path) -> None:
    """Checks the JSON of a model's configuration before a library reads it.

    Raises:
        ModelError: It cannot be read, or has a number beyond reason.
    """
    try:
        content = read_json(file)
    except (NotReadableError, ValueError, OSError) as error:
        raise ModelError(f"{file} is not a readable configuration: {error}; give the folder of a model") from error
    for name, value in _numbers(content):
        most = MOST_LAYERS if COUNTS.fullmatch(name) else LARGEST_NUMBER
        if abs(value) > most:
            raise ModelError(f"{file} has {name!r:.80} = {value:.6g}, more than any model: at most {most} is read")


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _numbers(item, str(key))
    elif isinstance(value, list):
        for item in value:
            yield from _numbers(item, name)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield name, value
