"""Scores and prices in a file: read back as they were, refused for anything else."""

import json
from dataclasses import replace

import numpy as np
import pytest

import saconv_surgeon as surgeon
from saconv_surgeon.planning.saved_scores import SavedScores, Subject, read_scores
from saconv_surgeon.planning.scores.gains import SumOfGains
from saconv_surgeon.planning.scores.overlapping import Effect, OverlappingGains
from saconv_surgeon.records.budgeted_plan import Price

SUBJECT = Subject("abc", ((1, 3, 8, 8),), {"conv": ("contexts", "all")}, "promise", 0, "a CPU, 1 threads")
PRICES = {"conv": {"contexts": Price(10, 20, 1e-3), "all": Price(30, 40, 2e-3, saved_bytes=7)}}


def overlapping():
    rows = np.random.default_rng(0).normal(size=(2, 8)) + 0.5
    effects = {part: Effect.of(row, 0.1) for part, row in zip(("contexts", "branches"), rows)}
    parts = {"contexts": ("contexts",), "all": ("contexts", "branches")}
    return OverlappingGains({"conv": effects}, {"conv": parts})


@pytest.mark.parametrize("gains", [overlapping(), SumOfGains("depth", "place", {"conv": {"all": 1.0}})])
def test_what_is_written_is_read(tmp_path, gains):
    file = tmp_path / "scores.json"
    SavedScores(SUBJECT, gains, PRICES, {"originals": {"latency": 0.01}}).write(file)
    found = read_scores(file, SUBJECT)
    assert found.prices == PRICES
    assert found.extra == {"originals": {"latency": 0.01}}
    for chosen in ({}, {"conv": "all"}, {"conv": "contexts"}):
        assert found.gains.of(chosen) == gains.of(chosen)
    assert [p.name for p in tmp_path.iterdir()] == ["scores.json"]


def test_a_file_that_is_not_there_has_nothing(tmp_path):
    assert read_scores(tmp_path / "none.json", SUBJECT) == SavedScores(SUBJECT)


def test_scores_alone_are_kept_before_prices_are_known(tmp_path):
    file = tmp_path / "scores.json"
    SavedScores(SUBJECT, overlapping()).write(file)
    found = read_scores(file, SUBJECT)
    assert found.prices is None
    assert found.gains is not None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fingerprint": "xyz"}, "another model or other weights"),
        ({"inputs": ((1, 3, 16, 16),)}, "another size of the inputs"),
        ({"candidates": {"conv": ("all",)}}, "another choice of targets"),
        ({"score": "probe"}, "another score"),
        ({"seed": 1}, "another seed"),
    ],
)
def test_scores_of_something_else_are_refused(tmp_path, change, said):
    file = tmp_path / "scores.json"
    SavedScores(SUBJECT, overlapping(), PRICES).write(file)
    with pytest.raises(surgeon.UsageError, match=said):
        read_scores(file, replace(SUBJECT, **change))


def test_prices_of_another_machine_are_left_out(tmp_path):
    file = tmp_path / "scores.json"
    SavedScores(SUBJECT, overlapping(), PRICES).write(file)
    found = read_scores(file, replace(SUBJECT, timing="a CPU, 2 threads"))
    assert found.prices is None
    assert found.gains is not None


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("schema"),
        lambda c: c.update(schema="saconv-surgeon/scores/9"),
        lambda c: c["gains"].pop("effects"),
        lambda c: c.update(gains=3),
        lambda c: c["gains"]["effects"]["conv"].pop("contexts"),
        lambda c: c.update(prices={"conv": {"all": {"macs": "many"}}}),
        lambda c: c.update(subject=3),
    ],
)
def test_files_that_hold_something_else(tmp_path, change):
    file = tmp_path / "scores.json"
    SavedScores(SUBJECT, overlapping(), PRICES).write(file)
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises((surgeon.ArtefactError, surgeon.UsageError), match=r"scores"):
        read_scores(file, SUBJECT).gains.of({"conv": "all"})


@pytest.mark.parametrize("content", ["", "[1, 2]", "[" * 100_000, '{"schema": 1, "schema": 2}'])
def test_files_that_are_no_json_of_ours(tmp_path, content):
    file = tmp_path / "scores.json"
    file.write_text(content)
    with pytest.raises(surgeon.ArtefactError, match="does not hold scores"):
        read_scores(file, SUBJECT)
