"""What the command line checks before and after the work."""

import json

import pytest

from tests.cli.running import NETS, RESNET, SIZE, run


def test_diff_of_two_reports(tmp_path):
    for name, spec in (("a", RESNET), ("b", "sample_models/tiny_resnet.py:build(depth=2, width=8)")):
        run("profile", spec, "--no-latency", "--json", tmp_path / f"{name}.json")
    result = run("diff", tmp_path / "a.json", tmp_path / "b.json")
    assert result.exit_code == 0, result.stderr
    assert "layer1.1.conv1" in result.stdout


UNKNOWN = """
import torch
from torch import nn
class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)
    def forward(self, x):
        return torch.special.bessel_j0(self.conv(x))
def example_inputs():
    return torch.zeros(1, 3, 8, 8)
"""


def test_a_report_is_no_model(tmp_path):
    run("profile", RESNET, "--no-latency", "--json", tmp_path / "a.json")
    result = run("profile", tmp_path / "a.json")
    assert result.exit_code == 3
    assert "is a report, not a model" in result.stderr


def test_strict_fails_where_something_is_not_counted(tmp_path):
    (tmp_path / "odd.py").write_text(UNKNOWN)
    spec = f"{tmp_path / 'odd.py'}:Odd"
    for command in (["profile", spec], ["convert", spec, "--dry-run"], ["diff", spec, spec]):
        assert run(*command, "--no-latency").exit_code == 0
        result = run(*command, "--no-latency", "--strict")
        assert result.exit_code == 1
        assert "has operations that are not counted: aten::special_bessel_j0" in result.stderr
        assert "Not counted in FLOPs" in result.stdout
    assert run("profile", RESNET, "--no-latency", "--strict").exit_code == 0


def test_plan_is_edited_and_replayed(tmp_path):
    run("convert", f"{NETS}:chain", *SIZE, "--dry-run", "--no-latency", "--json", tmp_path / "plan.json")
    plan = json.loads((tmp_path / "plan.json").read_text())
    plan["sites"][0]["decision"] = "refuse"
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    arguments = [
        "convert",
        f"{NETS}:chain",
        *SIZE,
        "--plan",
        tmp_path / "plan.json",
        "--dry-run",
        "--no-latency",
        "--json",
        "-",
    ]
    record = json.loads(run(*arguments).stdout)
    assert [s["decision"] for s in record["sites"]] == ["refuse", "convert"]
    assert run(*arguments, "--include", "0").exit_code == 2


@pytest.mark.parametrize("command", ["convert", "fold"])
def test_factories_are_listed_before_the_output_is_asked_for(command, tmp_path):
    file = tmp_path / "listed_nets.py"
    file.write_text("def small(): ...\ndef large(depth=3): ...\n")
    for given in (file, f"{file}:"):
        result = run(command, given)
        assert result.exit_code == 3, result.stderr
        assert f"{file}:small()" in result.stderr
        assert f"{file}:large(depth=3)" in result.stderr
        assert "where to?" not in result.stderr
    for given in (f"{file}:small", tmp_path, "model.pt"):
        result = run(command, given)
        assert (result.exit_code, "where to?" in result.stderr) == (2, True)
