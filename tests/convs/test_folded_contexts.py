"""The folded convolution between two contexts. Oracle: the equations in float64; the trained layer, for what is not finite."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import saconv_surgeon as surgeon
from saconv_surgeon import SAConv2d
from saconv_surgeon.convs import folded_contexts
from saconv_surgeon.convs.affine import Affine
from saconv_surgeon.convs.folded import FoldedSAConv2d
from saconv_surgeon.convs.folded_contexts import FoldedContexts
from tests import oracle
from tests.convs.test_folded import by_hand, norm, zero
from tests.convs.test_saconv import GEOMETRIES

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
X = torch.randn(2, 4, 9, 11, generator=torch.Generator().manual_seed(3))
MORE = {
    "wide kernel on a narrow map": {"kernel_size": 7, "padding": 6},
    "dilated and strided": {"kernel_size": 3, "padding": 2, "dilation": 2, "stride": (2, 3)},
    "more padding than kernel": {"kernel_size": 3, "padding": (5, 3)},
    "even, same": {"kernel_size": (2, 4), "padding": "same"},
    "grouped and strided": {"kernel_size": 3, "padding": 1, "groups": 2, "stride": 2},
    "reflect, grouped": {"kernel_size": 3, "padding": 1, "padding_mode": "reflect", "groups": 4},
}
geometries = pytest.mark.parametrize("geometry", [*GEOMETRIES.values(), *MORE.values()], ids=[*GEOMETRIES, *MORE])


def constant_switch(layer):
    """Only the wide branch is left."""
    zero(layer.switch)


STATES = {
    "both": (lambda layer: None, ("narrow", "pre-context", "post-context")),
    "no post-context": (lambda layer: zero(layer.post_context), ("narrow", "pre-context")),
    "no pre-context": (lambda layer: zero(layer.pre_context), ("narrow", "post-context")),
    "only a bias before": (
        lambda layer: layer.pre_context.weight.zero_(),
        ("narrow", "pre-context", "post-context"),
    ),
    "a bias before, nothing after": (
        lambda layer: zero(layer.post_context) or layer.pre_context.weight.zero_(),
        ("narrow", "pre-context"),
    ),
    "only a bias after": (lambda layer: layer.post_context.weight.zero_(), ("narrow", "pre-context")),
}


def trained(parts="contexts", **geometry):
    return oracle.shake(SAConv2d.from_conv2d(nn.Conv2d(4, 8, **geometry).double(), parts=parts)).eval()


@pytest.fixture(params=[True, False], ids=["apart", "as it stands"])
def apart(request, monkeypatch):
    """Whether conv(p) is computed apart from conv(x), whatever the size of the map."""
    monkeypatch.setattr(folded_contexts, "is_faster_apart", lambda x, kernel: request.param)
    return request.param


@geometries
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("behind", [pytest.param("nothing", marks=pytest.mark.slow), "norm", "norm with zeros"])
def test_follows_the_equations(geometry, state, behind, apart):
    layer = trained(**geometry)
    change, parts = STATES[state]
    with torch.no_grad():
        change(layer)
    bn = None if behind == "nothing" else norm(zeros=3 if "zeros" in behind else 0)
    folded = layer.folded(None if bn is None else Affine.of(bn))
    assert type(folded) is FoldedContexts
    assert folded.parts == parts
    assert (folded.scale is not None) == (behind == "norm with zeros" and "post-context" in parts)
    for x in (X, X[..., :6, :7], X[..., :5, :5]):
        wanted = oracle.saconv(layer, x)
        wanted = wanted if bn is None else by_hand(wanted, bn)
        given = x.double()
        with torch.no_grad():
            assert oracle.relative_error(folded(given), wanted) < 1e-12
        assert torch.equal(given, x.double())


@geometries
def test_a_whole_layer_of_which_one_branch_is_left(geometry, apart):
    for switch, parts in ((1.0, "narrow"), (0.0, "wide")):
        layer = trained("all", **geometry)
        with torch.no_grad():
            zero(layer.switch)
            layer.switch.bias.fill_(switch)
            folded = layer.folded(Affine.of(norm()))
            assert type(folded) is FoldedContexts
            assert folded.parts == (parts, "pre-context", "post-context")
            assert oracle.relative_error(folded(X.double()), by_hand(oracle.saconv(layer, X), norm())) < 1e-12


def test_branches_alone_fold_without_contexts():
    layer = oracle.shake(SAConv2d(4, 8, 3, padding=1, parts="branches").double()).eval()
    folded = layer.folded(Affine.of(norm()))
    assert type(folded) is FoldedSAConv2d
    assert folded.parts == ("narrow", "wide", "switch")
    with torch.no_grad():
        assert oracle.relative_error(folded(X.double()), by_hand(oracle.saconv(layer, X), norm())) < 1e-12


@geometries
@pytest.mark.parametrize("parts", ["contexts", "branches"])
def test_layer_that_never_moved_is_its_convolution(geometry, parts):
    conv = nn.Conv2d(4, 8, **geometry)
    folded = SAConv2d.from_conv2d(conv, parts=parts).eval().folded()
    assert type(folded) is nn.Conv2d
    assert all(torch.equal(folded.state_dict()[name], value) for name, value in conv.state_dict().items())


@pytest.mark.parametrize("bad", [float("inf"), -float("inf"), float("nan")])
@pytest.mark.parametrize("state", ["both", "no post-context", "only a bias before", "at rest but for a bias"])
def test_what_is_not_finite_stays_where_the_trained_layer_has_it(bad, state, apart):
    layer = trained(kernel_size=3, padding=1)
    with torch.no_grad():
        if state in STATES:
            STATES[state][0](layer)
        else:
            zero(layer.pre_context, layer.post_context)
            layer.pre_context.bias.fill_(0.1)
    x = X.double()
    x[1, 2, 4, 5] = bad
    with torch.no_grad():
        wanted, found = layer(x), layer.folded()(x)
    assert torch.equal(found.isfinite(), wanted.isfinite())
    assert wanted.isfinite().sum() == wanted.numel() - 8 * 9
    assert torch.allclose(found[wanted.isfinite()], wanted[wanted.isfinite()])


def test_float32_is_as_near_as_the_trained_layer(apart):
    layer = trained(kernel_size=3, padding=1).float()
    with torch.no_grad():
        layer.pre_context.bias.add_(30.0)  # conv(p) is much larger than conv(x)
        wanted = oracle.saconv(layer, X)
        assert oracle.relative_error(layer.folded()(X), wanted) < 1e-6


@pytest.mark.parametrize(
    ("channels", "side", "batch", "expected"),
    [(64, 56, 1, True), (64, 56, 8, True), (128, 28, 1, False), (256, 14, 8, False), (512, 7, 8, False)],
)
def test_which_way_is_taken_by_size(channels, side, batch, expected, monkeypatch):
    layer = oracle.shake(SAConv2d(channels, channels, 3, padding=1, parts="contexts")).eval()
    folded, x, taken = layer.folded(), torch.randn(batch, channels, side, side), []
    real = FoldedContexts._apart
    monkeypatch.setattr(FoldedContexts, "_apart", lambda self, x: taken.append(1) or real(self, x))
    with torch.inference_mode():
        found = folded(x)
        assert bool(taken) == expected
        assert oracle.relative_error(found, layer(x).double()) < 1e-5


@pytest.mark.filterwarnings("ignore:.*Profiler clears events")
def test_does_not_copy_a_large_map():
    """Of all maps of the input's size, only the output is made."""
    layer = oracle.shake(SAConv2d(64, 64, 3, padding=1, parts="contexts")).eval()
    folded, x = layer.folded(Affine.of(norm(64))), torch.randn(1, 64, 64, 64)
    with torch.inference_mode():
        folded(x)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
            folded(x)
    passes = {event.key: event.count for event in profiler.key_averages()}
    assert passes.get("aten::add", 0) <= 3  # of single pixels and rows
    assert passes["aten::add_"] == 3
    assert "aten::mul_" not in passes


