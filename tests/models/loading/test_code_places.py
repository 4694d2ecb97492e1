"""The files that an import would run, found without it."""

import sys
import zipfile

import pytest

from saconv_surgeon.models.loading.code_places import NAMESPACE, code_places, leave_working_folder

LOUD = "raise RuntimeError('imported')\n"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("placed/__init__.py", "placed/deep/__init__.py", "placed/deep/net.py", "placed_space/in/net.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(LOUD)
    return tmp_path


@pytest.mark.parametrize(
    ("source", "files"),
    [
        ("placed", ["placed/__init__.py"]),
        ("placed.deep.net", ["placed/__init__.py", "placed/deep/__init__.py", "placed/deep/net.py"]),
        ("placed_space.in.net", [NAMESPACE, NAMESPACE, "placed_space/in/net.py"]),
        ("placed/deep/net.py", ["placed/deep/net.py"]),
        ("absent.py", ["absent.py"]),
    ],
)
def test_files_in_the_order_in_which_they_run(place, source, files):
    wanted = tuple(name if name == NAMESPACE else str(place / name) for name in files)
    assert code_places(source, place) == wanted
    assert not [name for name in sys.modules if name.startswith("placed")]


@pytest.mark.parametrize("source", ["placed.absent", "placed_space", "absent", "placed.deep.net.more", "absent.net"])
def test_what_is_not_found(place, source):
    assert code_places(source, place) is None


def test_in_an_archive(place):
    with zipfile.ZipFile(place / "code.zip", "w") as archive:
        archive.writestr("placed_zip.py", LOUD)
    assert code_places("placed_zip", place / "code.zip") == (str(place / "code.zip" / "placed_zip.py"),)


def test_links_and_modules_that_are_loaded(place):
    (place / "link").symlink_to(place / "placed")
    assert code_places("link/deep/net.py") == (str(place / "placed/deep/net.py"),)
    assert code_places("json.decoder") == (sys.modules["json"].__file__, sys.modules["json.decoder"].__file__)


def test_the_search_path_stays(place):
    before = list(sys.path)
    code_places("placed.deep.net", place)
    assert sys.path == before


def test_what_depends_on_the_working_folder(place, monkeypatch):
    for name in ("relative", "absolute"):
        (place / name).mkdir()
    entries = ["", ".", str(place), str(place / "relative"), str(place / "absolute")]
    monkeypatch.setenv("PYTHONPATH", f"relative:{place / 'absolute'}")
    sys.path[:] = [*entries, *sys.path]
    leave_working_folder()
    assert [entry for entry in entries if entry in sys.path] == [str(place / "absolute")]
