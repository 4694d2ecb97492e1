"""Files that an older version of this package wrote: they name its classes by their modules, and must load for ever.

``older_versions/`` was written by the code before modules moved: ``layers.pt`` pickles every layer, trained and folded, with
an input and their outputs; ``folder`` and ``program.pt2`` are one trained conversion; ``yolo.pt`` is an Ultralytics checkpoint.
``expected.pt`` has what they gave.
"""

from pathlib import Path

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.models.exported.read_program import read_program

FILES = Path(__file__).parent / "older_versions"
EXPECTED = torch.load(FILES / "expected.pt")


def build():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 2, 1),
    ).eval()


def close(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_pickled_layers():
    saved = torch.load(FILES / "layers.pt", weights_only=False)
    kinds = {type(m).__name__ for m in saved["model"].modules()}
    assert kinds >= {"ConvAWS2d", "SAConv2d", "SAConvBlock", "DeformableSAConv2d", "SPConv2d", "FoldedSAConv2d"}
    x = saved["input"]
    with torch.no_grad():
        for path, output in saved["outputs"].items():
            layer = saved["model"].get_submodule(path)
            close(layer(x if path.endswith("two_groups") else x[:, :4]), output)
    for name, layer in saved["model"]["layers"].items():  # they can still be folded, which looks into all their parts
        assert isinstance(layer, surgeon.ConvertedLayer), name
        assert layer.folded() is not None


def test_a_saved_conversion():
    model = surgeon.restore(build(), FILES / "folder")
    with torch.no_grad():
        close(model(EXPECTED["input"]), EXPECTED["output"])


def test_an_exported_program():
    module = read_program(FILES / "program.pt2").module
    layers = [name for name, m in module.named_modules() if isinstance(m, surgeon.SAConv2d)]
    assert layers == ["0", "3"]
    with torch.no_grad():
        close(module(EXPECTED["input"]), EXPECTED["output"])


@pytest.mark.zoo
def test_a_yolo_checkpoint():
    pytest.importorskip("ultralytics")
    from saconv_surgeon.integrations.ultralytics import YOLO, protect

    model = YOLO(FILES / "yolo.pt").model.float().eval()
    kinds = {type(m).__name__ for m in model.modules()}
    assert kinds >= {"SurgicalConv", "SAConv2d"}
    before = [type(m) for m in model.modules()]
    protect(model)  # already is
    assert [type(m) for m in model.modules()] == before
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        close(model(x)[0], EXPECTED["yolo"])
        model.fuse()
        torch.testing.assert_close(model(x)[0], EXPECTED["yolo"], rtol=1e-3, atol=1e-3)
