"""Runs the tests on every version that is promised, one environment after the other.

python -m benchmarks.versions.measure [--place FOLDER] [--keep] [--only NAME] [--again]

Each environment takes several GB and is removed when its tests have run. Results go to ``benchmarks/results/versions``.
``--again`` runs those tests that failed, after they or what they test were mended, and says so in the results.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import re
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.versions.areas import AREAS, FAILED, SKIPPED, Outcome, by_area, counts, outcomes
from benchmarks.versions.environments import ENVIRONMENTS, ROOT, Environment, made, removed

RESULTS = ROOT / "benchmarks" / "results" / "versions"
SHOWN = (
    *("torch", "torchvision", "numpy", "onnx", "onnxscript", "onnxruntime", "transformers", "ultralytics", "timm"),
    *("segmentation-models-pytorch", "fvcore", "safetensors", "pytest", "hypothesis"),
)
"""Packages of which results record the version."""
SELECTIONS = {
    "suite": (),
    "slow": ("-m", "slow", "tests/saving", "tests/models/exported"),
    "zoo": ("-m", "zoo", "tests/zoo/test_detectors.py", "tests/zoo/test_deformable.py", "tests/zoo/test_diffs.py"),
}
RAN_TO_THE_END = (0, 1)
"""Exit codes of pytest that mean so; Ctrl-C ends one run, and its results up to there are kept."""
NEED_LIBRARIES = ("zoo",)
"""Selections of which tests need the libraries of models."""
AGAIN = "again"
"""The run of the tests that failed in the others."""


def measured(environment: Environment, place: Path) -> dict[str, Any]:
    """Makes ``environment``, runs its tests, and gives what came of them."""
    python = made(environment, place)
    selections = {n: a for n, a in SELECTIONS.items() if environment.torchvision or n not in NEED_LIBRARIES}
    runs = {name: _run(python, place / f"{environment.name}-{name}.xml", args) for name, args in selections.items()}
    found = [outcome for run in runs.values() for outcome in run["outcomes"]]
    return {
        "torch": environment.torch,
        "python": _said(python, "import platform; print(platform.python_version())"),
        "machine": platform.machine(),
        "packages": _packages(python),
        "commit": _commit(),
        "runs": {name: _kept(run) for name, run in runs.items()},
        "areas": by_area(found),
        "failed": {o.test: o.why for o in found if o.result == FAILED},
        "skipped": dict(Counter(o.why for o in found if o.result == SKIPPED)),
    }


def measured_again(environment: Environment, place: Path, before: dict[str, Any]) -> dict[str, Any]:
    """``before``, the results of an earlier run, after the tests that failed in it have run once more."""
    if not before["failed"]:
        return before
    python = made(environment, place)
    arguments = ("-m", "slow or zoo or not slow", *(_selector(test) for test in before["failed"]))
    run = _run(python, place / f"{environment.name}-again.xml", arguments)
    result = copy.deepcopy(before)
    for outcome in run["outcomes"]:
        if outcome.test not in before["failed"]:
            continue  # another of a file or a class that was asked for as a whole
        del result["failed"][outcome.test]
        if outcome.result == FAILED:
            result["failed"][outcome.test] = outcome.why
        if outcome.result == SKIPPED:
            result["skipped"][outcome.why] = result["skipped"].get(outcome.why, 0) + 1
        for counted in (area for name, area in result["areas"].items() if re.search(AREAS[name], outcome.test)):
            counted[FAILED] -= 1
            counted[outcome.result] += 1
    about = {"arguments": f"{len(before['failed'])} tests that had failed", "commit": _commit()}
    result["runs"][AGAIN] = {**_kept(run), **about}
    return result


def _selector(test: str) -> str:
    """What pytest is asked for; a name whose parameters have letters that junit writes otherwise stands for all parameters."""
    return test if test.isascii() and not set(test.partition("[")[2]) & set("#\\\"'") else test.partition("[")[0]


def _kept(run: dict[str, Any]) -> dict[str, Any]:
    return {key: run[key] for key in ("arguments", "seconds", "counts", "whole")}


def _commit() -> str:
    described = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return described.stdout.strip()


def _run(python: Path, junit: Path, arguments: tuple[str, ...]) -> dict[str, Any]:
    start = time.perf_counter()
    command = [
        python,
        "-m",
        "pytest",
        "-q",
        "-n",
        "2",
        "--dist",
        "worksteal",
        "--continue-on-collection-errors",
        f"--junitxml={junit}",
        *arguments,
    ]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}, check=False
    )
    found: list[Outcome] = list(outcomes(junit))
    seconds = round(time.perf_counter() - start)
    return {
        "arguments": " ".join(arguments),
        "seconds": seconds,
        "counts": counts(found),
        "whole": done.returncode in RAN_TO_THE_END,
        "outcomes": found,
    }


def _packages(python: Path) -> dict[str, str]:
    """The versions that are installed; a package that is not there is left out."""
    listed = json.loads(
        subprocess.run(
            [python, "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True
        ).stdout
    )
    versions = {package["name"].lower().replace("_", "-"): package["version"] for package in listed}
    return {name: versions[name] for name in SHOWN if name in versions}


def _said(python: Path, code: str) -> str:
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    """Measures what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--place", type=Path, help="the folder to make environments in; those that it has are used")
    parser.add_argument("--keep", action="store_true", help="do not remove environments")
    parser.add_argument("--again", action="store_true", help="only the tests that failed before")
    parser.add_argument("--only", action="append", choices=[e.name for e in ENVIRONMENTS])
    asked = parser.parse_args()
    place = asked.place or Path(tempfile.mkdtemp(prefix="versions-"))
    RESULTS.mkdir(parents=True, exist_ok=True)
    for environment in ENVIRONMENTS:
        if asked.only and environment.name not in asked.only:
            continue
        file = RESULTS / f"{environment.name}.json"
        if asked.again and not file.exists():
            continue
        before = json.loads(file.read_text(encoding="utf-8")) if asked.again else None
        result = measured(environment, place) if before is None else measured_again(environment, place, before)
        text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
        file.write_text(text, encoding="utf-8")
        print(environment.name, {name: run["counts"] for name, run in result["runs"].items()}, flush=True)
        if not asked.keep:
            removed(environment, place)


if __name__ == "__main__":
    main()
