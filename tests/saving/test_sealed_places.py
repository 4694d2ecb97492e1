"""A plan names its model; what runs for that name is the file that it named when the plan was sealed, or nothing."""

import compileall
import hashlib
import hmac
import json
import shutil
import sys
import zipfile
from importlib.util import spec_from_file_location
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from saconv_surgeon.cli import cli
from saconv_surgeon.saving.seal import FORMAT
from tests.models.hostile_files import NET, refused

EVIL = f"import os\nos.mkdir('mark')\n{NET}"
NAMES = ("sealed_net", "sealed_pkg", "sealed_helper", "timm")


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """``mine``, which is the working folder, and a stranger's ``download``."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    known = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in NAMES}
    for name in ("mine", "download"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    yield tmp_path / "mine", tmp_path / "download"
    forget()
    sys.modules.update(known)


def forget():
    """What another process would not know."""
    for name in list(sys.modules):
        if name.partition(".")[0] in NAMES:
            del sys.modules[name]


def write(file, text=NET):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def convert(mine, model):
    result = CliRunner().invoke(cli, ["convert", model, "-o", "saved", "--no-latency", "-q"])
    assert result.exit_code == 0, result.output
    forget()
    return mine / "saved"


def in_download(saved, download, monkeypatch):
    """The folder in another working folder, in what is as good as another process."""
    shutil.copytree(saved, download / "saved")
    monkeypatch.chdir(download)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(saved.parent)])


def asks(download):
    message = refused(download, "inspect", "saved")
    assert "was not converted here" in message
    assert "--base" in message and "--trust" in message
    return message


def opens(*, code=0):
    result = CliRunner().invoke(cli, ["inspect", "saved"])
    assert result.exit_code == code, result.output


def test_a_module_beside_the_folder(folders, monkeypatch):
    mine, download = folders
    write(mine / "sealed_net.py")
    saved = convert(mine, "sealed_net:build")
    write(download / "sealed_net.py", EVIL)
    in_download(saved, download, monkeypatch)
    assert str(download / "sealed_net.py") in asks(download)


def test_ones_own_module_opens_again(folders):
    mine, _ = folders
    write(mine / "sealed_net.py")
    convert(mine, "sealed_net:build")
    opens()


@pytest.mark.parametrize("strange", ["sealed_pkg/__init__.py", "sealed_pkg/deep/__init__.py", "sealed_pkg/deep/net.py"])
def test_any_file_on_the_way_to_a_module(folders, monkeypatch, strange):
    """All others are links to one's own; the packages above a module run first."""
    mine, download = folders
    files = ["sealed_pkg/__init__.py", "sealed_pkg/deep/__init__.py", "sealed_pkg/deep/net.py"]
    for name in files:
        write(mine / name, NET if name.endswith("net.py") else "")
    saved = convert(mine, "sealed_pkg.deep.net:build")
    for name in files:
        if name == strange:
            write(download / name, EVIL)
        else:
            (download / name).parent.mkdir(parents=True, exist_ok=True)
            (download / name).symlink_to(mine / name)
    in_download(saved, download, monkeypatch)
    asks(download)


@pytest.mark.parametrize("inner", ["", "/inner"])
def test_packages_without_an_init(folders, monkeypatch, inner):
    mine, download = folders
    name = f"sealed_pkg{inner}/net.py"
    write(mine / name)
    saved = convert(mine, name.removesuffix(".py").replace("/", ".") + ":build")
    opens()
    forget()
    write(download / name, EVIL)
    in_download(saved, download, monkeypatch)
    asks(download)


def test_a_package_gains_an_init(folders, monkeypatch):
    """It had none when it was sealed: its place was of no file."""
    mine, download = folders
    write(mine / "sealed_pkg/net.py")
    saved = convert(mine, "sealed_pkg.net:build")
    write(download / "sealed_pkg/__init__.py", EVIL)
    (download / "sealed_pkg/net.py").symlink_to(mine / "sealed_pkg/net.py")
    in_download(saved, download, monkeypatch)
    asks(download)


def test_an_installed_module_is_hidden_by_the_working_folder(folders, monkeypatch):
    mine, download = folders
    write(mine.parent / "site/sealed_net.py")
    sys.path.append(str(mine.parent / "site"))
    saved = convert(mine, "sealed_net:build")
    in_download(saved, download, monkeypatch)
    opens()
    forget()
    write(download / "sealed_net.py", EVIL)
    asks(download)


def test_what_an_own_module_imports_is_not_taken_from_the_working_folder(folders, monkeypatch):
    mine, download = folders
    write(mine.parent / "site/sealed_net.py", f"try: import sealed_helper\nexcept ImportError: pass\n{NET}")
    sys.path.append(str(mine.parent / "site"))
    saved = convert(mine, "sealed_net:build")
    write(download / "sealed_helper.py", EVIL)
    in_download(saved, download, monkeypatch)
    for entry in ("", str(download)):  # python -m, PYTHONPATH=.
        sys.path.append(entry)
        opens()
        assert not (download / "mark").exists()
        forget()


def test_neighbours_are_found_at_home(folders, monkeypatch):
    mine, _ = folders
    write(mine / "code/sealed_net.py", f"import sealed_helper\n{NET}")
    write(mine / "sealed_helper.py", "")
    sys.path.append(str(mine))
    convert(mine, "code/sealed_net.py:build")
    opens()


