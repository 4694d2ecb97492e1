"""Detectors of torchvision with its compiled operators: proposals and kept boxes depend on every last bit of the scores."""

import pytest
import torch
from torch.utils import _pytree as pytree

import saconv_surgeon as surgeon
from tests import oracle
from tests.operators import REAL
from tests.zoo.examine import randomise

pytestmark = [
    pytest.mark.zoo,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not REAL, reason="no torchvision operator"),
]
SMALL = {"min_size": 96, "max_size": 128}
DETECTORS = {
    # what to build it with; its convolutions, and those among them to convert, counted by hand:
    # ResNet-50 has 53 and 17; a pyramid 4 of 1×1 and 4 of 3×3; the proposals' head 1 of 3×3 and 2 of 1×1
    "fasterrcnn_resnet50_fpn": (SMALL, 53 + 8 + 3, 17 + 4 + 1),
    # and the masks' head: 4 of 3×3, one that is transposed, 1 of 1×1
    "maskrcnn_resnet50_fpn": (SMALL, 53 + 8 + 3 + 6, 17 + 4 + 1 + 4),
    # a pyramid of 3 of 1×1 and 5 of 3×3; two heads of 4 + 1 of 3×3
    "retinanet_resnet50_fpn": (SMALL, 53 + 8 + 10, 17 + 5 + 10),
    # the same, and a third output
    "fcos_resnet50_fpn": (SMALL, 53 + 8 + 11, 17 + 5 + 11),
    # depthwise and 1×1 but for the stem
    "ssdlite320_mobilenet_v3_large": ({}, None, 1),
}


def images():
    """Two, of different sizes, as these models take them."""
    generator = torch.Generator().manual_seed(0)
    return ([torch.rand(3, 96, 112, generator=generator), torch.rand(3, 80, 100, generator=generator)],)


def detector(name):
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    model = models.get_model(name, weights=None, weights_backbone=None, **DETECTORS[name][0]).eval()
    if not hasattr(model, "roi_heads"):  # of random statistics its scores become exactly 0 or 1, and no box is kept
        randomise(model)
    for part in (model, getattr(model, "roi_heads", None)):
        if hasattr(part, "score_thresh"):
            part.score_thresh = 0.0  # random weights give no box a high score
    return model


def found(model, inputs):
    with torch.no_grad():
        return pytree.tree_leaves(model(*inputs))


@pytest.mark.parametrize("name", DETECTORS)
def test_detections_are_the_same_to_the_bit_converted_folded_and_compared(name):
    model, inputs = detector(name), images()
    _, executed, converted = DETECTORS[name]
    before = found(model, inputs)
    assert all(t.numel() for t in before), "no box: equality would prove nothing"

    conversion = surgeon.convert(model, inputs, trials=1)
    ledger = conversion.plan.ledger
    assert ledger.converted == converted
    assert ledger.executed == (executed or sum(isinstance(m, torch.nn.Conv2d) for m in model.modules()))
    assert conversion.equivalence.bit_equal
    after = found(conversion.model, inputs)
    assert len(after) == len(before)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))

    folded = found(surgeon.fold(conversion.model, inputs).model, inputs)
    assert all(torch.equal(a, b) for a, b in zip(before, folded, strict=True))

    said = surgeon.diff(model, conversion.model, inputs, timing=None)
    assert said.outputs.bit_equal
    assert {c.path for c in said.structure} == set(conversion.plan.converted_paths)


def test_a_layer_that_moved_shows_in_the_detections():
    model, inputs = detector("fasterrcnn_resnet50_fpn"), images()
    conversion = surgeon.convert(model, inputs, trials=1)
    before = found(conversion.model, inputs)
    oracle.shake(next(m for m in conversion.model.modules() if isinstance(m, surgeon.SAConv2d)))
    after = found(conversion.model, inputs)
    assert any(a.shape != b.shape or not torch.equal(a, b) for a, b in zip(before, after, strict=True))
