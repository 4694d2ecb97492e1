"""``convert --delta``, and folders that leave tensors to their original, on the command line."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import saconv_surgeon as surgeon
from saconv_surgeon.surgery.plan_file import DELTA, PLAN, WEIGHTS
from sample_models import tiny_resnet
from tests import oracle
from tests.cli.running import RESNET, run

QUICK = ["--no-latency", "-q"]
SOME = ["--include", "layer2*"]


def original():
    return tiny_resnet.build(depth=1, width=8)


def converted_in(folder):
    return [s["path"] for s in json.loads((folder / PLAN).read_text())["sites"] if s["decision"] == "convert"]


@pytest.fixture
def delta(tmp_path):
    made = run("convert", RESNET, *SOME, "--delta", "-o", tmp_path / "out", *QUICK)
    assert made.exit_code == 0, made.stderr
    return tmp_path / "out"


def test_it_is_said_how_much_is_written_and_of_which_original(tmp_path):
    made = run("convert", RESNET, *SOME, "--delta", "-o", tmp_path / "out", "--no-latency")
    assert f"% of the model; the rest is taken from its original, {RESNET}" in made.stderr


def test_a_delta_is_a_model_for_every_command_and_is_written_whole(tmp_path, delta):
    assert (delta / DELTA).exists()
    assert run("profile", delta, *QUICK).exit_code == 0
    made = run("convert", delta, "-o", tmp_path / "whole", *QUICK)
    assert made.exit_code == 0, made.stderr
    assert (tmp_path / "whole" / WEIGHTS).exists()
    assert converted_in(tmp_path / "whole") == converted_in(delta)
    wanted = surgeon.restore(original(), delta).state_dict()
    with torch.no_grad():
        other = original()
        other.fc.weight += 1  # a whole folder needs no weights
    found = surgeon.restore(other, tmp_path / "whole").state_dict()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_what_a_training_made_of_it_becomes_a_delta(tmp_path, delta):
    trained = surgeon.restore(original(), delta)
    layers = [module for module in trained.modules() if isinstance(module, surgeon.SAConv2d)]
    oracle.shake(layers[0])
    torch.save(trained.state_dict(), tmp_path / "trained.pt")
    made = run("convert", delta, "--weights", tmp_path / "trained.pt", "--delta", "-o", tmp_path / "again", *QUICK)
    assert made.exit_code == 0, made.stderr
    assert f"{layers[0].path}.weight" in load_file(tmp_path / "again" / DELTA)
    assert f"{layers[1].path}.weight" not in load_file(tmp_path / "again" / DELTA)
    found = surgeon.restore(original(), tmp_path / "again").state_dict()
    assert all(torch.equal(found[key], value) for key, value in trained.state_dict().items())


def test_a_whole_conversion_becomes_a_delta_by_its_own_plan(tmp_path, delta):
    assert run("convert", RESNET, *SOME, "-o", tmp_path / "whole", *QUICK).exit_code == 0
    plan = tmp_path / "whole" / PLAN
    made = run("convert", tmp_path / "whole", "--plan", plan, "--delta", "-o", tmp_path / "again", *QUICK)
    assert made.exit_code == 0, made.stderr
    assert load_file(tmp_path / "again" / DELTA).keys() == load_file(delta / DELTA).keys()


def test_the_weights_of_the_original_are_found_again(tmp_path):
    torch.manual_seed(5)
    weights = {key: torch.rand_like(v) if v.is_floating_point() else v for key, v in original().state_dict().items()}
    save_file(weights, tmp_path / "w.safetensors")
    made = run(
        *("convert", RESNET, "--weights", tmp_path / "w.safetensors", *SOME, "--delta", "-o", tmp_path / "out", *QUICK)
    )
    assert made.exit_code == 0, made.stderr
    assert run("profile", tmp_path / "out", *QUICK).exit_code == 0
    (tmp_path / "w.safetensors").rename(tmp_path / "elsewhere.safetensors")
    lost = run("profile", tmp_path / "out", *QUICK)
    assert lost.exit_code == 2
    assert "give the file as --base-weights FILE" in lost.stderr
    found = run("profile", tmp_path / "out", "--base-weights", tmp_path / "elsewhere.safetensors", *QUICK)
    assert found.exit_code == 0, found.stderr
    other = run("profile", tmp_path / "out", "--base", RESNET, *QUICK)
    assert other.exit_code == 3
    assert "that of the original" in other.stderr


def test_published_weights_are_not_fetched_unasked(delta):
    content = json.loads((delta / PLAN).read_text())
    content["base"] |= {"model": "timm:resnet18", "pretrained": True}
    (delta / PLAN).write_text(json.dumps(content))
    asked = run("profile", delta, *QUICK)
    assert asked.exit_code == 2
    assert "give --pretrained to use them" in asked.stderr
    assert "--pretrained" in run("fold", "--help").stdout  # every command that says so takes it


def test_a_conversion_that_was_cast(tmp_path):
    made = run("convert", RESNET, *SOME, "--dtype", "float64", "--delta", "-o", tmp_path / "out", *QUICK)
    assert made.exit_code == 0, made.stderr
    assert run("profile", tmp_path / "out", *QUICK).exit_code == 0


def test_where_it_makes_no_sense(tmp_path):
    refused = run("convert", RESNET, "--delta", "-o", tmp_path / "out.pt", *QUICK)
    assert refused.exit_code == 2
    assert "--delta is for a folder" in refused.stderr
    assert not list(tmp_path.iterdir())
