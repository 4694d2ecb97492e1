"""Warnings on the command line: one line each of ours, Python's form for others, no text twice."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from torch import nn

from saconv_surgeon.cli.warning_lines import warnings_in_lines
from saconv_surgeon.convs.parameter_extras import carry_to_layer
from saconv_surgeon.errors import FusingMethodWarning, LostLayerWarning
from tests.cli.running import FAST, run

ROOT = Path(__file__).parents[2]
NET = (
    "import warnings\nimport torch\nfrom torch import nn\n"
    "class Net(nn.Sequential):\n"
    "    def forward(self, x):\n"
    "        warnings.warn('slow on Tuesdays')\n"
    "        return super().forward(x)\n"
    "    def fuse(self): pass\n"
    "def build(): return Net(nn.Conv2d(3, 3, 3), nn.ReLU())\n"
    "def example_inputs(): return torch.randn(1, 3, 8, 8)\n"
)


@pytest.fixture(autouse=True)
def by_python():
    """And a list of what Python would show."""
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        yield shown


def test_a_command_shows_ours_in_one_line_and_others_once(tmp_path, by_python):
    (tmp_path / "net_that_warns.py").write_text(NET)
    shown = warnings.showwarning
    result = run("convert", f"{tmp_path}/net_that_warns.py:build", "--dry-run", *FAST)
    assert result.exit_code == 0, result.stderr
    ours = [line for line in result.stderr.splitlines() if "merge convolutions" in line]
    assert len(ours) == 1
    assert ours[0].startswith("saconv-surgeon: warning: around converted layers")
    assert "Net.fuse() (the model itself)" in ours[0]
    assert "FusingMethodWarning" not in result.stderr
    assert [str(w.message) for w in by_python].count("slow on Tuesdays") == 1
    assert warnings.showwarning is shown


@pytest.mark.parametrize("kind", [FusingMethodWarning, LostLayerWarning])
def test_the_classes_of_this_package_are_ours(kind, capsys):
    with warnings_in_lines():
        for text in ("one\nthing", "one\nthing", "another"):
            warnings.warn(text, kind, stacklevel=1)
    assert capsys.readouterr().err == "saconv-surgeon: warning: one thing\nsaconv-surgeon: warning: another\n"


def test_a_plain_warning_of_this_package_is_ours(capsys):
    old, new = nn.Conv2d(3, 3, 3), nn.ReLU()
    old.weight.note = "mine"
    with warnings_in_lines():
        carry_to_layer(old, new, "here")
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert all(line.startswith("saconv-surgeon: warning: here.weight had") for line in lines)


def test_warnings_of_others_are_left_to_python(by_python, capsys):
    with warnings_in_lines():
        for _ in range(2):
            warnings.warn("of the test", stacklevel=1)
            warnings.warn("of the test", DeprecationWarning, stacklevel=1)
            warnings.warn("Triggered internally at x.cpp", stacklevel=1)
    assert [w.category for w in by_python] == [UserWarning, DeprecationWarning, UserWarning]
    assert {w.filename for w in by_python} == {__file__}
    assert capsys.readouterr().err == ""


def test_each_command_says_it_again(capsys):
    for _ in range(2):
        with warnings_in_lines():
            warnings.warn("gone", LostLayerWarning, stacklevel=1)
    assert capsys.readouterr().err == "saconv-surgeon: warning: gone\n" * 2


def test_no_deprecation_inside_of_torch_reaches_users():
    """In a process of its own, since modules are imported once, and with every warning an error from where torch is imported."""
    code = """
import warnings
import torch
from torch import nn
warnings.simplefilter("error")
import saconv_surgeon as surgeon
for name in surgeon.__all__:
    getattr(surgeon, name)
model, x = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU()).eval(), torch.rand(1, 3, 8, 8)
conversion = surgeon.convert(model, x)
assert surgeon.profile(conversion.model, x, timing=None).fvcore_flops
surgeon.fold(conversion.model, x)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
