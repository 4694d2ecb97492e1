"""A folder takes the place of another, as one."""

import os

import pytest

import saconv_surgeon as surgeon
from saconv_surgeon.saving import renames
from saconv_surgeon.saving.replace_folder import finish_replacing, may_be_exchanged, replace_folder
from saconv_surgeon.surgery.plan_file import ARRIVING, CONVERSION_FILES, PLAN, REPORT, WEIGHTS
from tests import nets
from tests.saving.conversions import converted


def conversion(folder, text):
    folder.mkdir()
    for name in CONVERSION_FILES:
        (folder / name).write_text(text)
    return folder


def texts(folder):
    return {each.name: each.read_text() for each in folder.iterdir()}


NEW = dict.fromkeys(CONVERSION_FILES, "new")


def test_folders_are_exchanged(tmp_path):
    new, old = conversion(tmp_path / "new", "new"), conversion(tmp_path / "old", "old")
    number = new.stat().st_ino
    replace_folder(new, old)
    assert texts(old) == NEW
    assert (old.stat().st_ino == number) == new.exists()


@pytest.mark.parametrize("why", ["other files", "no such system call", "file system cannot"])
def test_otherwise_the_folder_stays_and_its_files_are_replaced(tmp_path, monkeypatch, why):
    new, old = conversion(tmp_path / "new", "new"), conversion(tmp_path / "old", "old")
    wanted, number = NEW, old.stat().st_ino
    if why == "other files":
        (old / "notes.txt").write_text("mine")
        wanted = NEW | {"notes.txt": "mine"}
    elif why == "no such system call":
        monkeypatch.setattr(renames, "_renameat2", lambda: None)
    else:
        monkeypatch.setattr("saconv_surgeon.saving.replace_folder.exchange", lambda *a: False)
    replace_folder(new, old)
    assert (texts(old), old.stat().st_ino) == (wanted, number)
    assert not new.exists()


@pytest.mark.parametrize("moved", range(4))
def test_a_conversion_that_was_being_moved_in_counts(tmp_path, moved):
    """Killed after ``moved`` of the three files: readers find the new one, and the next writer goes on from there."""
    old, new = surgeon.convert(nets.chain(), nets.X, include=["0"]), converted()
    place = tmp_path / "out"
    surgeon.save(old, place)
    surgeon.save(new, tmp_path / "new")
    (tmp_path / "new").rename(place / ARRIVING)
    files = (PLAN, WEIGHTS, REPORT)
    for name in files[:moved]:
        (place / ARRIVING / name).replace(place / name)
    found = surgeon.restore(nets.chain(), place).state_dict()
    assert found.keys() == new.model.state_dict().keys() != old.model.state_dict().keys()
    surgeon.save(old, place, overwrite=True)
    assert surgeon.restore(nets.chain(), place).state_dict().keys() == old.model.state_dict().keys()
    assert sorted(each.name for each in place.iterdir()) == sorted(files)


def test_a_folder_that_has_to_stay_is_not_exchanged(tmp_path, monkeypatch):
    folder = conversion(tmp_path / "out", "x")
    assert may_be_exchanged(folder)
    monkeypatch.setattr(os.path, "ismount", lambda path: True)
    assert not may_be_exchanged(folder)
    monkeypatch.undo()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert not may_be_exchanged(folder)
    monkeypatch.undo()
    (folder / "deep").mkdir()
    monkeypatch.chdir(folder / "deep")
    assert not may_be_exchanged(folder)


def test_nothing_to_finish(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ARRIVING).symlink_to(tmp_path / "elsewhere")
    finish_replacing(tmp_path)
    assert (tmp_path / ARRIVING).is_symlink()


def test_a_name_that_has_to_be_free(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    for function in (renames._renameat2(), None):
        monkeypatch.setattr(renames, "_renameat2", lambda function=function: function)
        with pytest.raises(FileExistsError):
            renames.rename_to_free(tmp_path / "a", tmp_path / "b")
    renames.rename_to_free(tmp_path / "a", tmp_path / "c")
    assert texts(tmp_path) == {"b": "b", "c": "a"}
