"""Models with huggingface_hub's mixin, and those of segmentation-models-pytorch."""

import json

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from tests import oracle

hub = pytest.importorskip("huggingface_hub")
import saconv_surgeon.integrations.hub_mixin  # noqa: E402

X = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


class Net(nn.Module, hub.PyTorchModelHubMixin):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, width, 3), nn.Conv2d(width, 4, 3)

    def forward(self, x):
        return self.b(self.a(x).relu())


def moved(model):
    converted = surgeon.convert(model.eval(), X).model
    layers = [module for module in converted.modules() if isinstance(module, surgeon.SAConv2d)]
    for layer in layers[:2]:
        oracle.shake(layer)
    return converted.eval()


def assert_same(found, wanted):
    a, b = found.state_dict(), wanted.state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    with torch.no_grad():
        assert torch.equal(found.eval()(X), wanted(X))


@pytest.mark.parametrize("strict", [True, False])
def test_the_round_trip_is_equal_to_the_bit(tmp_path, strict):
    original = Net(6)
    model = moved(original)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config == {"width": 6, "_saconv_surgeon": {"a": "saconv", "b": "saconv"}}
    found = Net.from_pretrained(tmp_path, strict=strict)
    assert_same(found, model)
    found.save_pretrained(tmp_path / "again")
    assert_same(Net.from_pretrained(tmp_path / "again", strict=True), model)


def test_plain_models_are_as_they_were(tmp_path):
    model = Net(5).eval()
    model.save_pretrained(tmp_path)
    assert_same(Net.from_pretrained(tmp_path, strict=True), model)
    back = surgeon.revert(surgeon.convert(model, X).model)
    back.save_pretrained(tmp_path / "back")
    assert json.loads((tmp_path / "back" / "config.json").read_text()) == {"width": 5}


@pytest.mark.zoo
def test_segmentation_models(tmp_path):
    smp = pytest.importorskip("segmentation_models_pytorch")
    torch.manual_seed(0)
    original = smp.Unet("resnet18", encoder_weights=None, classes=2)
    model = moved(original)
    model.save_pretrained(tmp_path)
    assert_same(smp.from_pretrained(tmp_path), model)
    original.save_pretrained(tmp_path / "plain")
    assert_same(smp.from_pretrained(tmp_path / "plain"), original)