def test_macs_are_those_that_run():
    """64 → 64 channels, 3×3, 64×64: two products on one pixel, the taps on one pixel, and what they add up to."""
    layer = oracle.shake(SAConv2d(64, 64, 3, padding=1, bias=False, parts="contexts")).eval()
    folded, x = layer.folded(), torch.randn(1, 64, 64, 64)
    found = surgeon.profile(folded, x, timing=None)
    columns = 1 + 64 + 2 * 64
    assert found.macs == 64 * 64 * (9 * 64 * 64 + 2 + 9) + 64 * 9 * columns
    small = surgeon.profile(folded, x[..., :8, :8], timing=None)
    assert small.macs == 64 * 64 * (9 * 64 + 2)
    assert small.cross_check.agrees


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype, apart):
    layer, bn = trained(kernel_size=3, padding=1).to(dtype), norm()
    folded = layer.folded(Affine.of(bn))
    with torch.no_grad():
        found = folded(X.to(dtype))
        assert found.dtype == dtype
        assert oracle.relative_error(found, by_hand(oracle.saconv(layer, X.to(dtype)), bn)) < 0.03
        half = trained(kernel_size=3, padding=1).float().folded().to(dtype)
        assert half(X.to(dtype)).dtype == dtype


def test_autocast_runs_in_its_dtype(apart):
    folded = trained(kernel_size=3, padding=1).float().folded()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert folded(X).dtype == F.conv2d(X, folded.conv.weight).dtype == torch.bfloat16


