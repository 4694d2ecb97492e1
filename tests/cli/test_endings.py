"""Interruptions, errors that nobody expected, code of strangers: one sentence, the promised exit code, nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from saconv_surgeon.cli import endings
from saconv_surgeon.cli.endings import is_of_the_model, loaded_files, system_said
from tests.cli.running import NETS, SIZE, run

EVIL = "x\x1b[2K\rsaconv-surgeon: all is well\u202e\x9b"


def clean(result):
    shown = result.output + result.stderr
    assert all(c in "\n\t" or c.isprintable() for c in shown), [c for c in shown if not c.isprintable()]
    return shown


NET = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(3, 8, 3)
        self.runs = 0
    def forward(self, x):
        self.runs += 1
        {forward}
        return self.c(x)
    {more}
def build(): return Net()
def example_inputs(): return torch.ones(1, 3, 9, 9)
"""


def written(folder, name, forward="pass", more=""):
    (folder / f"{name}.py").write_text(NET.format(forward=forward, more=more))
    return f"{folder / name}.py:build"


USERS = {
    "forward": "raise ValueError('mine')",
    "exit": "raise SystemExit(0)",
    "memory": "raise MemoryError('mine')",
    "recursion": "(lambda f: f(f))(lambda f: f(f))",
    "os": "raise OSError(28, 'mine')",
    "unicode": "'\\udcff'.encode()",
    "base": "class Odd(BaseException): ...\n        raise Odd('mine')",
    "evil": f"raise ValueError({EVIL!r})",
}


@pytest.mark.parametrize("kind", USERS)
@pytest.mark.parametrize("command", ["inspect", "convert"])
def test_code_of_the_user_that_raises(tmp_path, kind, command):
    spec = written(tmp_path, f"raises_{kind}_{command}", USERS[kind])
    more = ["-o", tmp_path / "out", "--no-latency"] if command == "convert" else []
    result = run(command, spec, *more)
    assert result.exit_code == 3
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.splitlines()[-1].startswith(("saconv-surgeon: ", "  If the inputs"))
    assert sorted(each.suffix for each in tmp_path.iterdir() if each.name != "__pycache__") == [".py"]
    clean(result)


def test_code_of_the_user_that_raises_after_it_was_loaded(tmp_path):
    spec = written(tmp_path, "late", more="def __deepcopy__(self, memo): raise ZeroDivisionError('late')")
    result = run("convert", spec, "-o", tmp_path / "out", "--no-latency")
    assert result.exit_code == 3
    assert "ZeroDivisionError: late" in result.stderr
    assert not (tmp_path / "out").exists()


def test_whose_an_error_is(tmp_path):
    known = loaded_files()
    for name, source, of_the_model in (
        ("mine.py", "def f(): return 1 / 0", True),
        (str(endings.PACKAGE) + "/made_up.py", "def f(): return 1 / 0", False),
        (__file__, "def f(): return 1 / 0", False),
        (json.__file__, "def f(): return 1 / 0", False),
        (str(Path(pytest.__file__).parents[1] / "torch" / "x.py"), "def f(): return 1 / 0", False),
        (str(Path(pytest.__file__).parents[1] / "timm" / "x.py"), "def f(): return 1 / 0", True),
    ):
        made = {}
        exec(compile(source, name, "exec"), made)
        try:
            made["f"]()
        except ZeroDivisionError as error:
            assert is_of_the_model(error, known) == of_the_model, name


@pytest.mark.parametrize("error", [MemoryError(), RecursionError("deep"), OSError(24, "too many"), "\udcff"])
def test_errors_of_the_system_are_sentences(monkeypatch, error):
    def fails(*args, **kwargs):
        if isinstance(error, str):
            error.encode()
        raise error

    monkeypatch.setattr("saconv_surgeon.surgery.inspect.make_plan", fails)
    result = run("inspect", f"{NETS}:chain", *SIZE)
    assert result.exit_code == 3
    assert result.stderr.startswith("saconv-surgeon: ")
    assert "Traceback" not in result.stderr
    assert result.stderr.count("\n") == 1
    assert system_said(MemoryError()).startswith("there is not enough memory")


@pytest.mark.parametrize(
    ("report", "code"),
    [
        ("[" * 100_000, 2),
        ('{"layers": [{"path": "' + "." * 5000 + '"}]}', 2),
        ("1" * 5000, 2),
        ('{"parameters": 1e999}', 2),
        ("\x1b[2K", 2),
        ('{"schema": "' + EVIL.encode("unicode_escape").decode().replace("\\x", "\\u00") + '"}', 2),
    ],
)
@pytest.mark.parametrize("command", ["diff", "profile", "convert"])
def test_reports_that_make_no_sense(tmp_path, report, code, command):
    file = tmp_path / "r.json"
    file.write_text(report)
    if command == "diff":
        result = run("diff", file, file)
    elif command == "profile":
        result = run("profile", f"{NETS}:chain", *SIZE, "--compare", file)
    else:
        result, code = run("convert", f"{NETS}:chain", *SIZE, "--plan", file, "--dry-run"), 3
    assert (result.exit_code, type(result.exception)) == (code, result.exc_info[0])
    assert "Traceback" not in clean(result)


