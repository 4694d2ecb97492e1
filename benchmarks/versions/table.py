"""``docs/versions.md``, made from the results of :mod:`benchmarks.versions.measure`.

python -m benchmarks.versions.table
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.versions.areas import AREAS, FAILED, PASSED, SKIPPED
from benchmarks.versions.environments import ENVIRONMENTS, ROOT, Environment
from benchmarks.versions.measure import AGAIN, RESULTS, SELECTIONS

PAGE = ROOT / "docs" / "versions.md"
NOT_RUN = "not run"
MOST_FAILURES = 12

INTRODUCTION = """# Versions of torch and Python

Made by `make versions`; do not edit. Each row is an environment of its own with nothing but the packages of that row: the oldest
torch that `pyproject.toml` admits, the one of `constraints.txt`, and the newest that was tried; each Python. In each of them the
tests ran as they are; what they assert does not depend on the version.
"""
COLUMNS = """A cell is the number of tests of that area that passed; a failure or a skip stands beside it, and what was skipped is
listed below with its reason. `benchmarks/versions/areas.py` says which tests belong to an area; one can belong to several.
"""
RUNS = {
    "suite": "`make test`: all tests but those that take minutes or need a GPU, a browser or models of libraries",
    "slow": "the slow tests of exported programs, ONNX files and compiled packages",
    "zoo": "models of torchvision, timm and Ultralytics: detectors, deformable convolutions and pairs to compare. All of "
    "`make zoo`, some three hundred models, runs on the versions of `constraints.txt`: [zoo.md](zoo.md)",
}


def page(results: dict[str, dict[str, Any]]) -> str:
    """The whole page, in Markdown. ``results`` by name of environment; one that is absent was not run."""
    parts = [INTRODUCTION, *_suite_table(results), COLUMNS, *_area_table(results), *_runs(), *_details(results)]
    return "\n".join(parts)


def _suite_table(results: dict[str, dict[str, Any]]) -> list[str]:
    lines = [
        "| torch | Python | tests passed | failed | skipped | run | torchvision |",
        "|---|---|---:|---:|---:|---|---|",
    ]
    for environment in ENVIRONMENTS:
        found = results.get(environment.name)
        if found is None:
            lines.append(f"| {environment.torch} | {environment.python} | {NOT_RUN} | | | | |")
            continue
        total = _total(found)
        packages = found["packages"]
        whole = "whole" if all(run["whole"] for run in found["runs"].values()) else "in part"
        lines.append(
            f"| {packages['torch']} | {found['python']} | {total[PASSED]} | {total[FAILED]} | {total[SKIPPED]} | {whole} "
            f"| {packages.get('torchvision', 'not installed')} |"
        )
    return [*lines, ""]


def _total(found: dict[str, Any]) -> dict[str, int]:
    """How the tests ended; those that ran again count as they did the last time."""
    first = [run["counts"] for name, run in found["runs"].items() if name != AGAIN]
    total = {key: sum(counts[key] for counts in first) for key in (PASSED, FAILED, SKIPPED)}
    mended = total[FAILED] - len(found["failed"])
    skipped = sum(found["skipped"].values()) - total[SKIPPED] if AGAIN in found["runs"] else 0
    return {
        PASSED: total[PASSED] + mended - skipped,
        FAILED: len(found["failed"]),
        SKIPPED: total[SKIPPED] + skipped,
    }


def _area_table(results: dict[str, dict[str, Any]]) -> list[str]:
    lines = ["| torch, Python | " + " | ".join(AREAS) + " |", "|---|" + "---:|" * len(AREAS)]
    for environment in ENVIRONMENTS:
        found = results.get(environment.name)
        cells = [_cell(found["areas"][area]) if found else NOT_RUN for area in AREAS]
        lines.append(f"| {environment.torch}, {environment.python} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _cell(counts: dict[str, int]) -> str:
    if not counts[PASSED] and not counts[FAILED]:
        return NOT_RUN
    others = [f"{counts[result]} {result}" for result in (FAILED, SKIPPED) if counts[result]]
    return ", ".join([str(counts[PASSED]), *others])


def _runs() -> list[str]:
    lines = [
        f"* `pytest {' '.join(arguments)}`".rstrip("` ") + f"`: {RUNS[name]}" for name, arguments in SELECTIONS.items()
    ]
    return ["What was run:", "", *lines, ""]


def _details(results: dict[str, dict[str, Any]]) -> list[str]:
    lines = []
    for environment in ENVIRONMENTS:
        found = results.get(environment.name)
        if found is not None:
            lines += [f"## {_heading(environment)}", "", *_detail(found), ""]
    return lines[:-1] if lines else []


def _heading(environment: Environment) -> str:
    return f"torch {environment.torch}, Python {environment.python}"


def _detail(found: dict[str, Any]) -> list[str]:
    packages = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
    lines = [f"{packages}."]
    for name, run in found["runs"].items():
        counts = ", ".join(f"{run['counts'][result]} {result}" for result in (PASSED, FAILED, SKIPPED))
        end = "" if run["whole"] else ", stopped before the end"
        what = f"`{('pytest ' + run['arguments']).strip()}`"
        if name == AGAIN:
            what = f"the {run['arguments']}, after they or what they test were mended, at {run['commit']}"
        lines.append(f"* {name} ({what}): {counts}, in {run['seconds']} s{end}")
    if found["failed"]:
        lines += ["", "Failed:", ""]
        lines += [f"* `{test}`: {_code(why)}" for test, why in list(found["failed"].items())[:MOST_FAILURES]]
        more = len(found["failed"]) - MOST_FAILURES
        lines += [f"* and {more} more"] if more > 0 else []
    if found["skipped"]:
        lines += ["", "Skipped:", ""]
        lines += [f"* {n}: {_code(why)}" for why, n in sorted(found["skipped"].items(), key=lambda item: -item[1])]
    return [lines[0], "", *lines[1:]]


def _code(text: str) -> str:
    return "`" + text.replace("`", "'") + "`"


def read(folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """The results of every environment that was run, by name."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def main() -> None:
    """Writes the page."""
    PAGE.write_text(page(read()), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
