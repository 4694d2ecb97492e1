"""Plans in JSON files: written by ``--json`` or in the folder of a saved conversion, and perhaps edited since."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from saconv_surgeon.errors import ArtefactError
from saconv_surgeon.records import PLAN_SCHEMA, Plan, from_dict, unique_keys
from saconv_surgeon.records.input_files import read_json

PLAN, WEIGHTS, DELTA, REPORT = CONVERSION_FILES = (
    "plan.json",
    "model.safetensors",
    "delta.safetensors",
    "report.json",
)
"""The names of the files in the folder of a saved conversion; it has one of ``WEIGHTS`` and ``DELTA``."""
ARRIVING = ".saconv-surgeon.new"
"""A folder in that folder: files that are about to take the places of those beside it, and count as if they had."""


def conversion_file(folder: Path, name: str) -> Path:
    """Where a file of a saved conversion is: beside the others, unless the process that was replacing it has been killed."""
    arriving = folder / ARRIVING / name
    return arriving if arriving.exists() else folder / name


def read_plan(path: Path) -> Plan:
    """The plan in a file, or in the folder that has it.

    Raises:
        ArtefactError: There is none, or it does not follow the schema.
    """
    return plan_of(read_plan_file(path), path)


def read_plan_file(path: Path) -> dict[str, Any]:
    """The JSON object of a plan, a conversion or an inspection; ``path`` is the file or the folder that has it.

    Raises:
        ArtefactError: There is none, or it cannot be read.
    """
    file = conversion_file(path, PLAN) if path.is_dir() else path
    if file.is_dir() or not file.exists():
        raise ArtefactError(
            f"{path} is not a saved conversion: there is no {file.name} (was it interrupted while saving?)"
        )
    try:
        content = read_json(file, unique_keys)
    except (ValueError, OSError, RecursionError, MemoryError) as error:
        raise ArtefactError(f"{file} is not readable as JSON: {error}") from error
    if not isinstance(content, dict) or "sites" not in content:
        raise ArtefactError(f"{file} is not a plan: it has no list of sites")
    return content


def is_delta(content: Mapping[str, Any]) -> bool:
    """Whether what ``read_plan_file`` gave is of a conversion whose folder leaves to the original what that has."""
    files = content.get("files")
    return isinstance(files, dict) and DELTA in files


def plan_of(content: dict[str, Any], source: Path) -> Plan:
    """The plan in what ``read_plan_file`` gave.

    Raises:
        ArtefactError: It does not follow the schema; names the field.
    """
    schema = str(content.get("schema", PLAN_SCHEMA))
    if schema.rpartition("/")[2] != "1":
        raise ArtefactError(f"{source} has schema {schema!r}, which this version does not read; it reads …/1")
    try:
        plan = from_dict(Plan, content)
    except (ValueError, RecursionError, OverflowError) as error:
        raise ArtefactError(f"{source} is not a plan: {error}") from error
    twice = [path for path, count in Counter(site.path for site in plan.sites).items() if count > 1]
    if twice:
        raise ArtefactError(f"{source} is not a plan: it has {twice[0]!r} twice")
    return plan
