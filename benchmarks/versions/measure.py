"""Runs the tests on every version that is promised, one environment after the other.

python -m benchmarks.versions.measure [--place FOLDER] [--keep] [--only NAME]

Each environment takes several GB and is removed when its tests have run. Results go to ``benchmarks/results/versions``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.versions.areas import FAILED, SKIPPED, Outcome, by_area, counts, outcomes
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
"""Arguments of each run of pytest: the tests of ``make test``, and those of models of libraries."""


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
        "commit": subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
        ).stdout.strip(),
        "runs": {
            name: {key: run[key] for key in ("arguments", "seconds", "counts", "whole")} for name, run in runs.items()
        },
        "areas": by_area(found),
        "failed": {o.test: o.why for o in found if o.result == FAILED},
        "skipped": dict(Counter(o.why for o in found if o.result == SKIPPED)),
    }


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
    parser.add_argument("--only", action="append", choices=[e.name for e in ENVIRONMENTS])
    asked = parser.parse_args()
    place = asked.place or Path(tempfile.mkdtemp(prefix="versions-"))
    RESULTS.mkdir(parents=True, exist_ok=True)
    for environment in ENVIRONMENTS:
        if asked.only and environment.name not in asked.only:
            continue
        result = measured(environment, place)
        text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
        (RESULTS / f"{environment.name}.json").write_text(text, encoding="utf-8")
        print(environment.name, {name: run["counts"] for name, run in result["runs"].items()}, flush=True)
        if not asked.keep:
            removed(environment, place)


if __name__ == "__main__":
    main()
