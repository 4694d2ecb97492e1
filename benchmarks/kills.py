"""Writers that are killed: at every call of the system that changes names or waits for the disk, and at random moments.

    python -m benchmarks.kills [KILLS]

After each ``SIGKILL`` what is at the place must be the old content or the new one, whole, with the user's other files; after the
next writer there must be nothing that does not belong there. Needs ``os.fork``. Two minutes for 500 kills.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import saconv_surgeon as surgeon
from benchmarks.recording import record
from saconv_surgeon.saving import renames, replace_folder
from saconv_surgeon.saving.atomic import write_text

CALLS = ("mkdir", "open", "rename", "replace", "link", "unlink", "rmdir", "fsync", "chmod", "close")
KILLS = 500
SEED = 0
INPUT = torch.ones(1, 2, 9, 9)
OTHERS = {"notes.txt": "mine", "runs/log.txt": "also mine"}


@dataclass(frozen=True)
class Subject:
    """Something that is written: how, and which version a reader finds (``old``, ``new`` or None; an error if neither)."""

    name: str
    write: Callable[[Path, str], object]
    read: Callable[[Path], str | None]
    place: str
    starts_empty: bool = False
    others: bool = False
    exchanges: bool = True


def subjects() -> tuple[Subject, ...]:
    """Folders in each way of replacing them, a pickle, a record."""
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3))
    made = {
        "old": surgeon.convert(model, INPUT, trials=1, include=["0"]),
        "new": surgeon.convert(model, INPUT, trials=1),
    }

    def save(place: Path, version: str) -> None:
        surgeon.save(made[version], place, overwrite=True)

    def restored(place: Path) -> str | None:
        if not (place / "plan.json").exists() and not (place / replace_folder.ARRIVING).exists():
            return None
        return _version(surgeon.restore(model, place), made)

    def loaded(place: Path) -> str | None:
        return _version(torch.load(place, weights_only=False), made) if place.exists() else None

    texts = {"old": "old\n" * 999, "new": "new\n" * 5555}

    def text_of(place: Path) -> str | None:
        return next(v for v, t in texts.items() if t == place.read_text()) if place.exists() else None

    return (
        Subject("folder, exchanged", save, restored, "out"),
        Subject("folder, new", save, restored, "out", starts_empty=True),
        Subject("folder with other files", save, restored, "out", others=True),
        Subject("folder, no exchange", save, restored, "out", exchanges=False),
        Subject("model.pt", save, loaded, "model.pt"),
        Subject("model.pt, new", save, loaded, "model.pt", starts_empty=True),
        Subject("record.json", lambda place, version: write_text(place, texts[version]), text_of, "record.json"),
    )


def _version(found: nn.Module, made: dict[str, Any]) -> str:
    state = found.state_dict()
    for version, conversion in made.items():
        wanted = conversion.model.state_dict()
        if state.keys() == wanted.keys() and all(torch.equal(state[name], wanted[name]) for name in wanted):
            return version
    raise AssertionError("what was read is neither the old nor the new version")


def kill_once(subject: Subject, folder: Path, *, at: int | None = None, after: float | None = None) -> str | None:
    """Kills a writer before its call number ``at``, or ``after`` seconds, and gives the version that was left behind.

    Raises:
        AssertionError: Neither version can be read, a file of the user's is lost, or the next writer leaves something behind.
    """
    place = folder / subject.place
    _prepare(subject, place)
    with _without_exchange() if not subject.exchanges else _as_it_is():
        child = os.fork()
        if child == 0:
            _write_and_end(subject, place, at)
        if after is not None:
            time.sleep(after)
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        left = subject.read(place)
        assert left in (("new", None) if subject.starts_empty else ("old", "new"))
        subject.write(place, "new")
    assert subject.read(place) == "new"
    assert {each.name for each in folder.iterdir()} == {subject.place}, sorted(each.name for each in folder.iterdir())
    if place.is_dir():
        own = {"plan.json", "model.safetensors", "report.json", *(OTHERS if subject.others else ())}
        found = {str(each.relative_to(place)) for each in place.rglob("*") if each.is_file()}
        assert found == own, found
        assert not subject.others or all((place / name).read_text() == text for name, text in OTHERS.items())
    return left


def _prepare(subject: Subject, place: Path) -> None:
    if not subject.starts_empty:
        subject.write(place, "old")
    if subject.others:
        for name, text in OTHERS.items():
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_text(text)


def calls_of(subject: Subject, folder: Path) -> int:
    """How many calls a whole writing makes, at each of which it can be killed."""
    place = folder / subject.place
    _prepare(subject, place)
    with _without_exchange() if not subject.exchanges else _as_it_is(), _counted() as count:
        subject.write(place, "new")
    return count[0]


def _write_and_end(subject: Subject, place: Path, at: int | None) -> None:
    try:
        with _counted(at):
            subject.write(place, "new")
    finally:
        os._exit(0)


@contextmanager
def _counted(kill_at: int | None = None) -> Iterator[list[int]]:
    """Counts calls, and kills this process before number ``kill_at``."""
    count = [0]

    def counting(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            count[0] += 1
            if count[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    real = {name: getattr(os, name) for name in CALLS}
    function = renames._renameat2
    for name, each in real.items():
        setattr(os, name, counting(each))
    renames._renameat2 = lambda: None if function() is None else counting(function())  # type: ignore[assignment]
    try:
        yield count
    finally:
        for name, each in real.items():
            setattr(os, name, each)
        renames._renameat2 = function


@contextmanager
def _without_exchange() -> Iterator[None]:
    """As on a system that cannot exchange two folders."""
    function = renames._renameat2
    renames._renameat2 = lambda: None  # type: ignore[assignment]
    try:
        yield
    finally:
        renames._renameat2 = function


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


def kill_often(kills: int) -> dict[str, Any]:
    """Every call of every subject once, then random moments until there are enough; what was left behind, by subject."""
    draw, left, steps = random.Random(SEED), dict[str, Counter[str]](), 0
    them = subjects()
    plans: list[tuple[Subject, int | None, float | None]] = []
    lengths = {}
    for subject in them:
        with tempfile.TemporaryDirectory() as folder:
            calls = calls_of(subject, Path(folder))
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            subject.write(Path(folder) / subject.place, "new")
            lengths[subject.name] = time.perf_counter() - start
        plans += [(subject, at, None) for at in range(1, calls + 1)]
    steps = len(plans)
    while len(plans) < kills:
        subject = draw.choice(them)
        plans.append((subject, None, draw.uniform(0, 1.5 * lengths[subject.name])))
    for subject, at, after in plans:
        with tempfile.TemporaryDirectory() as folder:
            found = kill_once(subject, Path(folder), at=at, after=after)
        left.setdefault(subject.name, Counter())[found or "nothing"] += 1
    return {
        "kills": len(plans),
        "at a call": steps,
        "at random": len(plans) - steps,
        "left behind": {name: dict(each) for name, each in left.items()},
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    result = kill_often(int(sys.argv[1]) if len(sys.argv) > 1 else KILLS)
    print(result)
    print(record("kills", result))
