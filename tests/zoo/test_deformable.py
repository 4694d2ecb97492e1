"""``saconv-deform`` and the published mix on ResNet-50, with torchvision's compiled operator.

Images are small: on a CPU that operator is slow. What one layer computes is tested in ``tests/convs/test_deformable.py``.
"""

import copy

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.convs.deformable import DeformableSAConv2d, DeformedBranch
from tests import oracle
from tests.operators import REAL
from tests.saving.folded_models import needs_onnx

pytestmark = [
    pytest.mark.zoo,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not REAL, reason="no torchvision operator"),
]
X = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(0))


def converted(target):
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    model = models.resnet50(weights=None).train()
    for norm in (
        model.modules()
    ):  # with the statistics of no data, a change of the last bit of an input moves outputs by percents
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 1.0
    model(torch.rand(8, 3, 96, 96)).sum()
    model.eval()
    return model, surgeon.convert(model, X, target=target, trials=1)


@pytest.fixture(scope="module")
def deform():
    """ResNet-50, its sixteen 3×3 convolutions converted."""
    return converted("saconv-deform")


@pytest.fixture(scope="module")
def moved(deform):
    """The same, every part of every layer moved a little, so that samples lie between pixels of the map, folded."""
    model = copy.deepcopy(deform[1].model)
    for layer in model.modules():
        if isinstance(layer, DeformableSAConv2d):
            oracle.shake(layer, size=0.01)
    return model, surgeon.fold(model, X)


def relative(a, b):
    return float((a - b).abs().max() / b.abs().max())


def test_forward_is_that_of_the_convolutions_and_backward_reaches_every_part(deform):
    plain, conversion = deform
    assert (conversion.plan.ledger.executed, conversion.plan.ledger.converted) == (53, 16)
    assert conversion.equivalence.passed
    with torch.no_grad():
        assert relative(conversion.model(X), plain(X)) < 1e-5
    conversion.model(X).square().sum().backward()
    grads = {name: p.grad for name, p in conversion.model.named_parameters() if "offset_" in name or "switch" in name}
    assert len(grads) == 16 * (2 * 2 + 2)
    assert all(g is not None and bool(g.isfinite().all()) for g in grads.values())
    narrow = {name: g for name, g in grads.items() if "offset_s" in name}  # the wide branch counts for nothing at rest
    assert all(bool(g.any()) for g in narrow.values())
    conversion.model.zero_grad()


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_moved_and_folded_it_is_a_file_that_runs_again(moved, suffix, tmp_path):
    if suffix == ".onnx":
        needs_onnx()
    _, folding = moved
    assert sum(isinstance(m, DeformedBranch) for m in folding.model.modules()) == 32
    try:
        notes = surgeon.save(folding, tmp_path / f"deform{suffix}", example_inputs=X)
    except surgeon.ModelError as error:
        # exporters before torch 2.14 do not know the operator; ONNX Runtime's agrees to 1e-6 for one layer, but over sixteen of
        # them rounding comes to more than what is let through
        assert suffix == ".onnx"
        assert "deform_conv2d" in str(error) or "ONNX Runtime computes something else" in str(error)
        pytest.skip(str(error))
    assert "run again" in notes[0]


def test_a_conversion_at_rest_is_a_program_that_runs_again(deform, tmp_path):
    _, conversion = deform
    surgeon.save(conversion, tmp_path / "deform.pt2", example_inputs=X)
    with torch.no_grad():
        assert relative(torch.export.load(tmp_path / "deform.pt2").module()(X), conversion.model(X)) < 1e-5


def test_the_published_mix():
    """DetectoRS: deformable 3×3 in stages 2 to 4, 4 + 6 + 3 blocks; weights standardised in all other convolutions."""
    plain, conversion = converted("detectors")
    kinds = [type(m).__name__ for m in conversion.model.modules() if isinstance(m, surgeon.ConvAWS2d)]
    assert (kinds.count("DeformableSAConv2d"), len(kinds)) == (13, 53)
    assert conversion.equivalence.passed
    with torch.no_grad():
        assert relative(conversion.model(X), plain(X)) < 1e-5
