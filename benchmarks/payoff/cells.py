"""Cells: one arm of one recipe of one task with one seed, a JSON file that is there or not; and claims on what is being run."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent.parent / "results" / "payoff"
SCHEMA = "saconv-surgeon/payoff-cell/1"


@dataclass(frozen=True)
class Cell:
    """What is run at once."""

    task: str
    recipe: str
    arm: str
    seed: int

    def path(self, root: Path = RESULTS) -> Path:
        """Its file."""
        return root / self.task / self.recipe / self.arm / f"seed-{self.seed}.json"

    def write(self, found: dict[str, Any], root: Path = RESULTS) -> Path:
        """Its file appears whole or not at all."""
        path = self.path(root)
        record = {"schema": SCHEMA, "task": self.task, "recipe": self.recipe, "arm": self.arm, "seed": self.seed}
        write_json(path, {**record, **found})
        return path


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Writes a record under another name and renames it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def read_cells(root: Path = RESULTS) -> list[dict[str, Any]]:
    """All records that there are, by task, recipe, arm and seed. Files of another schema are left out."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(root.glob("*/*/*/seed-*.json"))]
    return [record for record in found if record.get("schema") == SCHEMA]


@contextmanager
def claimed(lock: Path, *, wait: bool = False) -> Iterator[bool]:
    """Whether the claim is ours: no other process holds it. It ends with the block, or with the process, however that ends."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
