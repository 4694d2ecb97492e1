"""Random convolutions: each becomes a bit-equal layer that, shaken, follows the equations, or is refused beforehand."""

import pytest
import torch
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from torch import nn

from saconv_surgeon.convs.saconv import SAConv2d
from saconv_surgeon.convs.targets.known_targets import find_target
from saconv_surgeon.records import CallShape
from tests import oracle

TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-10}
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@st.composite
def convolutions(draw):
    """(conv, x): any convolution that runs on its input, or nearly."""
    size = lambda low, high: st.tuples(st.integers(low, high), st.integers(low, high))
    groups = draw(st.sampled_from((1, 1, 2, 3)))
    kernel, dilation = draw(size(1, 5)), draw(size(1, 3))
    stride = draw(size(1, 3))
    mode = draw(st.sampled_from(("zeros", "zeros", "reflect", "replicate", "circular")))
    padding = draw(st.one_of(size(0, 4), st.sampled_from(("same", "valid"))))
    if padding == "same":
        stride = (1, 1)
    conv = nn.Conv2d(
        groups * draw(st.integers(1, 3)),
        groups * draw(st.integers(1, 3)),
        kernel,
        stride,
        padding,
        dilation,
        groups,
        bias=draw(st.booleans()),
        padding_mode=mode,
        dtype=draw(st.sampled_from(DTYPES)),
    )
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel)]
    pads = (0, 0) if isinstance(padding, str) else padding
    smallest = [max(1, span - (span if padding == "same" else 2 * p)) for span, p in zip(spans, pads)]
    height, width = (s + draw(st.integers(0, 12)) for s in smallest)
    x = torch.randn(draw(st.integers(1, 2)), conv.in_channels, height, width, dtype=torch.float64).to(conv.weight.dtype)
    if draw(st.booleans()):
        conv, x = (t.to(memory_format=torch.channels_last) for t in (conv, x))
    return conv, x


def refusal(conv, x, out):
    """Why the target refuses this convolution at this size, or None."""
    shape = CallShape(tuple(x.shape), tuple(out.shape), 1)
    return find_target("saconv").refuses(conv, [shape], {"allow_depthwise": True})


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@settings(
    max_examples=500,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(convolutions(), st.integers(0, 2**31 - 1))
def test_converts_to_the_bit_and_follows_the_equations_or_is_refused(drawn, seed):
    conv, x = drawn
    with torch.no_grad():
        try:
            wanted = conv(x)
        except RuntimeError:
            assume(False)  # the convolution itself cannot pad so small a map
        before = {name: value.clone() for name, value in conv.state_dict().items()}
        reason = refusal(conv, x, wanted)
        if reason is not None:
            event(f"refused: {reason.code}")
            assert reason.code in {"map-too-small", "kernel-1x1"}
            return
        layer = SAConv2d.from_conv2d(conv)
        assert torch.equal(layer(x), wanted)
        assert all(torch.equal(value, before[name]) for name, value in conv.state_dict().items())
        if conv.weight.dtype in TOLERANCE:
            event("shaken")
            oracle.shake(layer, seed)
            assert oracle.relative_error(layer(x), oracle.saconv(layer, x)) < TOLERANCE[conv.weight.dtype]


def test_refused_maps_really_cannot_be_padded():
    """The refusal is not wider than it must be: one pixel more is accepted and runs."""
    for mode in ("reflect", "circular"):
        conv = nn.Conv2d(2, 2, 3, padding=1, padding_mode=mode)
        smallest = 4 if mode == "reflect" else 3
        for side, accepted in ((smallest, True), (smallest - 1, False)):
            x = torch.randn(1, 2, side, 9)
            assert (refusal(conv, x, conv(x)) is None) == accepted
            layer = SAConv2d.from_conv2d(conv)
            if accepted:
                assert torch.equal(layer(x), conv(x))
            else:
                with pytest.raises(ValueError, match=f"needs at least {smallest}x{smallest}"):
                    layer(x)
