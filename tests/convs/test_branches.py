"""Branches, refocused kernels, wavelets and modulated offsets: random geometries against the equations in float64."""

import copy

import pytest
import torch
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from torch import nn

from saconv_surgeon.convs.affine import Affine
from saconv_surgeon.convs.targets.known_targets import find_target
from saconv_surgeon.models.census.conv_arguments import conv_arguments
from saconv_surgeon.records import CallShape
from tests import oracle, oracle_branches
from tests.operators import operator  # noqa: F401 - a fixture

EQUATIONS = {
    "refconv": oracle_branches.refconv,
    "dbb": oracle_branches.dbb,
    "acb": oracle_branches.acb,
    "repvgg": oracle_branches.repvgg,
    "dilated-reparam": oracle_branches.dilated_reparam,
    "wtconv": oracle_branches.wtconv,
    "dcnv2": oracle_branches.dcnv2,
}
MERGED = ("refconv", "dbb", "acb", "repvgg", "dilated-reparam")
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-10}
MANY = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


pytestmark = pytest.mark.usefixtures("operator")


@st.composite
def convolutions(draw, depthwise=False):
    size = lambda low, high: st.tuples(st.integers(low, high), st.integers(low, high))
    odd = st.sampled_from((1, 3, 3, 5))
    kernel = draw(st.tuples(odd, odd))
    groups = draw(st.integers(1, 4)) if depthwise else draw(st.sampled_from((1, 1, 2, 3)))
    ins, outs = (groups, groups) if depthwise else (groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3)))
    padding = draw(st.one_of(size(0, 3), st.sampled_from(("same", "valid"))))
    stride = (1, 1) if padding == "same" else draw(size(1, 3))
    dilation = (1, 1) if depthwise and draw(st.booleans()) else draw(size(1, 2))
    mode = "zeros" if depthwise else draw(st.sampled_from(("zeros", "zeros", "reflect", "replicate", "circular")))
    dtype = draw(st.sampled_from((torch.float32, torch.float64)))
    bias = draw(st.booleans())
    conv = nn.Conv2d(ins, outs, kernel, stride, padding, dilation, groups, bias, mode, dtype=dtype)
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel)]
    pads = (0, 0) if isinstance(padding, str) else padding
    smallest = [max(1, span - (span if padding == "same" else 2 * p)) for span, p in zip(spans, pads)]
    height, width = (s + draw(st.integers(0, 9)) for s in smallest)
    x = torch.randn(draw(st.integers(1, 2)), ins, height, width, dtype=torch.float64).to(dtype)
    if draw(st.booleans()):
        conv, x = (t.to(memory_format=torch.channels_last) for t in (conv, x))
    return conv.eval(), x, draw(st.booleans())


def check(name, drawn, seed):
    conv, x, with_norm = drawn
    target = find_target(name)
    try:
        wanted = conv(x).detach()
    except RuntimeError:
        assume(False)
    options = {**target.parse({"levels": "2"} if name == "wtconv" else {}), "allow_depthwise": True}
    reason = target.refuses(conv, [CallShape(tuple(x.shape), tuple(wanted.shape), 1)], options)
    if reason is not None:
        event(f"{name} refused: {reason.code}")
        assert reason.code in {
            *(
                "kernel-1x1",
                "kernel-even",
                "not-depthwise",
                "one-row",
                "dilated",
                "kernel-larger",
                "map-too-small",
                "map-of-one",
            ),
        }
        return
    event(f"{name} accepted")
    before = {key: value.clone() for key, value in conv.state_dict().items()}
    drawn_before = torch.get_rng_state()
    own = {key: value for key, value in options.items() if key != "allow_depthwise"}
    layer = target.layer.from_conv2d(conv, **own)
    assert torch.equal(torch.get_rng_state(), drawn_before)
    assert all(torch.equal(before[key], value) for key, value in conv.state_dict().items())
    if target.inexact is None:
        assert torch.equal(layer(x), wanted)
    tolerance = TOLERANCE[x.dtype]
    assert oracle.relative_error(layer(x), wanted.double()) < tolerance
    assert layer.is_at_rest()
    back = layer.to_conv2d()
    assert torch.equal(back.weight, conv.weight)
    assert torch.equal(back(x), wanted)
    assert [p.requires_grad for p in back.parameters()] == [p.requires_grad for p in conv.parameters()]
    added = target.added(conv_arguments(conv), [], options)
    grown = sum(p.numel() for p in layer.parameters()) - sum(p.numel() for p in conv.parameters())
    assert added.parameters == grown

    if with_norm and target.norm_inside:
        layer.bn = nn.BatchNorm2d(conv.out_channels, dtype=conv.weight.dtype).eval()
    oracle_branches.shake(layer, seed)
    layer.eval()
    exact = EQUATIONS[name](layer, x)
    assert layer(x).shape == wanted.shape
    assert oracle.relative_error(layer(x), exact) < tolerance
    assert not layer.is_at_rest()
    with pytest.raises(ValueError, match=r"has been trained|a norm or an activation"):
        layer.to_conv2d()
    parts = layer.contributions(x)
    assert oracle.relative_error(sum(parts.values()).expand_as(wanted), exact) < tolerance
    again = target.layer.from_conv2d(conv, **own)
    if layer._modules.get("bn") is not None:
        again.bn = copy.deepcopy(layer.bn)
    again.load_state_dict(layer.state_dict())
    assert torch.equal(again(x), layer(x))
    if name in MERGED:
        folded = layer.folded()
        assert type(folded) is nn.Conv2d
        assert oracle.relative_error(folded(x), exact) < tolerance
        if layer.takes_norm:
            after = oracle_branches.shake(nn.BatchNorm2d(conv.out_channels, dtype=x.dtype)).eval()
            whole = layer.folded(Affine.of(after))
            assert type(whole) is nn.Conv2d
            state = {f"n.{key}": value.double() for key, value in after.state_dict().items()}
            assert oracle.relative_error(whole(x), oracle_branches.norm(state, "n", exact)) < tolerance


@pytest.mark.parametrize("name", ["refconv", "dbb", "acb", "repvgg", "dcnv2"])
def test_random_convolutions_follow_the_equations(name):
    MANY(given(convolutions(), st.integers(0, 2**31 - 1))(lambda drawn, seed: check(name, drawn, seed)))()


@pytest.mark.parametrize("name", ["dilated-reparam", "wtconv", "dbb", "refconv", "repvgg"])
def test_random_depthwise_convolutions_follow_the_equations(name):
    MANY(given(convolutions(depthwise=True), st.integers(0, 2**31 - 1))(lambda drawn, seed: check(name, drawn, seed)))()
