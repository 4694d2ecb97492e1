"""What goes to stdout, to stderr and to files."""

import json

import pytest

from tests.cli.running import MOVED, NETS, SHORT, SIZE, run

PRINTS = """
import torch
from torch import nn
print("imported")
class Prints(nn.Conv2d):
    def __init__(self):
        super().__init__(3, 3, 3)
        print("built")
    def forward(self, x):
        print("run")
        return super().forward(x)
def example_inputs():
    return torch.zeros(1, 3, 8, 8)
"""


def test_json_on_stdout_is_json_alone(tmp_path):
    (tmp_path / "prints.py").write_text(PRINTS)
    result = run("profile", f"{tmp_path / 'prints.py'}:Prints", *SHORT, "--json", "-")
    assert json.loads(result.stdout)["macs"] == 3 * 3 * 9 * 36
    for said in ("imported", "built", "run", "MACs"):
        assert said in result.stderr
    assert run("env").stdout.startswith("saconv-surgeon")


def test_users_own_fault_keeps_its_traceback(tmp_path):
    (tmp_path / "moved.py").write_text(MOVED)
    result = run("profile", f"{tmp_path / 'moved.py'}:explodes")
    assert result.exit_code == 3
    assert "ZeroDivisionError" in result.stderr
    assert "net.forward = lambda x: 1 / 0" in result.stderr
    assert "saconv_surgeon/" not in result.stderr


def test_our_own_fault_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr("saconv_surgeon.surgery.inspect.make_plan", lambda *a, **k: 1 / 0)
    result = run("inspect", f"{NETS}:chain", *SIZE)
    assert isinstance(result.exception, ZeroDivisionError)


def test_interruption_exits_130(monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("saconv_surgeon.surgery.inspect.make_plan", interrupted)
    result = run("inspect", f"{NETS}:chain", *SIZE)
    assert result.exit_code == 130
    assert "interrupted" in result.stderr


@pytest.mark.parametrize("width", [80, 120, 200])
def test_names_are_never_cut_off_or_eaten(width):
    result = run("inspect", f"{NETS}:Brackets", *SIZE, env={"COLUMNS": str(width)})
    for name in ("parts.[red]x", "parts.<b>&", "parts.[/]"):
        assert name in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= width
    assert "…" not in result.stdout


def test_long_names_are_folded_not_cut(tmp_path):
    name = "a_very_long_name_" * 18
    build = f"def build():\n    m = nn.Sequential()\n    m.add_module({name!r}, nn.Conv2d(3, 3, 3))\n    return m\n"
    (tmp_path / "long.py").write_text(f"from torch import nn\n{build}")
    result = run("inspect", f"{tmp_path / 'long.py'}:build", *SIZE, env={"COLUMNS": "80"})
    lines = result.stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("convolution"))
    rows = lines[start + 1 : lines.index("", start)]
    assert "".join(line.split()[0] for line in rows) == name


def test_no_colour_codes_off_a_terminal():
    assert "\x1b[" not in run("inspect", f"{NETS}:chain", *SIZE).output
