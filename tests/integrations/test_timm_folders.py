"""Folders of timm's form that hold converted models."""

import json

import pytest
import torch

import saconv_surgeon as surgeon
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


@pytest.mark.parametrize("safe", [True, False])
def test_the_round_trip_is_equal_to_the_bit(tmp_path, model, safe):
    surgical.save_for_hf(model, tmp_path, safe_serialization=safe, model_config={"note": "mine"})
    config = json.loads((tmp_path / "config.json").read_text())
    assert len(config["saconv_surgeon"]) == layers(model) > 1
    assert config["note"] == "mine"
    assert_same(surgical.create_model(f"local-dir:{tmp_path}", pretrained=True), model)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        timm.create_model(f"local-dir:{tmp_path}", pretrained=True)


def test_other_ways_to_make_it(tmp_path, model):
    surgical.save_for_hf(model, tmp_path, safe_serialization=True)
    name = f"local-dir:{tmp_path}"
    assert layers(surgical.create_model(name)) == layers(model)
    torch.save(model.state_dict(), tmp_path / "checkpoint.pt")
    assert_same(surgical.create_model(name, checkpoint_path=str(tmp_path / "checkpoint.pt")), model)
    assert surgical.create_model(name, pretrained=True, num_classes=3).fc.out_features == 3
    features = surgical.create_model(name, pretrained=True, features_only=True).eval()
    with torch.no_grad():
        assert torch.equal(features(X)[-1], model.forward_features(X))


def test_plain_models_are_timms(tmp_path):
    torch.manual_seed(0)
    plain = timm.create_model("resnet10t", num_classes=5).eval()
    torch.manual_seed(0)
    assert_same(surgical.create_model("resnet10t", num_classes=5), plain)
    timm.models.save_for_hf(plain, str(tmp_path), safe_serialization=True)
    assert_same(surgical.create_model(f"local-dir:{tmp_path}", pretrained=True), plain)
    assert timm.models._builder.load_pretrained.__module__.startswith("timm.")


def test_a_folded_model_says_that_it_cannot_be_built(tmp_path, model):
    surgical.save_for_hf(surgeon.fold(model, X).model, tmp_path, safe_serialization=True)
    with pytest.raises(surgeon.UsageError, match="were folded for inference"):
        surgical.create_model(f"local-dir:{tmp_path}", pretrained=True)
