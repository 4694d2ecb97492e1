"""Converted Hugging Face models are saved and loaded by transformers itself."""

import json
import subprocess
import sys

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from tests import oracle
from tests.cli.running import run

transformers = pytest.importorskip("transformers", minversion="4.50")
from transformers import AutoModel, AutoModelForImageClassification, ResNetConfig  # noqa: E402
from transformers import ResNetForImageClassification as ResNet  # noqa: E402

X = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
LAYER = "resnet.encoder.stages.1.layers.0.layer.1.convolution"


def resnet():
    torch.manual_seed(0)
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3, num_channels=3
    )
    return ResNet(config).eval()


def converted(**options):
    """Some of its layers have been moved."""
    conversion = surgeon.convert(resnet(), X, **options)
    model = conversion.model
    for layer in list(layers(model))[1:]:
        oracle.shake(layer)
    return model.eval()


def layers(model):
    return [module for module in model.modules() if isinstance(module, surgeon.SAConv2d)]


def assert_same(found, wanted):
    a, b = found.state_dict(), wanted.state_dict()
    assert a.keys() == b.keys()
    for key, value in b.items():
        assert a[key].dtype == value.dtype, key
        assert torch.equal(a[key], value), key


@pytest.mark.parametrize("kind", [ResNet, AutoModelForImageClassification])
@pytest.mark.parametrize("shards", ["50GB", "10KB"])
def test_the_round_trip_is_equal_to_the_bit(tmp_path, kind, shards):
    model = converted()
    model.save_pretrained(tmp_path, max_shard_size=shards)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shards == "10KB")
    again = kind.from_pretrained(tmp_path)
    assert type(again) is ResNet
    assert_same(again, model)
    assert torch.equal(again(X).logits, model(X).logits)
    assert len(layers(again)) == len(layers(model)) > 1
    again.save_pretrained(tmp_path / "again")
    assert_same(ResNet.from_pretrained(tmp_path / "again"), model)


def test_the_configuration_names_the_layers(tmp_path):
    original = resnet()
    model = surgeon.convert(original, X, include=["*stages.1*"], options={"parts": "contexts"}).model
    assert not hasattr(original.config, "saconv_surgeon")
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["saconv_surgeon"][LAYER] == {"target": "saconv", "options": {"parts": "contexts"}}
    assert config["quantization_config"] == {"quant_method": "saconv_surgeon"}
    assert_same(ResNet.from_pretrained(tmp_path), model)


def test_a_loaded_model_is_as_any_other(tmp_path):
    converted().save_pretrained(tmp_path)
    model = ResNet.from_pretrained(tmp_path)
    assert getattr(model, "hf_quantizer", None) is None
    assert not getattr(model, "is_quantized", False)
    model.half().float()
    model.train()(X, labels=torch.tensor([0, 1])).loss.backward()
    assert all(layer.weight_diff.grad is not None for layer in layers(model))
    from saconv_surgeon.integrations import transformers as integration

    assert integration.recorded_layers(model.config).keys() == {
        path for path, module in model.named_modules() if isinstance(module, surgeon.SAConv2d)
    }


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_another_dtype_is_what_casting_gives(tmp_path, dtype):
    model = converted()
    model.save_pretrained(tmp_path)
    found = ResNet.from_pretrained(tmp_path, dtype=dtype)
    assert_same(found, model.to(dtype))
    found.save_pretrained(tmp_path / "cast")
    again = ResNet.from_pretrained(tmp_path / "cast", dtype="auto")
    assert again.dtype is dtype
    assert_same(again, found)


def test_with_absorbed_norms(tmp_path):
    model = converted(absorb=True)
    assert any(layer.absorbed for layer in layers(model)) or any("bn" in name for name, _ in model.named_modules())
    model.save_pretrained(tmp_path)
    again = ResNet.from_pretrained(tmp_path)
    assert_same(again, model)
    assert torch.equal(again(X).logits, model(X).logits)


