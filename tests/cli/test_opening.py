"""From arguments to a model that runs: code that ends the process, folders that remember their inputs."""

import json
import sys

import pytest

from tests.cli.running import run

QUICK = ["--no-latency"]
SOURCE = """
import io, os, sys
import torch
from torch import nn

class Ends(nn.Module):
    def __init__(self, runs, status="sys.exit()"):
        super().__init__()
        self.conv, self.runs, self.status = nn.Conv2d(3, 8, 3), runs, status
    def forward(self, x):
        Ends.done = getattr(Ends, "done", 0) + 1
        if Ends.done > self.runs:
            eval(self.status)
        return self.conv(x)

def at_once():
    os._exit(0)

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.embed = nn.Conv2d(3, 8, 3, padding=1), nn.Embedding(50, 8)
    def forward(self, image, tokens, scale=None):
        y = self.conv(image) + self.embed(tokens).mean(1)[:, :, None, None]
        return y * scale["by"] if scale else y

class Each(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
    def forward(self, images):
        return [self.conv(image[None].float()) for image in images]

class ChannelsFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
    def forward(self, x):
        return self.conv(x.transpose(0, 1))

class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
    def forward(self, x):
        return self.conv(x.data[:, :, None, None].expand(-1, -1, 4, 4))

def of_packed():
    return nn.utils.rnn.pack_sequence([torch.randn(5, 3), torch.randn(3, 3)])

def of_lines():
    yield torch.rand(1, 3, 8, 8)

def of_channels():
    return torch.rand(3, 5, 8, 8)

def conv():
    return nn.Sequential(nn.Conv2d(3, 8, 3))

def of_two():
    return {"image": torch.rand(2, 3, 10, 10), "tokens": torch.randint(0, 50, (2, 5)), "scale": {"by": 2.0}}

def of_each():
    return [torch.randint(0, 256, (3, 9, 12), dtype=torch.uint8), torch.randint(0, 256, (3, 40, 30), dtype=torch.uint8)]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "opened_nets.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("opened_nets", None)


@pytest.mark.parametrize("runs", range(6))
@pytest.mark.parametrize("status", ["sys.exit()", "os._exit(0)"])
def test_forward_that_ends_the_process(folder, runs, status):
    """In the first run, the census, the trace, the proof …: never a success without a result."""
    arguments = [
        "convert",
        f"opened_nets.py:Ends({runs}, status={status!r})",
        "--input",
        "1x3x9x9",
        *QUICK,
        "-o",
        "out",
    ]
    result = run(*arguments)
    assert result.exit_code == 3
    assert "ended the process (exit status 0)" in result.stderr
    assert "eval(self.status)" in result.stderr
    assert not (folder / "out").exists()


def test_factory_that_ends_the_process_at_once(folder):
    import os

    at_once = os._exit
    result = run("inspect", "opened_nets.py:at_once", "--input", "1x3x9x9")
    assert result.exit_code == 3
    assert "opened_nets.py:at_once ended the process" in result.stderr
    assert os._exit is at_once


def test_forward_that_changes_the_process(folder):
    source = folder / "opened_nets.py"
    source.write_text(
        source.read_text() + "\nclass Wanders(nn.Conv2d):\n    def forward(self, x):\n        os.chdir('/')\n"
        "        sys.stdout = sys.stderr = io.StringIO()\n        return super().forward(x)\n"
        "def wanders(): return nn.Sequential(nn.Conv2d(3, 3, 3), Wanders(3, 3, 3))\n"
    )
    arguments = ["convert", "opened_nets.py:wanders", "--input", "1x3x9x9", *QUICK, "-o", "out", "--report", "r.md"]
    result = run(*arguments, "--json", "r.json")
    assert result.exit_code == 0, result.stderr
    assert {p.name for p in folder.iterdir()} >= {"out", "r.md", "r.json"}
    assert "1 converted" in result.stdout
    assert "saved out" in result.stderr


def macs(*arguments):
    result = run("profile", *arguments, *QUICK, "--json", "-")
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    return record["macs"], record["input_shapes"]


def converted(model, *inputs, out="out"):
    given = [part for each in inputs for part in ("--input", each)]
    result = run("convert", f"opened_nets.py:{model}", *given, *QUICK, "-o", out)
    assert result.exit_code == 0, result.stderr
    return out


@pytest.mark.parametrize(
    ("model", "inputs", "shapes"),
    [
        ("conv", ["2x3x17x9"], [[2, 3, 17, 9]]),
        ("Two", ["opened_nets.py:of_two"], [[2, 3, 10, 10], [2, 5]]),
        ("Each", ["opened_nets.py:of_each"], [[3, 9, 12], [3, 40, 30]]),
    ],
)
def test_folder_remembers_its_inputs(folder, model, inputs, shapes):
    out = converted(model, *inputs)
    plan = json.loads((folder / out / "plan.json").read_text())
    assert plan["inputs"]["shapes"] == shapes
    assert plan["base"]["inputs"] == inputs
    assert macs(out) == macs(out, *(part for each in inputs for part in ("--input", each)))
    assert macs(out)[1] == shapes
    for command in (["fold", out, "-o", "f.pt"], ["diff", out, f"opened_nets.py:{model}"], ["inspect", out]):
        result = run(*command, *(QUICK if command[0] != "inspect" else []))
        assert result.exit_code == 0, result.stderr
    assert run("convert", out, "--dry-run", *QUICK).exit_code == 4  # it ran, and has been converted already


def test_remembered_inputs_are_overridden(folder):
    out = converted("conv", "1x3x9x9")
    assert macs(out, "--input", "1x3x20x20")[1] == [[1, 3, 20, 20]]
    assert macs(out)[1] == [[1, 3, 9, 9]]


def test_diff_takes_the_inputs_of_the_only_one_that_has_some(folder):
    out = converted("conv", "1x3x9x9")
    for pair in ([out, "opened_nets.py:conv"], ["opened_nets.py:conv", out]):
        result = run("diff", *pair, *QUICK, "--json", "-")
        assert json.loads(result.stdout)["outputs"]["max_abs"] is not None, result.stderr
    result = run("diff", "opened_nets.py:conv", "opened_nets.py:Each", *QUICK)
    assert result.exit_code == 2
    assert "opened_nets.py:conv: no inputs to run it on" in result.stderr


def test_folder_saved_from_python_remembers_its_inputs(folder):
    import torch

    import saconv_surgeon as surgeon

    surgeon.save(
        surgeon.convert(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3)), torch.rand(1, 3, 14, 9), trials=1), "out"
    )
    assert macs("out", "--base", "opened_nets.py:conv")[1] == [[1, 3, 14, 9]]


def test_folder_of_an_older_version_asks_for_inputs(folder):
    out = converted("conv", "1x3x9x9")
    plan = json.loads((folder / out / "plan.json").read_text())
    del plan["inputs"], plan["base"]["inputs"]
    (folder / out / "plan.json").write_text(json.dumps(plan))
    result = run("profile", out, *QUICK)
    assert result.exit_code == 2
    assert "no inputs to run it on" in result.stderr
    assert macs(out, "--input", "1x3x9x9")[1] == [[1, 3, 9, 9]]


def test_inputs_of_the_models_own_source_are_taken_from_there(folder):
    source = folder / "opened_nets.py"
    source.write_text(source.read_text() + "\ndef example_inputs(): return torch.full((1, 3, 11, 11), 7.0)\n")
    assert macs(converted("conv"))[1] == [[1, 3, 11, 11]]
    assert macs(converted("conv", "1x3x9x9", out="other"))[1] == [[1, 3, 9, 9]]


def test_inputs_that_cannot_be_described_are_asked_for(folder):
    source = folder / "opened_nets.py"
    source.write_text(source.read_text() + "\nclass Box(list): ...\ndef box(): return (Box([torch.ones(3, 9, 9)]),)\n")
    out = converted("Each", "opened_nets.py:box")
    assert json.loads((folder / out / "plan.json").read_text())["inputs"]["problem"] is not None
    result = run("fold", out, "-o", "f.pt", *QUICK)
    assert result.exit_code == 2
    assert "argument 1 is a Box, which has no description; give --input opened_nets.py:box" in result.stderr
    assert run("fold", out, "-o", "f.pt", *QUICK, "--input", "opened_nets.py:box").exit_code == 0


def test_folding_records_its_inputs(folder):
    out = converted("conv", "1x3x9x9")
    result = run("fold", out, "--dry-run", *QUICK, "--json", "-")
    assert json.loads(result.stdout)["inputs"]["shapes"] == [[1, 3, 9, 9]]


@pytest.mark.parametrize("given", ["3x5x8x8", "opened_nets.py:of_channels"])
def test_folder_remembers_the_batch_axis(folder, given):
    """With axis 0, a batch of 2 would have two channels of three, which the model refuses."""
    made = run(
        *("convert", "opened_nets.py:ChannelsFirst", "--input", given, "--batch-axis", 1, "-o", "out", *QUICK),
    )
    assert made.exit_code == 0, made.stderr
    assert json.loads((folder / "out/plan.json").read_text())["inputs"]["batch_axis"] == 1

    def batches(*arguments):
        found = run(*arguments, "--batch", "2", "--budget", "0.1", "--json", "-")
        return found.exit_code, found.stderr

    for arguments in (
        ("profile", "out"),
        ("profile", "out", "--input", "3x4x8x8"),
        ("diff", "opened_nets.py:ChannelsFirst", "out", "--input", "3x4x8x8"),
    ):
        code, said = batches(*arguments)
        assert code == 0, said
    code, said = batches("profile", "out", "--batch-axis", "0")
    assert code == 3, said


def test_a_plan_without_a_batch_axis_has_the_first(folder):
    assert run("convert", "opened_nets.py:conv", "--input", "2x3x8x8", "-o", "out", *QUICK).exit_code == 0
    assert json.loads((folder / "out/plan.json").read_text())["inputs"]["batch_axis"] is None
    assert run("profile", "out", "--batch", "1", "--budget", "0.1").exit_code == 0


def test_a_packed_sequence_is_one_argument(folder):
    made = run("convert", "opened_nets.py:Packed", "--input", "opened_nets.py:of_packed", "--dry-run", *QUICK)
    assert made.exit_code == 0, made.stderr
    assert "on 3 inputs" in made.stdout


def test_a_generator_is_refused(folder):
    made = run("convert", "opened_nets.py:Each", "--input", "opened_nets.py:of_lines", "--dry-run", *QUICK)
    assert made.exit_code == 2
    assert "argument 1 is a generator, which the first run uses up" in made.stderr
