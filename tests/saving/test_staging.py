"""Private folders: whose they are, and what killed processes left of them."""

import os
import stat

import pytest

from saconv_surgeon.saving import staging
from saconv_surgeon.saving.staging import NAME, clear_leftovers, remove_open_stages, staged

LEFT = ".saconv-surgeon." + "0" * 32 + ".tmp"


def test_a_stage_is_private_cannot_be_foreseen_and_goes(tmp_path):
    names = set()
    for _ in range(3):
        with staged(tmp_path) as stage:
            assert NAME.fullmatch(stage.name)
            assert stat.S_IMODE(stage.stat().st_mode) == 0o700
            (stage / "deep").mkdir()
            (stage / "deep" / "file").write_text("x")
            names.add(stage.name)
        assert not any(tmp_path.iterdir())
    assert len(names) == 3


def test_what_a_killed_process_left_is_cleared(tmp_path):
    (tmp_path / LEFT / "m").mkdir(parents=True)
    (tmp_path / LEFT / "m" / "model.pt").write_text("half")
    with staged(tmp_path) as stage:
        assert [each.name for each in tmp_path.iterdir()] == [stage.name]


def test_what_a_live_process_uses_stays(tmp_path):
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        with staged(tmp_path) as stage:
            (stage / "file").write_text("being written")
            os.write(ready[1], b"x")
            os.read(go[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    clear_leftovers(tmp_path)
    assert [each.read_text() for each in tmp_path.glob("*/file")] == ["being written"]
    os.write(go[1], b"x")
    os.waitpid(child, 0)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["link", "file", "another name", "another user"])
def test_what_is_not_ours_stays(tmp_path, monkeypatch, kind):
    place, other = tmp_path / "place", tmp_path / "other"
    place.mkdir()
    other.mkdir()
    (other / "precious").write_text("x")
    if kind == "link":
        (place / LEFT).symlink_to(other)
    elif kind == "file":
        (place / LEFT).write_text("x")
    elif kind == "another name":
        (place / f"{LEFT}2").mkdir()
    else:
        (place / LEFT).mkdir()
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    clear_leftovers(place)
    assert len(list(place.iterdir())) == 1
    assert (other / "precious").exists()


def test_files_of_the_user_go_back_to_the_folder_they_were_in(tmp_path):
    """A process was killed after it had exchanged two folders, one of which had got another file in that moment."""
    (tmp_path / "out").mkdir()
    old = tmp_path / LEFT / "out"
    old.mkdir(parents=True)
    for name in ("plan.json", "model.safetensors", "notes.txt"):
        (old / name).write_text(name)
    clear_leftovers(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["out"]
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["notes.txt"]


def test_files_of_the_user_that_cannot_go_back_stay(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("newer")
    old = tmp_path / LEFT / "out"
    old.mkdir(parents=True)
    for name in ("plan.json", "notes.txt"):
        (old / name).write_text(name)
    clear_leftovers(tmp_path)
    assert (old / "notes.txt").exists()
    assert (tmp_path / "out" / "notes.txt").read_text() == "newer"


def test_a_process_that_ends_removes_its_own(tmp_path):
    with staged(tmp_path) as stage:
        assert stage in staging._open
        remove_open_stages()
        assert not stage.exists()
    assert not staging._open


def test_without_locks_nothing_is_cleared(tmp_path, monkeypatch):
    (tmp_path / LEFT).mkdir()
    monkeypatch.setattr(staging.fcntl, "flock", lambda *a: (_ for _ in ()).throw(OSError(37, "no locks")))
    with staged(tmp_path) as stage:
        assert stage.is_dir()
    assert [each.name for each in tmp_path.iterdir()] == [LEFT]