def test_the_part_without_a_head_and_back(tmp_path):
    model = converted()
    model.save_pretrained(tmp_path / "whole")
    inner = AutoModel.from_pretrained(tmp_path / "whole")
    assert_same(inner, model.resnet)
    inner.save_pretrained(tmp_path / "inner")
    outer = ResNet.from_pretrained(tmp_path / "inner", num_labels=3)
    assert_same(outer.resnet, model.resnet)


def test_a_model_inside_of_another_module(tmp_path):
    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.head = resnet().resnet, nn.Conv2d(16, 2, 3, padding=1)

        def forward(self, x):
            return self.head(self.backbone(x).last_hidden_state)

    model = surgeon.convert(Wrapper().eval(), X).model
    model.backbone.save_pretrained(tmp_path)
    assert_same(AutoModel.from_pretrained(tmp_path), model.backbone)


def test_other_verbs_write_the_record_too(tmp_path):
    conversion = surgeon.convert(resnet(), X)
    surgeon.save(conversion, tmp_path / "folder")
    restored = surgeon.restore(resnet(), tmp_path / "folder")
    restored.save_pretrained(tmp_path / "restored")
    assert_same(ResNet.from_pretrained(tmp_path / "restored"), conversion.model)
    plain = surgeon.revert(conversion.model)
    plain.save_pretrained(tmp_path / "plain")
    config = json.loads((tmp_path / "plain" / "config.json").read_text())
    assert not {"saconv_surgeon", "quantization_config"} & config.keys()


def test_a_folded_model_says_that_it_cannot_be_built(tmp_path):
    surgeon.fold(converted(), X).model.save_pretrained(tmp_path)
    with pytest.raises(surgeon.UsageError, match="were folded for inference and cannot be built by its library"):
        ResNet.from_pretrained(tmp_path)


def test_another_architecture_says_so(tmp_path):
    model = converted()
    model.config.saconv_surgeon = {**model.config.saconv_surgeon, "resnet.nowhere": "saconv"}
    model.save_pretrained(tmp_path)
    with pytest.raises(surgeon.ArtefactError, match=r"no convolution at 'resnet\.nowhere'"):
        ResNet.from_pretrained(tmp_path)


@pytest.mark.parametrize("record", [3, ["a"], {"resnet": 3}, {"resnet": {"option": 1}}, {"resnet": "no such target"}])
def test_a_record_that_cannot_be_read(tmp_path, record):
    converted().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"saconv_surgeon": record}))
    with pytest.raises(surgeon.UsageError):
        ResNet.from_pretrained(tmp_path)


WITHOUT = """
import logging, sys
from transformers import AutoModelForImageClassification
AutoModelForImageClassification.from_pretrained(sys.argv[1])
assert "saconv_surgeon" not in sys.modules
"""


def test_without_the_integration_transformers_warns(tmp_path):
    converted().save_pretrained(tmp_path)
    done = subprocess.run([sys.executable, "-c", WITHOUT, str(tmp_path)], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "Unknown quantization type, got saconv_surgeon" in done.stderr


def test_a_quantisation_of_the_users_own_stays():
    model = resnet()
    model.config.quantization_config = {"quant_method": "other"}
    with pytest.warns(UserWarning, match="save the conversion with saconv_surgeon.save instead"):
        conversion = surgeon.convert(model, X)
    assert conversion.model.config.quantization_config == {"quant_method": "other"}
    assert conversion.model.config.saconv_surgeon
    back = surgeon.revert(conversion.model)
    assert back.config.quantization_config == {"quant_method": "other"}


@pytest.mark.parametrize("options", [[], ["--pretrained"]])
def test_a_folder_on_the_command_line_keeps_its_layers(tmp_path, options):
    converted().save_pretrained(tmp_path)
    seen = run("inspect", f"transformers:{tmp_path}", *options, "--input", "1x3x64x64", "--json", "-")
    sites = json.loads(seen.stdout)["sites"]
    assert sum("already" in (site["reason"] or "") for site in sites) == len(layers(converted()))
