"""Folders of timm's form that hold converted models."""

import json
import os
import pickle
import subprocess
import sys

import pytest
import torch

import saconv_surgeon as surgeon
from saconv_surgeon.integrations.load_with_layers import load_with_layers
from tests.cli.running import run
from tests.integrations.local_hub import served
from tests.integrations.test_hub_mixin import X, assert_same, moved

pytestmark = pytest.mark.zoo
timm = pytest.importorskip("timm")
from saconv_surgeon.integrations import timm as surgical  # noqa: E402


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return moved(timm.create_model("resnet10t", num_classes=5))


def layers(model):
    return sum(isinstance(module, surgeon.SAConv2d) for module in model.modules())


def converted_already(record):
    return sum("already" in (site["reason"] or "") for site in json.loads(record)["sites"])


class Writes:
    """Pickled, it writes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (exec, (f"open({str(self.path)!r}, 'w').close()",))


@pytest.mark.parametrize("safe", [True, False])
def test_the_round_trip_is_equal_to_the_bit(tmp_path, model, safe):
    surgical.save_for_hf(model, tmp_path, safe_serialization=safe, model_config={"note": "mine"})
    config = json.loads((tmp_path / "config.json").read_text())
    assert len(config["saconv_surgeon"]) == layers(model) > 1
    assert config["note"] == "mine"
    assert_same(timm.create_model(f"local-dir:{tmp_path}", pretrained=True), model)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        timm.create_model.__wrapped__(f"local-dir:{tmp_path}", pretrained=True)


def test_other_ways_to_make_it(tmp_path, model):
    surgical.save_for_hf(model, tmp_path, safe_serialization=True)
    name = f"local-dir:{tmp_path}"
    assert layers(timm.create_model(name)) == layers(model)
    torch.save(model.state_dict(), tmp_path / "checkpoint.pt")
    assert_same(timm.create_model(name, checkpoint_path=str(tmp_path / "checkpoint.pt")), model)
    assert timm.create_model(name, pretrained=True, num_classes=3).fc.out_features == 3
    features = timm.create_model(name, pretrained=True, features_only=True).eval()
    with torch.no_grad():
        assert torch.equal(features(X)[-1], model.forward_features(X))


def test_plain_models_are_timms(tmp_path):
    torch.manual_seed(0)
    plain = timm.create_model("resnet10t", num_classes=5).eval()
    torch.manual_seed(0)
    assert_same(timm.create_model("resnet10t", num_classes=5), plain)
    timm.models.save_for_hf(plain, str(tmp_path), safe_serialization=True)
    assert_same(timm.create_model(f"local-dir:{tmp_path}", pretrained=True), plain)
    assert timm.models._builder.load_pretrained.__module__.startswith("timm.")


def test_a_folded_model_says_that_it_cannot_be_built(tmp_path, model):
    surgical.save_for_hf(surgeon.fold(model, X).model, tmp_path, safe_serialization=True)
    with pytest.raises(surgeon.UsageError, match="were folded for inference"):
        timm.create_model(f"local-dir:{tmp_path}", pretrained=True)


@pytest.mark.parametrize("prefix", ["hf-hub", "hf_hub"])
def test_from_a_hub_by_the_name_that_the_command_line_takes(tmp_path, model, prefix):
    surgical.save_for_hf(model, tmp_path / "repository", safe_serialization=True)
    arguments = ["inspect", f"timm:{prefix}:you/converted", "--input", "1x3x64x64", "--json", "-"]
    with served(tmp_path / "repository", "you/converted") as address:
        environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "cache")}
        for options in ([], ["--pretrained"]):
            command = [sys.executable, "-m", "saconv_surgeon", *arguments, *options]
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            assert converted_already(done.stdout) == layers(model)


def test_a_folder_on_the_command_line(tmp_path, model, monkeypatch):
    monkeypatch.chdir(tmp_path)
    surgical.save_for_hf(model, "converted", safe_serialization=True)
    seen = run("inspect", "timm:local-dir:converted", "--pretrained", "--input", "1x3x64x64", "--json", "-")
    assert converted_already(seen.stdout) == layers(model)


def test_code_in_such_a_folder_is_not_run(tmp_path, model):
    folder = tmp_path / "hostile"
    surgical.save_for_hf(model, folder, safe_serialization=True)
    (folder / "model.safetensors").unlink()
    with (folder / "pytorch_model.bin").open("wb") as file:
        pickle.dump(Writes(tmp_path / "ran"), file)
    with pytest.raises(surgeon.UserCodeError):
        load_with_layers(f"timm:local-dir:{folder}", pretrained=True)
    assert not (tmp_path / "ran").exists()
