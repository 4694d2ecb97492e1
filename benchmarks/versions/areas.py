"""What the columns of the table are: which tests are about what."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"

AREAS = {
    "convert": r"^tests/(convs|surgery|samples)/|^tests/cli/test_(convert|mixed)|^tests/saving/test_(restore|mixed)",
    "profile": r"^tests/profiling/|_profil",
    "diff": r"^tests/comparing/|_diff",
    "fold": r"^tests/folding/|^tests/(convs|saving|cli)/test_fold|_fold(?!er)",
    ".pt2": r"^tests/models/exported/|pt2|_program|_export",
    "ONNX": r"onnx",
    "AOTI": r"aoti",
    "Ultralytics": r"ultralytics|yolo|"
    r"^tests/integrations/test_(flop_counts|loading|mixed_models|model_checks|registration|trainer_op)",
    "transformers": r"transformers|^tests/integrations/test_hub_mixin",
    "torchvision": r"torchvision|\[real",
}
"""By area, a pattern that the id of each of its tests matches. A test can belong to several."""
PLACES = re.compile(r"(?<![\w.])(/[\w.+-]+)+/")
"""Folders of the machine that ran the tests, which say nothing to others."""


@dataclass(frozen=True)
class Outcome:
    """How one test ended; ``why`` is the reason of a skip or the first line of a failure."""

    test: str
    result: str
    why: str = ""


def outcomes(junit: Path) -> Iterator[Outcome]:
    """The outcomes in a file that ``pytest --junitxml`` wrote."""
    for case in ET.parse(junit).getroot().iter("testcase"):
        failure = next((child for child in case if child.tag in ("failure", "error")), None)
        skipped = case.find("skipped")
        name = _identity(case.get("classname") or "", case.get("name") or "")
        if failure is not None:
            yield Outcome(name, FAILED, _first_line(failure))
        elif skipped is not None and skipped.get("type") != "pytest.xfail":
            yield Outcome(name, SKIPPED, _first_line(skipped))
        else:
            yield Outcome(name, PASSED)


def counts(found: list[Outcome]) -> dict[str, int]:
    """How many passed, failed and were skipped."""
    results = Counter(outcome.result for outcome in found)
    return {result: results[result] for result in (PASSED, FAILED, SKIPPED)}


def by_area(found: list[Outcome]) -> dict[str, dict[str, int]]:
    """The counts of each area."""
    return {area: counts([o for o in found if re.search(pattern, o.test)]) for area, pattern in AREAS.items()}


def _identity(place: str, name: str) -> str:
    """``tests/room/test_file.py::test[parameters]``. Tests that stopped a file at collection have no place but a name."""
    parts = (place or name).split(".")
    file = next((i for i, part in enumerate(parts) if part.startswith("test_")), len(parts) - 1)
    path = "/".join(parts[: file + 1]) + ".py"
    return "::".join([path, *parts[file + 1 :], *([name] if place else [])])


def _first_line(element: ET.Element) -> str:
    lines = (element.get("message") or element.text or "").strip().splitlines()
    return PLACES.sub("", lines[0])[:300] if lines else ""
