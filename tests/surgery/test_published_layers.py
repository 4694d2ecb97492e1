"""Published checkpoints give here what they give there."""

import pytest
import torch
from torch import nn

from saconv_surgeon import SAConv2d, load_published
from tests import published
from tests.oracle import relative_error

X = torch.randn(2, 4, 11, 13, generator=torch.Generator().manual_seed(3))
GEOMETRY = [{}, {"stride": 2}, {"padding": 2, "dilation": 2}, {"groups": 2}]


@pytest.mark.parametrize("options", GEOMETRY)
@pytest.mark.parametrize("source", ["mmcv", "detectors"])
@pytest.mark.parametrize("bias", [True, False])
def test_layer_gives_what_the_published_layer_gives(options, source, bias):
    state = published.random_state(groups=options.get("groups", 1), bias=bias)
    layer = SAConv2d(4, 6, 3, bias=bias, **{"padding": 1, **options})
    load_published(layer, state, source)
    assert relative_error(layer(X), published.saconv(state, X, **options).double()) < 1e-6


def test_seed_block_with_norm_and_activation():
    state = published.random_state(bn=True)
    layer = SAConv2d(4, 6, 3, padding=1, bn=nn.BatchNorm2d(6), act=nn.SiLU()).eval()
    load_published(layer, state, "seed")
    assert relative_error(layer(X), published.block(state, X).double()) < 1e-6


def test_dead_bias_is_dead_only_here():
    state = published.random_state()
    layer = SAConv2d(4, 6, 3, padding=1)
    load_published(layer, state, "mmcv")
    assert not layer.bias.any()
    layer.load_state_dict(state)
    assert torch.equal(layer.bias, state["bias"])
    assert state["bias"].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("weight_diff"), "weight_diff is missing"),
        (lambda s: s.update(extra=torch.zeros(1)), "extra is unknown"),
        (lambda s: s.update(weight=torch.zeros(6, 4, 5, 5)), r"weight is \(6, 4, 5, 5\), needed \(6, 4, 3, 3\)"),
        (lambda s: s.update({"offset_s.weight": torch.zeros(18, 4, 3, 3)}), "deformable"),
    ],
)
def test_dict_that_does_not_fit_changes_nothing(change, message):
    state, layer = published.random_state(), SAConv2d(4, 6, 3, padding=1)
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    change(state)
    with pytest.raises(ValueError, match=message):
        load_published(layer, state, "mmcv")
    assert all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())


def test_unknown_source():
    with pytest.raises(ValueError, match="unknown source 'web'; there is: seed, mmcv, detectors"):
        load_published(SAConv2d(4, 6, 3), published.random_state(), "web")
