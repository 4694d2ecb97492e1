"""``plan`` and ``convert --budget`` on the command line."""

import json

import pytest

from tests.cli.running import RESNET, run

DATA = """
import torch
from torch.nn import functional as F

def batches(n=4):
    for i in range(n):
        x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(i))
        yield x, torch.arange(4)

def one():
    return list(batches(1))

def loss(output, batch):
    return F.cross_entropy(output, batch[1])

def broken(output, batch):
    raise RuntimeError("no labels here")

def train_step(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])

number = 3
"""


@pytest.fixture
def data(tmp_path):
    file = tmp_path / "plan_data.py"
    file.write_text(DATA)
    return file


def plan(data, *arguments, batches="batches", loss="loss"):
    given = ["--data", f"{data}:{batches}", "--loss", f"{data}:{loss}"]
    return run("plan", RESNET, *given, "--no-latency", *arguments)


def test_a_plan_is_written_and_replayed(tmp_path, data):
    file, out = tmp_path / "plan.json", tmp_path / "out"
    made = plan(data, "--budget", "parameters<+5k", "-o", file, "--score", "depth", "--report", tmp_path / "plan.html")
    assert made.exit_code == 0, made.stderr
    assert "score depth: an order of the layers" in made.stdout
    assert f"saconv-surgeon convert {RESNET} --plan {file} -o out" in made.stderr
    record = json.loads(file.read_text())
    assert record["schema"] == "saconv-surgeon/plan/1"
    converted = [site["path"] for site in record["sites"] if site["decision"] == "convert"]
    assert converted
    assert record["planning"]["promises"][0]["found"] <= 5000
    assert record["planning"]["kept"] is True
    assert "<svg class=" in (tmp_path / "plan.html").read_text()
    replayed = run("convert", RESNET, "--plan", file, "--no-latency", "-o", out, "--json", "-")
    assert replayed.exit_code == 0, replayed.stderr
    sites = json.loads(replayed.stdout)["sites"]
    assert [site["path"] for site in sites if site["decision"] == "convert"] == converted


def test_convert_with_a_budget_plans_and_converts(tmp_path, data):
    given = ["--data", f"{data}:batches", "--loss", f"{data}:loss", "--score", "random"]
    result = run(
        "convert", RESNET, "--budget", "macs<1.5x", *given, "--no-latency", "-o", tmp_path / "out", "--json", "-"
    )
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert record["equivalence"]["bit_equal"] is True
    (promise,) = record["planning"]["promises"]
    found = record["after"]["macs"] / record["before"]["macs"]
    assert promise["found"] == pytest.approx(found)
    assert found <= 1.5
    assert "macs<1.5x: found" in result.stderr


def test_a_number_is_still_seconds(data):
    result = run("convert", RESNET, "--dry-run", "--budget", "0.1", "--no-layer-latency", "--json", "-")
    assert result.exit_code == 0, result.stderr
    assert "planning" not in json.loads(result.stdout)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "for which budget? give --budget"),
        (["--budget", "macs<0.5x"], "asks for 0.5 times the original model"),
        (["--budget", "speed<2x"], "names a figure that layers are not priced by"),
        (["--budget", "macs<2x", "--budget", "3"], "--budget says how to measure time"),
        (["--budget", "macs<2x", "--batch", "4"], "--batch does not go together with it"),
        (["--budget", "latency<2x"], "is about time, and time is not to be measured"),
        (["--budget", "macs<2x", "--loss", "plan_data.py"], "--loss 'plan_data.py' is not of the form"),
        (["--budget", "macs<2x", "--to", "saconv,nothing"], "nothing"),
        (["--budget", "macs<2x", "-o", "."], "is a folder"),
    ],
)
def test_mistakes_get_one_sentence(data, arguments, message):
    result = plan(data, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("batches", "loss", "code", "message"),
    [
        ("one", "loss", 2, "the data gave one batch"),
        ("batches", "broken", 3, "the loss raised RuntimeError: no labels here"),
        ("batches", "number", 2, "number is a int; give the name of a function"),
        ("batches", "none", 3, "has no 'none'"),
    ],
)
def test_data_and_loss_that_do_not_work(data, batches, loss, code, message):
    result = plan(data, "--budget", "macs<2x", batches=batches, loss=loss)
    assert (result.exit_code, message in result.stderr) == (code, True), result.stderr


def test_options_of_a_plan_mean_nothing_without_a_budget(data):
    result = run("convert", RESNET, "--dry-run", "--loss", f"{data}:loss")
    assert result.exit_code == 2
    assert "--loss is about choosing layers for a budget" in result.stderr


def test_a_plan_and_a_budget_do_not_go_together(tmp_path, data):
    result = run("convert", RESNET, "--dry-run", "--plan", tmp_path / "plan.json", "--budget", "macs<2x")
    assert result.exit_code == 2
    assert "--budget makes new ones; give one of the two" in result.stderr


def test_a_file_that_exists_is_not_replaced(tmp_path, data):
    file = tmp_path / "plan.json"
    file.write_text("mine")
    result = plan(data, "--budget", "macs<2x", "-o", file)
    assert result.exit_code == 2
    assert file.read_text() == "mine"


def test_nothing_eligible_is_exit_code_4(tmp_path):
    file = tmp_path / "pointwise.py"
    file.write_text(
        "import torch\nfrom torch import nn\ndef build():\n    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten())\n"
    )
    result = run(
        "plan", f"{file}:build", "--input", "1x3x8x8", "--score", "depth", "--budget", "macs<2x", "--no-latency"
    )
    assert result.exit_code == 4
    assert "no convolution can be converted" in result.stderr
