"""The model card of a converted model."""

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon

pytest.importorskip("transformers", minversion="4.50")
from huggingface_hub import ModelCard
from transformers import ResNetForImageClassification as ResNet

from saconv_surgeon.integrations.transformers import save_pretrained
from tests import nets
from tests.integrations.transformers.test_from_pretrained import X, assert_same, resnet


def test_the_card_has_the_proof_the_price_and_how_to_load(tmp_path):
    original = resnet()
    conversion = surgeon.convert(original, X)
    conversion = surgeon.price(conversion, original, X, timing=None)
    save_pretrained(conversion, tmp_path, max_shard_size="10KB")
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.library_name == "transformers"
    assert card.data.tags == ["saconv-surgeon"]
    assert "bit-identical" in card.text
    assert "MACs" in card.text
    assert 'ResNetForImageClassification.from_pretrained("' in card.text
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert_same(ResNet.from_pretrained(tmp_path), conversion.model)


def test_a_card_that_is_there_stays(tmp_path):
    (tmp_path / "README.md").write_text("---\nlicense: mit\ntags:\n- cats\n---\n\n# My cats\n\nThey purr.\n")
    for include in (["*stages.0*"], ["*stages.1*"]):
        save_pretrained(surgeon.convert(resnet(), X, include=include), tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.license == "mit"
    assert card.data.tags == ["cats", "saconv-surgeon"]
    assert card.text.count("They purr.") == 1
    assert card.text.count("saconv-surgeon convert") == 1
    assert "stages.1" in card.text


def test_models_of_others_are_refused(tmp_path):
    conversion = surgeon.convert(nets.chain(), nets.X)
    with pytest.raises(surgeon.UsageError, match="Sequential is no model of transformers"):
        save_pretrained(conversion, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert isinstance(conversion.model, nn.Module)
    assert torch.is_tensor(nets.X)
