"""Running many things on Ray Tune, which schedules, places and resumes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import tune

from saconv_surgeon.errors import UsageError, first_line
from saconv_surgeon.report.formats import FORMATS
from saconv_surgeon.report.report import Report
from saconv_surgeon.saving.atomic import write_json, writing

RUN, CASES = "ray", "cases.json"
"""In the folder of a sweep: what Ray keeps of it, and which cases it has."""


def check_folder(place: Path, cases: Mapping[str, Any]) -> None:
    """Writes down the cases of a new sweep, and compares those of one that goes on.

    Raises:
        UsageError: ``place`` holds other cases.
    """
    file = place / CASES
    wanted = json.loads(json.dumps(cases, default=str))
    if not file.exists():
        place.mkdir(parents=True, exist_ok=True)
        with writing(file) as part:
            write_json(part, wanted)
        return
    found = json.loads(file.read_text(encoding="utf-8"))
    different = [key for key in {**found, **wanted} if found.get(key) != wanted.get(key)]
    if different:
        raise UsageError(
            f"{place} holds another sweep ({len(different)} cases differ, first {sorted(different)[0]!r}); give another folder"
        )


def run_trials(
    run: Callable[[str], Mapping[str, Any]],
    cases: Sequence[str],
    place: Path,
    resources: Mapping[str, float],
    at_once: int,
) -> Iterable[Any]:
    """Ray's result of ``run(case)`` for each case. What ``place`` has already is not run again, unless it failed."""

    def trainable(config: dict[str, str]) -> Mapping[str, Any]:
        return run(config["case"])

    wanted = tune.with_resources(trainable, dict(resources))
    with _session():
        if tune.Tuner.can_restore(str(place / RUN)):
            tuner = tune.Tuner.restore(str(place / RUN), wanted, resume_unfinished=True, restart_errored=True)
        else:
            tuner = tune.Tuner(
                wanted,
                param_space={"case": tune.grid_search(list(cases))},
                tune_config=tune.TuneConfig(max_concurrent_trials=at_once or None),
                run_config=tune.RunConfig(name=RUN, storage_path=str(place), verbose=0),
            )
        return list(tuner.fit())


def reason_of(error: BaseException) -> str:
    """The last line of what a trial raised, in whose text Ray has the traceback of its process."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"{type(error).__name__}: {first_line(error)}"


def write_report(path: str | Path, record: Mapping[str, Any], report: Report) -> None:
    """Writes a report in the format that the suffix of ``path`` names, or the record for ``.json``.

    Raises:
        UsageError: A suffix that is of no format.
        ModelError: The file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".json", *FORMATS):
        raise UsageError(f"{path} is of no known kind; its name ends in {', '.join((*FORMATS, '.json'))}")
    with writing(path) as part:
        if suffix == ".json":
            write_json(part, record)
        else:
            part.write_text(FORMATS[suffix].render(report), encoding="utf-8")


@contextmanager
def _session() -> Iterator[None]:
    """Inside, Ray is there; one that was started here is ended again."""
    if ray.is_initialized():
        yield
        return
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()