@pytest.mark.parametrize("place", ["mine", "download"])
def test_a_module_in_an_archive(folders, monkeypatch, place):
    mine, download = folders
    for folder, text in zip(folders, (NET, EVIL), strict=True):
        with zipfile.ZipFile(folder / "code.zip", "w") as archive:
            archive.writestr("sealed_net.py", text)
    sys.path.append(str(mine / "code.zip"))
    saved = convert(mine, "sealed_net:build")
    in_download(saved, download, monkeypatch)
    sys.path[-1] = str(mine.parent / place / "code.zip")
    opens() if place == "mine" else asks(download)


def test_compiled_without_a_source(folders, monkeypatch):
    mine, download = folders
    for folder, text in zip(folders, (NET, EVIL), strict=True):
        write(folder / "sealed_net.py", text)
        compileall.compile_file(folder / "sealed_net.py", legacy=True, quiet=1)
        (folder / "sealed_net.py").unlink()
    saved = convert(mine, "sealed_net:build")
    opens()
    forget()
    in_download(saved, download, monkeypatch)
    asks(download)


def test_a_link_to_ones_own_module_is_not_followed_into_the_working_folder(folders, monkeypatch):
    mine, download = folders
    write(mine / "sealed_net.py", f"try: import sealed_helper\nexcept ImportError: pass\n{NET}")
    saved = convert(mine, "sealed_net:build")
    (download / "sealed_net.py").symlink_to(mine / "sealed_net.py")
    write(download / "sealed_helper.py", EVIL)
    in_download(saved, download, monkeypatch)
    asks(download)


def test_a_link_that_points_elsewhere_now(folders):
    mine, download = folders
    write(mine / "first.py")
    write(download / "sealed_net.py", EVIL)
    (mine / "sealed_net.py").symlink_to(mine / "first.py")
    convert(mine, "sealed_net:build")
    (mine / "sealed_net.py").unlink()
    (mine / "sealed_net.py").symlink_to(download / "sealed_net.py")
    asks(mine)


class Editable:
    """A finder as editable installations have it."""

    def __init__(self, file):
        self.file = file

    def find_spec(self, name, path=None, target=None):
        return spec_from_file_location(name, self.file) if name == "sealed_net" else None


def test_an_editable_installation(folders, monkeypatch):
    mine, download = folders
    write(mine.parent / "src/sealed_net.py")
    write(download / "other.py", EVIL)
    sys.meta_path.append(Editable(mine.parent / "src/sealed_net.py"))
    saved = convert(mine, "sealed_net:build")
    in_download(saved, download, monkeypatch)
    opens()
    forget()
    sys.meta_path[-1] = Editable(download / "other.py")
    asks(download)


@pytest.mark.parametrize("entry", ["", "."])
def test_a_file_with_the_name_of_a_library(folders, monkeypatch, entry):
    """A plan may name a library's model without a seal; what lies in the working folder is not the library."""
    mine, download = folders
    write(mine / "sealed_net.py")
    saved = convert(mine, "sealed_net:build")
    content = json.loads((saved / "plan.json").read_text())
    content["base"]["model"] = "timm:resnet18"
    (saved / "plan.json").write_text(json.dumps(content))
    write(download / "timm.py", EVIL)
    in_download(saved, download, monkeypatch)
    sys.path.insert(0, entry)
    asks(download)


def key():
    return (Path(click.get_app_dir("saconv-surgeon")) / "key").read_bytes()


@pytest.mark.parametrize(("model", "bound"), [("sealed_net.py:build", True), ("sealed_net:build", False)])
def test_seals_of_older_versions(folders, model, bound):
    """They bound a path, and no name of a module."""
    mine, _ = folders
    write(mine / "sealed_net.py")
    saved = convert(mine, model)
    content = json.loads((saved / "plan.json").read_text())
    signed = json.dumps([model, str((mine / "sealed_net.py").resolve()) if bound else None]).encode()
    content["seal"] = hmac.new(key(), signed, hashlib.sha256).hexdigest()
    (saved / "plan.json").write_text(json.dumps(content))
    opens() if bound else asks(mine)


@pytest.mark.parametrize("seal", ["", ":", "::", f"{FORMAT}::", f"{FORMAT}:{'0' * 64}:{'0' * 64}", "é", 5, None, []])
def test_seals_that_are_none(folders, seal):
    mine, _ = folders
    write(mine / "sealed_net.py")
    saved = convert(mine, "sealed_net:build")
    content = json.loads((saved / "plan.json").read_text())
    (saved / "plan.json").write_text(json.dumps(content | {"seal": seal}))
    asks(mine)


def test_with_leave_the_strangers_module_runs(folders, monkeypatch):
    """The marks above can be left."""
    mine, download = folders
    write(mine / "sealed_net.py")
    saved = convert(mine, "sealed_net:build")
    write(download / "sealed_net.py", EVIL)
    in_download(saved, download, monkeypatch)
    result = CliRunner().invoke(cli, ["inspect", "saved", "--trust"])
    assert result.exit_code == 0, result.output
    assert (download / "mark").exists()


def test_a_package_that_moves_its_own_path_asks(folders):
    """Only importing it would show its parts."""
    mine, _ = folders
    write(mine / "sealed_pkg/__init__.py", "import os\n__path__.append(os.path.join(__path__[0], '..', 'hidden'))\n")
    write(mine / "hidden/net.py")
    convert(mine, "sealed_pkg.net:build")
    asks(mine)
