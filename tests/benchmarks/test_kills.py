"""Writers that are killed leave the old version or the new one, and nothing else once another has written."""

import pytest

from benchmarks.kills import calls_of, kill_often, kill_once, subjects


@pytest.fixture(scope="module")
def them():
    return {subject.name: subject for subject in subjects()}


@pytest.mark.parametrize("name", ["folder, exchanged", "folder with other files", "model.pt", "record.json"])
def test_killed_before_the_first_the_middle_and_the_last_call(tmp_path, them, name):
    (tmp_path / "whole").mkdir()
    calls = calls_of(them[name], tmp_path / "whole")
    assert calls > 15
    found = []
    for at in (1, calls // 2, calls):
        (tmp_path / str(at)).mkdir()
        found.append(kill_once(them[name], tmp_path / str(at), at=at))
    assert (found[0], found[-1]) == ("old", "new")


def test_the_check_can_fail(tmp_path, them, monkeypatch):
    """A folder whose files are replaced one by one, as many programs do."""

    def one_by_one(new, folder):
        folder.mkdir(exist_ok=True)
        for each in new.iterdir():
            each.replace(folder / each.name)

    monkeypatch.setattr("saconv_surgeon.saving.atomic.replace_folder", one_by_one)
    subject = them["folder, exchanged"]
    (tmp_path / "whole").mkdir()
    failed = 0
    for at in range(calls_of(subject, tmp_path / "whole") - 12, 0, -1):
        folder = tmp_path / str(at)
        folder.mkdir()
        try:
            if kill_once(subject, folder, at=at) == "old":
                break
        except Exception:
            failed += 1
    assert failed


@pytest.mark.slow
def test_five_hundred_kills():
    assert kill_often(500)["kills"] == 500
