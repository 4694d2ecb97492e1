"""Terminals and pipes that are not UTF-8, are closed, or are full."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from saconv_surgeon.cli import cli
from saconv_surgeon.cli.encoding import SPELLED_OUT, prepare_streams
from saconv_surgeon.report.formats import FORMATS
from tests.cli.running import NETS, SIZE

QUICK = ["--no-latency"]
NOT_UNICODE = ["cp1252", "latin-1", "ascii", "cp437", "koi8-r"]


def run(*arguments, charset="utf-8"):
    return CliRunner(charset=charset).invoke(cli, list(map(str, arguments)))


@pytest.mark.parametrize("charset", NOT_UNICODE)
def test_conversion_reports_and_record_are_there_whatever_the_terminal(tmp_path, charset):
    files = [tmp_path / f"r{kind}" for kind in FORMATS]
    reports = [part for file in files for part in ("--report", file)]
    arguments = ["convert", f"{NETS}:chain", *SIZE, *QUICK, "-o", tmp_path / "out"]
    result = run(*arguments, *reports, "--json", tmp_path / "r.json", charset=charset)
    assert result.exit_code == 0, result.output
    assert "-> saconv" in result.stdout.replace("→", "->")
    assert "saved" in result.stderr
    assert (tmp_path / "out" / "plan.json").exists()
    assert "→" in (tmp_path / "r.md").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["converted"] == 2
    assert all(file.exists() for file in files)


@pytest.mark.parametrize("command", ["inspect", "profile", "diff", "fold"])
def test_every_command_speaks_ascii(tmp_path, command):
    models = [f"{NETS}:chain"] * (2 if command == "diff" else 1)
    more = (QUICK if command != "inspect" else []) + (["--dry-run"] if command == "fold" else [])
    result = run(command, *models, *SIZE, *more, charset="ascii")
    assert result.exit_code == (4 if command == "fold" else 0), result.output
    assert result.output.isascii()
    assert "\\u" not in result.output


@pytest.mark.parametrize("command", ["--help", "convert --help", "env", "inspect no→such.py:model"])
def test_help_and_errors_are_written_in_any_encoding(command):
    result = run(*command.split(), charset="cp1252")
    assert result.exit_code == (3 if "such" in command else 0), result.exception
    assert "no->such.py" in result.stderr or "such" not in command


@pytest.mark.parametrize("charset", [*NOT_UNICODE, "utf-8", "utf-16"])
def test_record_on_stdout_is_whole_in_any_encoding(tmp_path, charset):
    (tmp_path / "naïve_网络.py").write_text("from torch import nn\nclass Net(nn.Conv2d): ...\n", encoding="utf-8")
    spec = f"{tmp_path / 'naïve_网络.py'}:Net(3, 4, 3)"
    result = run("inspect", spec, "--input", "1x3x9x9", "--json", "-", charset=charset)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["model"] == spec


@pytest.mark.parametrize("charset", ["utf-8", "ascii"])
def test_file_name_that_is_no_text(tmp_path, charset):
    name = os.fsdecode(b"net_\xff.py")
    (tmp_path / name).write_text("from torch import nn\ndef build(): return nn.Conv2d(3, 4, 3)\n")
    spec = f"{tmp_path / name}:build"
    arguments = ["convert", spec, "--input", "1x3x9x9", *QUICK, "-o", tmp_path / "out", "--report", tmp_path / "r.md"]
    result = run(*arguments, "--json", tmp_path / "r.json", charset=charset)
    assert result.exit_code == 0, result.output
    assert "net_\\udcff.py" in result.stdout
    assert json.loads((tmp_path / "r.json").read_text())["base"]["model"] == spec
    assert json.loads((tmp_path / "out" / "plan.json").read_text())["base"]["model"] == spec
    assert "udcff" in (tmp_path / "r.md").read_text()


class Unwritable:
    """A stream in front of ``stream`` that takes nothing."""

    encoding = "utf-8"

    def __init__(self, number):
        self.number = number

    def write(self, text):
        raise OSError(self.number, os.strerror(self.number))

    def flush(self):
        pass

    def isatty(self):
        return False


@pytest.mark.parametrize(("number", "code"), [(errno.EPIPE, 0), (errno.ENOSPC, 2), (errno.EIO, 2)])
def test_what_cannot_be_printed_was_saved_before(tmp_path, monkeypatch, number, code):
    from saconv_surgeon.cli import output

    console = output.report_console

    def broken(json_to, quiet):
        made = console(json_to, quiet)
        made.file = Unwritable(number)
        return made

    monkeypatch.setattr(output, "report_console", broken)
    arguments = ["convert", f"{NETS}:chain", *SIZE, *QUICK, "-o", tmp_path / "out", "--report", tmp_path / "r.md"]
    result = run(*arguments, "--json", tmp_path / "r.json")
    assert result.exit_code == code, result.output
    assert {p.name for p in tmp_path.iterdir()} == {"out", "r.md", "r.json"}
    assert (tmp_path / "out" / "plan.json").exists()
    assert ("cannot be written" in result.stderr) == (code == 2)


def test_one_output_that_fails_loses_no_other(tmp_path, monkeypatch):
    from saconv_surgeon.errors import ModelError
    from saconv_surgeon.saving import save as saving

    real = saving.save

    def save(made, path, **options):
        if path.name == "bad.pt":
            raise ModelError("the disk is full")
        return real(made, path, **options)

    monkeypatch.setattr(saving, "save", save)
    outputs = ["-o", tmp_path / "bad.pt", "-o", tmp_path / "out"]
    result = run("convert", f"{NETS}:chain", *SIZE, *QUICK, *outputs, "--json", tmp_path / "r.json")
    assert result.exit_code == 3
    assert "the disk is full" in result.stderr
    assert f"saved {tmp_path / 'out'}" in result.stderr
    assert "→" in result.stdout
    assert (tmp_path / "out" / "plan.json").exists()
    assert (tmp_path / "r.json").exists()


def test_signs_of_the_reports_are_spelled_out():
    prepare_streams()
    assert "3×3 → ½ é ✓".encode("ascii", "saconv_surgeon.spelled_out") == b"3x3 -> \\xbd \\xe9 ok"
    assert all(text.isascii() for text in SPELLED_OUT.values())
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("ascii", "saconv_surgeon.spelled_out")


CHATTY = """
import os, sys
import argparse
argparse.ArgumentParser().parse_args()
os.chdir("/")
os.system("echo from a child")
os.write(1, b"from the descriptor\\n")
print("from the real one", file=sys.__stdout__, flush=True)
sys.stdout = open(os.devnull, "w")
from torch import nn
def build(): return nn.Conv2d(3, 8, 3)
"""


def test_process_of_its_own(tmp_path):
    """Everything at once, as in a shell."""
    (tmp_path / "chatty.py").write_text(CHATTY)
    command = [sys.executable, "-W", "ignore", "-m", "saconv_surgeon", "inspect", "chatty:build", "--input", "1x3x9x9"]
    found = subprocess.run(
        [*command, "--json", "-", "--report", "r.md"],
        cwd=tmp_path,
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "latin-1", "PYTHONPATH": str(Path.cwd())},
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["ledger"]["converted"] == 1
    for said in (b"from a child", b"from the descriptor", b"from the real one", b"-> saconv"):
        assert said in found.stderr
    assert (tmp_path / "r.md").exists()