def test_memory_format_is_that_of_the_convolution(apart):
    layer = trained(kernel_size=3, padding=1).to(memory_format=torch.channels_last)
    folded, x = layer.folded(), X.double().to(memory_format=torch.channels_last)
    with torch.no_grad():
        found = folded(x)
        assert found.stride() == folded.conv(x).stride()
        assert oracle.relative_error(found, oracle.saconv(layer, X)) < 1e-12


def test_copies_pickles_and_state_dicts(apart):
    folded = trained(kernel_size=3, padding=1).folded(Affine.of(norm()))
    with torch.no_grad():
        wanted = folded(X.double())
        assert torch.equal(pickle.loads(pickle.dumps(folded))(X.double()), wanted)
        other = oracle.shake(trained(kernel_size=3, padding=1), seed=4).folded(Affine.of(norm()))
        assert not torch.allclose(other(X.double()), wanted)
        other.load_state_dict(folded.state_dict())
        assert torch.equal(other(X.double()), wanted)
        assert torch.equal(copy.deepcopy(folded)(X.double()), wanted)


def test_traces_exports_and_compiles_for_other_sizes(apart):
    layer = trained(kernel_size=3, padding=1, stride=2)
    folded, (x, other) = layer.folded(), (X.double(), torch.randn(3, 4, 14, 12).double())
    size = {0: torch.export.Dim("n"), 2: torch.export.Dim("h", min=8), 3: torch.export.Dim("w", min=8)}
    with torch.no_grad():
        for made in (
            torch.jit.trace(folded, x),
            torch.export.export(folded, (x,), dynamic_shapes=({d: size[d] for d in size},)).module(),
            torch.compile(folded, backend="aot_eager", fullgraph=True),
            torch.fx.symbolic_trace(nn.Sequential(folded)),
        ):
            for given in (x, other):
                assert oracle.relative_error(made(given), oracle.saconv(layer, given)) < 1e-12


def test_gradients_flow_to_the_input(apart):
    layer = trained(kernel_size=3, padding=1)
    folded, x = layer.folded(), X[:1, :, :5, :5].double().requires_grad_()
    assert torch.autograd.gradcheck(folded, x)
    a, b = (torch.autograd.grad(m(x).square().sum(), x)[0] for m in (layer, folded))
    assert torch.allclose(a, b)


def test_single_images_and_empty_batches(apart):
    folded = trained(kernel_size=3, padding=1).folded()
    with torch.no_grad():
        assert torch.allclose(folded(X[0].double()), folded(X[:1].double())[0])
        assert folded(X[:0].double()).shape == (0, 8, 9, 11)


def test_inside_a_guard_of_inference_and_outside(apart):
    folded = trained(kernel_size=3, padding=1).folded()
    with torch.inference_mode():
        first = folded(X.double()).clone()
    assert torch.equal(folded(X.double()), first)
