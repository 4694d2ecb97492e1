"""How much of a model's outputs is explained."""

import math

import pytest
import torch
from torch import nn

from benchmarks.images import figures
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.surgery.inexact.explained_share import Share, explain
from sample_models import tiny_segmenter
from tests.surgery.inexact.models import X, net, to_spconv


def test_share_by_hand():
    """Two channels with their own means; three batches make the same sums as one."""
    a = torch.tensor([[[1.0, 2.0, 3.0, 6.0], [10.0, 10.0, 12.0, 12.0]]])
    b = torch.tensor([[[1.0, 2.0, 3.0, 4.0], [10.0, 11.0, 12.0, 12.0]]])
    spread = (4 + 1 + 0 + 9) + (1 + 1 + 1 + 1)
    whole = Share()
    whole.add(a, b)
    assert whole.r2 == pytest.approx(1 - (4 + 1) / spread)
    product = 1 + 4 + 9 + 24 + 100 + 110 + 144 + 144
    norms = (1 + 4 + 9 + 36 + 100 + 100 + 144 + 144) * (1 + 4 + 9 + 16 + 100 + 121 + 144 + 144)
    assert whole.cosine == pytest.approx(product / math.sqrt(norms))
    parts = Share()
    for i in range(4):
        parts.add(a[..., i : i + 1], b[..., i : i + 1])
    assert parts.r2 == pytest.approx(whole.r2)


def test_share_of_logits_is_over_the_samples():
    """A classifier that always says the same is not explained by saying the same."""
    a = torch.tensor([[1.0, 5.0], [3.0, 7.0]])
    share = Share()
    share.add(a, a.mean(0, keepdim=True).expand(2, 2))
    assert share.r2 == pytest.approx(0.0)


def test_share_of_what_does_not_vary_is_unknown():
    share = Share()
    assert (share.r2, share.cosine) == (None, None)
    share.add(torch.ones(1, 2, 3), torch.ones(1, 2, 3))
    assert share.r2 is None
    assert share.cosine == pytest.approx(1.0)


class Head(nn.Module):
    def __init__(self, flip=False, wreck=None):
        super().__init__()
        self.conv, self.flip, self.wreck = nn.Conv2d(3, 3, 1), flip, wreck

    def forward(self, x):
        y = x.mean((2, 3))
        y = y.flip(1) if self.flip else y
        return {"scores": y if self.wreck is None else self.wreck(y), "n": 3, "ids": y.argmax(1)}


def test_top1_counts_places_of_the_largest():
    x = torch.zeros(4, 3, 2, 2)
    for i, best in enumerate((0, 1, 2, 1)):
        x[i, best] = 1.0
    found = explain(Head(), Head(flip=True), [Inputs.of(x)], (), init="project", source="here")
    assert found.top1 == 0.5  # flipping three classes leaves the middle one where it is
    assert found.samples == 4
    assert found.problems == ()


@pytest.mark.parametrize(
    ("wreck", "problem"),
    [
        (lambda y: y / 0, "output['scores'] is not finite any more"),
        (lambda y: y[:, :2], "output['scores'] has another shape"),
        (lambda y: (y, y), "the structure of the output changed"),
    ],
)
def test_outputs_that_cannot_be_used_are_problems(wreck, problem):
    found = explain(Head(), Head(wreck=wreck), [Inputs.of(torch.randn(2, 3, 2, 2))], (), init="project", source="here")
    assert problem in found.problems[0]


def test_layers_alone_and_in_place():
    """Break one layer: alone it shows there only, in place in all that follow."""
    original, conversion = net(), to_spconv()
    layer = conversion.model[0]
    with torch.no_grad():
        layer.bn1.weight.zero_()
        layer.bn2.weight.zero_()
    found = explain(original, conversion.model, [Inputs.of(X)], ("0", "3"), init="project", source="here").layers
    assert found[0].r2 == found[0].r2_alone
    assert found[0].r2 <= 0
    assert found[1].r2_alone == pytest.approx(conversion.explained.layers[1].r2_alone, abs=0.2)
    assert found[1].r2 < found[1].r2_alone


def test_segmentation_agrees_by_pixel():
    model, x = tiny_segmenter.build(), figures(4, 64)[0]
    example = Inputs.of(tiny_segmenter.example_inputs())
    found = to_spconv(model, example, data=[x, x.flip(0)]).explained
    assert 0 < found.top1 <= 1
    assert found.r2 > 0.3


class Boxes(nn.Module):
    """A detector: as many boxes as it finds, and the classes of all anchors in another unit."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        y = self.conv(x)
        return {"boxes": y[y > 0.5][:, None].expand(-1, 4) * 100, "maps": torch.cat([1000 * x[:, :4], y], 1).flatten(2)}


def test_detectors_are_explained_by_what_can_be_compared():
    found = to_spconv(Boxes().eval(), init="random")
    assert found.explained.problems == ()
    assert found.explained.not_compared == ("output['boxes']",)
    assert found.explained.top1 is None
    assert found.explained.r2 < 0.5  # the pixels that nothing changes do not hide the maps
    assert found.acceptable
