"""``--redraw``: the user's own inputs for the trials of a proof."""

import json

import pytest

from tests.cli.running import run

FILE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.conv = nn.Embedding(10, 3), nn.Conv2d(3, 4, 3)
    def forward(self, ids):
        return self.conv(self.table(ids).transpose(1, 2).unflatten(2, (4, 4)))

def build():
    return Net()

def example_inputs():
    return torch.zeros(1, 16, dtype=torch.int64)

def make(inputs, trial):
    return (inputs + trial) % 10

def twice(inputs, trial):
    return inputs, inputs

def broken(inputs, trial):
    raise RuntimeError("no more data")

number = 3
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "redraws.py"
    path.write_text(FILE)
    return path


def convert(file, *arguments):
    return run("convert", f"{file}:build", "--no-latency", "--json", "-", *arguments)


def test_without_it_the_report_says_one_input(file):
    result = convert(file, "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["equivalence"]["different_inputs"] == 1
    assert "on 1 input" in result.stderr
    assert "--redraw file.py:make" in result.stderr


def test_with_it_on_three_for_convert_and_fold(file, tmp_path):
    result = convert(file, "-o", tmp_path / "out.pt", "--redraw", f"{file}:make")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)["equivalence"]
    assert (found["trials"], found["different_inputs"], found["passed"]) == (3, 3, True)
    assert "on 3 inputs" in result.stderr
    folded = run(
        *("fold", tmp_path / "out.pt", "--trust", "--input", f"{file}:example_inputs", "--redraw", f"{file}:make"),
        *("--dry-run", "--no-latency", "--json", "-"),
    )
    assert folded.exit_code == 0, folded.stderr
    assert json.loads(folded.stdout)["equivalence"]["different_inputs"] == 3


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("twice", 2, "another structure for trial 1"),
        ("broken", 3, "redraw raised RuntimeError for trial 1: no more data"),
        ("number", 2, "is a int; give the name of a function alone"),
        ("make(3)", 2, "is called there; give the name of a function alone"),
        ("mak", 3, "did you mean 'make'?"),
    ],
)
def test_mistakes_get_one_message(file, name, code, message):
    result = convert(file, "--dry-run", "--redraw", f"{file}:{name}")
    assert result.exit_code == code, result.stderr
    assert message in result.stderr


def test_not_a_file_and_name(file):
    result = convert(file, "--dry-run", "--redraw", "3")
    assert result.exit_code == 2
    assert "is not of the form file.py:make" in result.stderr