@pytest.mark.parametrize("size", ["9" * 5000 + "x1", "1x" + "9" * 19, "9" * 18 + "x9" * 2, "1x3x-1", "٣x٣", ""])
def test_sizes_that_make_no_sense(size):
    result = run("inspect", f"{NETS}:chain", "--input", size)
    assert result.exit_code in (2, 3), result.exception
    assert result.stderr.startswith("saconv-surgeon: ") or "raised" in result.stderr


@pytest.mark.parametrize("place", ["argument", "option", "file", "name of a layer", "warning"])
def test_nothing_of_a_stranger_acts_on_the_terminal(tmp_path, place):
    if place == "argument":
        result = run("inspect", f"no{EVIL}.py:build")
    elif place == "option":
        result = run("inspect", f"--no{EVIL}")
        assert result.exit_code == 2
    elif place == "file":
        (tmp_path / f"{EVIL.replace('/', '')}.pt").write_bytes(b"nothing")
        result = run("inspect", tmp_path / f"{EVIL}.pt", *SIZE)
    elif place == "warning":
        spec = written(tmp_path, "warns", f"import warnings; warnings.warn({EVIL!r})")
        with pytest.warns(UserWarning) as shown:
            result = run("inspect", spec)
        assert all(str(each.message).isprintable() for each in shown)
    else:
        (tmp_path / "names.py").write_text(
            f"from torch import nn\ndef build():\n m = nn.Sequential()\n m.add_module({EVIL!r}, nn.Conv2d(3, 4, 3))\n return m\n"
        )
        files = [part for kind in ("html", "md", "svg") for part in ("--report", tmp_path / f"r.{kind}")]
        result = run("inspect", f"{tmp_path}/names.py:build", "--input", "1x3x9x9", "--json", "-", *files)
        assert json.loads(result.stdout)["sites"][0]["path"] == EVIL
        for kind in ("html", "md", "svg"):
            assert all(c == "\n" or c.isprintable() or c == "\xa0" for c in (tmp_path / f"r.{kind}").read_text())
    shown = clean(result)
    assert "\\x1b[2K" in shown or "\\u001b[2K" in shown or place == "warning"
    assert not any(line.startswith("saconv-surgeon: all is well") for line in shown.splitlines())


WRITER = """
import sys, time
from pathlib import Path
from saconv_surgeon.cli.app import cli, main
def slow(*args, **kwargs):
    from saconv_surgeon.saving.atomic import writing
    with writing(Path("m.pt")) as part:
        part.write_text("half")
        Path("mark").touch()
        time.sleep(60)
cli.commands["env"].callback = slow
sys.argv = ["saconv-surgeon", "env"]
main()
"""


@pytest.mark.parametrize(
    ("number", "times", "code"), [(signal.SIGINT, 1, 130), (signal.SIGINT, 3, 130), (signal.SIGTERM, 1, -15)]
)
def test_a_process_that_is_told_to_end_while_it_writes(tmp_path, number, times, code):
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", WRITER],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "mark").exists():
        assert process.poll() is None
        time.sleep(0.02)
    for _ in range(times):
        process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == code
    assert said in ("saconv-surgeon: interrupted; nothing half-written was left\n", "")
    assert [each.name for each in tmp_path.iterdir()] == ["mark"]


DEFECT = """
import sys
from saconv_surgeon.cli.app import cli, main
def fails(*args, **kwargs): raise ValueError("a\\x1b[2Kb")
fails.__code__ = fails.__code__.replace(co_filename="<string>")
cli.commands["env"].callback = fails
sys.argv = ["saconv-surgeon", "env"]
main()
"""


def test_a_defect_keeps_its_traceback_and_is_no_failed_check():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", DEFECT], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "Traceback" in done.stderr and "ValueError" in done.stderr
    assert "a defect of saconv-surgeon" in done.stderr.splitlines()[-1]
    assert "\x1b" not in done.stderr


def test_help_into_a_pipe_that_nobody_reads():
    reading, writing_end = os.pipe()
    os.close(reading)
    command = [sys.executable, "-W", "ignore", "-m", "saconv_surgeon", "--help"]
    done = subprocess.run(command, stdout=writing_end, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing_end)
    assert (done.returncode, done.stderr) == (0, "")
