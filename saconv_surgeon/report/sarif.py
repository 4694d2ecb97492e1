"""A look through a file as SARIF 2.1.0, which code scanners and their dashboards read."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from saconv_surgeon._version import __version__
from saconv_surgeon.records.safety import SAFETY_RULES, SAFETY_SCHEMA, Finding, Safety

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
HELP = "https://pypi.org/project/saconv-surgeon/"


def sarif(safety: Safety) -> dict[str, Any]:
    """The log of one run over one file. What SARIF has no place for stands in ``properties`` of the run."""
    driver = {
        "name": "saconv-surgeon",
        "version": __version__,
        "semanticVersion": _semantic(__version__),
        "rules": _rules(),
    }
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "columnKind": "unicodeCodePoints",
                "invocations": [{"executionSuccessful": True}],
                "artifacts": [
                    {"location": {"uri": _uri(safety.path)}, "length": safety.size_bytes, "roles": ["analysisTarget"]}
                ],
                "results": [_result(finding, safety) for finding in safety.findings],
                "properties": {
                    "schema": SAFETY_SCHEMA,
                    "format": safety.format,
                    "loads": safety.loads,
                    "models": safety.models,
                    "wants": list(safety.wants),
                },
            }
        ],
    }


def _rules() -> list[dict[str, Any]]:
    return [
        {
            "id": name,
            "shortDescription": {"text": f"{rule.seen[0].upper()}{rule.seen[1:]}."},
            "help": {"text": f"{rule.advice[0].upper()}{rule.advice[1:]}."},
            "defaultConfiguration": {"level": "error"},
        }
        for name, rule in SAFETY_RULES.items()
    ]


def _result(finding: Finding, safety: Safety) -> dict[str, Any]:
    place: dict[str, Any] = {"artifactLocation": {"uri": _uri(safety.path), "index": 0}}
    if finding.offset is not None and not finding.entry:
        place["region"] = {"byteOffset": finding.offset, "byteLength": 1}
    location: dict[str, Any] = {"physicalLocation": place}
    if finding.entry:
        location["logicalLocations"] = [
            {"name": finding.entry, "fullyQualifiedName": f"{finding.entry}@{finding.offset}"}
        ]
    return {
        "ruleId": finding.rule,
        "ruleIndex": list(SAFETY_RULES).index(finding.rule),
        "level": "error",
        "message": {"text": f"{finding.message[0].upper()}{finding.message[1:]}."},
        "locations": [location],
    }


def _uri(path: str) -> str:
    """A path as a reference: relative as it was given, absolute with a scheme."""
    place = Path(path)
    return place.as_uri() if place.is_absolute() else quote(place.as_posix(), errors="surrogateescape")


def _semantic(version: str) -> str:
    return ".".join([*version.split("+")[0].split("."), "0", "0"][:3])
