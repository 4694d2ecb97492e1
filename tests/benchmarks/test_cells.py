"""What was run is not run again, what was interrupted is, and two processes do not run the same."""

import json

import pytest

from benchmarks.payoff import run
from benchmarks.payoff.cells import SCHEMA, Cell, claimed, read_cells

ONE, TWO = Cell("dense", "adamw-x1", "twin", 0), Cell("dense", "adamw-x1", "twin", 1)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Results and claims in a folder of their own, and two cells to run."""
    monkeypatch.setattr(run, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(run, "cells", lambda: iter([ONE, TWO]))
    path, write = Cell.path, Cell.write
    monkeypatch.setattr(Cell, "path", lambda self, root=tmp_path: path(self, root))
    monkeypatch.setattr(Cell, "write", lambda self, found, root=tmp_path: write(self, found, root))
    return tmp_path


def runs(monkeypatch, fails_at=None):
    done = []

    def fake(cell):
        if cell == fails_at:
            raise KeyboardInterrupt
        done.append(cell)
        return {"metric": 0.5, "seconds": 1.0}

    monkeypatch.setattr(run, "run", fake)
    return done


def test_what_is_there_is_not_run_again(place, monkeypatch):
    done = runs(monkeypatch)
    run.work()
    run.work()
    assert done == [ONE, TWO]
    assert [record["seed"] for record in read_cells(place)] == [0, 1]
    assert {record["schema"] for record in read_cells(place)} == {SCHEMA}


def test_what_was_interrupted_is_run_again_and_leaves_nothing(place, monkeypatch):
    runs(monkeypatch, fails_at=TWO)
    with pytest.raises(KeyboardInterrupt):
        run.work()
    assert len(read_cells(place)) == 1 and not list(place.rglob("*.tmp"))
    done = runs(monkeypatch)
    run.work()
    assert done == [TWO]


def test_what_another_process_is_at_is_left_to_it(place, monkeypatch):
    done = runs(monkeypatch)
    with claimed(place / "cache" / "claims" / "dense-adamw-x1-twin-0.lock") as ours:
        assert ours
        run.work()
    assert done == [TWO]


def test_only(place, monkeypatch):
    done = runs(monkeypatch)
    run.work("twin/seed-1")
    assert done == [TWO]


def test_a_claim_ends_with_its_block(tmp_path):
    lock = tmp_path / "a.lock"
    with claimed(lock) as first, claimed(lock) as second:
        assert first and not second
    with claimed(lock) as third:
        assert third


def test_files_of_another_schema_are_left_out(tmp_path):
    path = ONE.write({"metric": 1.0}, tmp_path)
    path.with_name("seed-9.json").write_text(json.dumps({"schema": "saconv-surgeon/payoff-cell/0"}), encoding="utf-8")
    assert [record["seed"] for record in read_cells(tmp_path)] == [0]
