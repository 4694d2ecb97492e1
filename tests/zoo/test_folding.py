"""Real models, converted, moved and folded: every layer, every norm that stands alone behind one, and the original back."""

import copy
import importlib

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.models.running.output_leaves import tensors
from tests import oracle

pytestmark = pytest.mark.zoo
X = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))


def library(name):
    try:
        return importlib.import_module(name)
    except Exception as error:  # a build for another torch can raise anything
        pytest.skip(f"{name} cannot be imported ({type(error).__name__})")


MODELS = {
    "torchvision resnet18": lambda: library("torchvision.models").resnet18(),
    "torchvision mobilenet_v3_small": lambda: library("torchvision.models").mobilenet_v3_small(),
    "torchvision fcn_resnet50": lambda: library("torchvision.models.segmentation").fcn_resnet50(weights_backbone=None),
    "timm efficientnet_b0": lambda: library("timm").create_model("efficientnet_b0"),
    "timm resnet26t": lambda: library("timm").create_model("resnet26t"),
    "timm regnety_002, frozen": lambda: library("timm.layers").freeze_batch_norm_2d(
        library("timm").create_model("regnety_002")
    ),
    "ultralytics yolov8n": lambda: library("ultralytics.nn.tasks").DetectionModel("yolov8n.yaml", verbose=False),
    "ultralytics yolo11n": lambda: library("ultralytics.nn.tasks").DetectionModel("yolo11n.yaml", verbose=False),
}


def moved(model):
    """As after a training: layers and norms away from their start."""
    for i, layer in enumerate(m for m in model.modules() if isinstance(m, surgeon.SAConv2d)):
        oracle.shake(layer, seed=i, size=0.01)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.running_mean.uniform_(-0.1, 0.1, generator=generator)
                m.running_var.uniform_(0.5, 1.5, generator=generator)
    return model


@pytest.mark.parametrize("absorb", [False, True], ids=["", "absorbing"])
@pytest.mark.parametrize("name", MODELS)
def test_folds_to_the_same(name, absorb):
    original = MODELS[name]().eval()
    converted = surgeon.convert(original, X, allow_depthwise=True, absorb=absorb).model
    fresh = surgeon.fold(converted, X)
    assert fresh.equivalence.bit_equal
    assert list(fresh.model.state_dict()) == list(original.state_dict())
    assert all(torch.equal(fresh.model.state_dict()[k], v) for k, v in original.state_dict().items())
    folding = surgeon.fold(moved(converted), X, fold_norms=True)
    assert folding.equivalence.passed, folding.equivalence
    assert folding.ledger.kept == 0
    assert all(row.norm for row in folding.layers if row.before == "SAConv2d")
    assert not any(row.norm_stays for row in folding.layers)


@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("ultralytics")])
def test_ultralytics_fuses_what_is_left(name):
    """``fuse()`` folds norms by itself, and must find neither those that are gone nor kernels that it does not know."""
    model = moved(surgeon.convert(MODELS[name]().eval(), X).model)
    folded = surgeon.fold(model, X).model
    fused = copy.deepcopy(folded).fuse(verbose=False)
    with torch.no_grad():
        wanted, found = (tensors(m.eval()(X)) for m in (model, fused))
    for a, b in zip(found, wanted):
        assert oracle.relative_error(a, b.double()) < 1e-5
