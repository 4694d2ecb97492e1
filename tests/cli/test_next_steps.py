"""Reports in files say what made them and what can be done next."""

import datetime
import re

import torch

from saconv_surgeon import __version__
from saconv_surgeon.cli.command_line import made_by
from tests.cli.running import FAST, run

NETS = """
from torch import nn
import torch
def build(): torch.manual_seed(0); return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
def example_inputs(): return torch.randn(1, 3, 16, 16)
"""


def test_the_steps_of_a_conversion_run_as_they_stand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    made = run("convert", "nets.py:build", "--no-latency", "-o", "out dir", "--report", "r.html", "--report", "r.md")
    assert made.exit_code == 0, made.output
    page, text = (tmp_path / "r.html").read_text(), (tmp_path / "r.md").read_text()
    assert "What next" in page
    today = datetime.date.today().isoformat()
    command = "saconv-surgeon convert nets.py:build --no-latency -o 'out dir'"
    assert f"{today}, saconv-surgeon {__version__}, torch {torch.__version__.partition('+')[0]}" in page
    assert command.replace("'", "&#39;") in page
    blocks = re.findall(r"```\n(.*?)\n```", text.partition("**What next**")[2], re.DOTALL)
    assert blocks[0] == "out dir"
    scope = {}
    code = blocks[1].replace("build_your_model", "build")
    exec("import torch\nfrom nets import build\n" + code, scope)
    assert type(scope["model"][0]).__name__ == "SAConv2d"
    assert blocks[2].splitlines() == [
        "saconv-surgeon convert 'out dir' --plan 'out dir/plan.json' --weights trained.pt -o trained",
        "saconv-surgeon diff 'out dir' trained",
    ]
    torch.save(scope["model"].state_dict(), "trained.pt")
    assert blocks[3] == "saconv-surgeon fold 'out dir' --weights trained.pt -o model.onnx"
    again = ("convert", "out dir", "--plan", "out dir/plan.json", "--weights", "trained.pt", "-o", "trained")
    assert run(*again, "--no-latency").exit_code == 0
    assert run("diff", "out dir", "trained", "--no-latency").exit_code == 0
    assert run("fold", "out dir", "--weights", "trained.pt", "--no-latency", "-o", "model.pt").exit_code == 0


def test_other_commands_say_what_made_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    seen = run("profile", "nets.py:build", *FAST, "--report", "p.html")
    assert seen.exit_code == 0, seen.output
    page = (tmp_path / "p.html").read_text()
    assert "saconv-surgeon profile nets.py:build" in page
    assert "What next" not in page
    assert made_by() == ""


def test_a_dry_run_has_saved_nothing_to_go_on_with(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    assert run("convert", "nets.py:build", "--no-latency", "--dry-run", "--report", "r.md").exit_code == 0
    assert "What next" not in (tmp_path / "r.md").read_text()
