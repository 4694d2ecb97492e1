"""``inspect --to all``: all targets side by side."""

import json

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.convs.targets.known_targets import TARGETS
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.surgery.decisions import Selection
from saconv_surgeon.surgery.every_target import every_target
from tests.cli.running import run

X = torch.randn(2, 8, 10, 10)


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 4, 1)).eval()


def offers(choice, i):
    return {offer.target: offer for offer in choice.sites[i].offers}


def test_prices_by_hand():
    choice = every_target(build(), Inputs.of(X))
    first, depthwise, pointwise = (offers(choice, i) for i in range(3))
    places = 2 * 10 * 10
    assert choice.sites[0].macs == places * 8 * 8 * 9
    assert (first["repvgg"].parameters, first["repvgg"].macs) == (64 + 4 * 8, places * 64)
    assert (first["repvgg"].folded_parameters, first["repvgg"].folded_macs) == (0, 0)
    assert first["acb"].macs == places * 64 * 6
    assert first["refconv"].macs == 64 * 9 * 9
    assert first["saconv"].macs == places * (64 * 9 + 8) + 2 * 2 * 64
    assert first["saconv"].folded_macs is None
    assert first["wtconv"].reason.startswith("not depthwise")
    inner = 2 * 8 * 8
    assert depthwise["dilated-reparam"].folded_macs == inner * 8 * (49 - 9)
    assert depthwise["wtconv"].macs == 2 * 4 * 8 * 25 * (9 + 8)
    assert depthwise["saconv"].reason.endswith("--to dilated-reparam or wtconv is made for these")
    assert all(offer.reason for name, offer in pointwise.items() if name != "aws")
    by_name = {summary.target: summary for summary in choice.targets}
    assert list(by_name) == list(TARGETS)
    assert by_name["dbb"].fits == 2
    assert by_name["dbb"].start == "equal to the bit"
    assert by_name["spconv"].start == "not equal"
    assert by_name["saconv"].folded_macs is None


def test_a_selection_and_options_hold_for_all():
    choice = every_target(
        build(), Inputs.of(X), selection=Selection(include=("1",), options={"kernel": "9", "levels": "2"})
    )
    assert offers(choice, 0)["dbb"].reason == "matched by no --include pattern"
    depthwise = offers(choice, 1)
    assert depthwise["dilated-reparam"].folded_macs == 2 * 64 * 8 * (81 - 9)
    assert depthwise["wtconv"].macs == 2 * 4 * 8 * (25 + 9) * (9 + 8)
    with pytest.raises(surgeon.UsageError, match="no target has an option 'colour'"):
        every_target(build(), Inputs.of(X), selection=Selection(options={"colour": "red"}))


def test_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(
        "from torch import nn\nimport torch\ndef build(): return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))\n"
        "def example_inputs(): return torch.randn(1, 3, 16, 16)\n"
    )
    reports = [part for kind in ("html", "md", "csv", "svg") for part in ("--report", f"all.{kind}")]
    seen = run("inspect", "nets.py:build", "--to", "all", "--json", "all.json", *reports)
    assert seen.exit_code == 0, seen.output
    assert "Where a target does not fit" in seen.output
    record = json.loads((tmp_path / "all.json").read_text())
    assert record["schema"] == "saconv-surgeon/targets/1"
    assert record["macs"] == 196 * 27 * 4 + 144 * 36 * 4
    assert [t["target"] for t in record["targets"]] == list(TARGETS)
    assert "diverse branch" not in seen.output
    assert "folds to one convolution" in (tmp_path / "all.html").read_text()
    assert (tmp_path / "all.csv").read_text().startswith("path,macs,saconv macs")
    refused = run("convert", "nets.py:build", "--to", "all", "-o", "out")
    assert refused.exit_code == 2
    assert "--to all is for inspect" in refused.output
    gated = run("inspect", "nets.py:build", "--to", "all", "--fail-if", "macs>1")
    assert gated.exit_code == 1


def test_reasons_stand_once_unless_every_row_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(
        "from torch import nn\nimport torch\n"
        "def build(): return nn.Sequential(nn.Conv2d(3, 4, 3), *[nn.Conv2d(4, 4, 1) for _ in range(9)])\n"
        "def example_inputs(): return torch.randn(1, 3, 16, 16)\n"
    )
    short, whole = run("inspect", "nets.py:build"), run("inspect", "nets.py:build", "-v")
    assert short.output.count("1×1 kernel") == 1
    assert "9 × 1×1 kernel" in short.output
    assert whole.output.count("1×1 kernel") == 9
    none = run("inspect", "nets.py:build", "--exclude", "*")
    assert none.output.count("1×1 kernel") == 9  # a table without rows says nothing
