"""Folded layers: what they compute, against the equations in float64, and what is left of them."""

import copy
import importlib
import pickle

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon import ConvAWS2d, DeformableSAConv2d, SAConv2d, SAConvBlock, SPConv2d
from saconv_surgeon.convs import known_norms_and_activations
from saconv_surgeon.convs.affine import Affine, remainder
from saconv_surgeon.convs.folded import FoldedSAConv2d
from tests import oracle, oracle_targets
from tests.convs.test_saconv import GEOMETRIES
from tests.operators import operator  # noqa: F401 - a fixture

X = torch.randn(2, 4, 9, 11, generator=torch.Generator().manual_seed(3))
ALL = ("narrow", "wide", "switch", "pre-context", "post-context")
geometries = pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES.keys())


def norm(channels=8, dtype=torch.float64, zeros=0):
    """A batch norm that has seen data; ``zeros`` of its scales are 0, as zero-init residual blocks have them."""
    made, g = nn.BatchNorm2d(channels).double().eval(), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for tensor, low in ((made.running_mean, -1), (made.running_var, 0.3), (made.weight, -1.5), (made.bias, -1)):
            tensor.uniform_(low, 2, generator=g)
        made.weight[:zeros] = 0
    return made.to(dtype)


def by_hand(y, bn):
    """What the norm makes of ``y``, (N, C, H, W), written out."""
    scale = bn.weight / torch.sqrt(bn.running_var + bn.eps)
    return (y - bn.running_mean[:, None, None]) * scale[:, None, None] + bn.bias[:, None, None]


def zero(*parts):
    for part in parts:
        for parameter in part.parameters():
            parameter.zero_()


def constant(value):
    def change(layer):
        zero(layer.switch, layer.pre_context, layer.post_context)
        layer.switch.bias.fill_(value)

    return change


STATES = {
    "everything lives": (lambda layer: None, ALL),
    "no post-context": (lambda layer: zero(layer.post_context), ALL[:4]),
    "only a bias behind": (lambda layer: layer.post_context.weight.zero_(), ALL[:4]),
    "no pre-context": (lambda layer: zero(layer.pre_context), ("narrow", "wide", "switch", "post-context")),
    "only a bias before": (lambda layer: layer.pre_context.weight.zero_(), ALL),
    "no contexts": (lambda layer: zero(layer.pre_context, layer.post_context), ALL[:3]),
    "switch of 1": (constant(1.0), None),
    "switch of 0": (constant(0.0), None),
    "switch of 0.3": (constant(0.3), ("narrow", "wide")),
    "switch of -0.5": (constant(-0.5), ("narrow", "wide")),
}


def in_state(state, **geometry):
    layer = oracle.shake(SAConv2d.from_conv2d(nn.Conv2d(4, 8, **geometry).double())).eval()
    change, parts = STATES[state]
    with torch.no_grad():
        change(layer)
    return layer, parts


@geometries
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("behind", ["nothing", "norm", "norm with zeros"])
def test_follows_the_equations(geometry, state, behind):
    layer, parts = in_state(state, **geometry)
    before = copy.deepcopy(layer.state_dict())
    bn = None if behind == "nothing" else norm(zeros=3 if "zeros" in behind else 0)
    folded = layer.folded(None if bn is None else Affine.of(bn))
    wanted = oracle.saconv(layer, X)
    wanted = wanted if bn is None else by_hand(wanted, bn)
    with torch.no_grad():
        assert oracle.relative_error(folded(X.double()), wanted) < 1e-12
    if parts is None:
        assert type(folded) is nn.Conv2d
    else:
        assert isinstance(folded, FoldedSAConv2d)
        assert folded.parts == parts
    assert not folded.training
    assert not any(p.requires_grad for p in folded.parameters())
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert not {p.data_ptr() for p in folded.parameters()} & {p.data_ptr() for p in layer.parameters()}


def test_constant_switch_leaves_the_convolution_of_its_branch():
    narrow, wide = (in_state(f"switch of {value}", **GEOMETRIES["same size"])[0].folded() for value in (1, 0))
    assert (narrow.dilation, narrow.padding) == ((1, 1), (1, 1))
    assert (wide.dilation, wide.padding) == ((3, 3), (3, 3))


@geometries
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_layer_that_never_moved_is_its_convolution_to_the_bit(geometry, dtype):
    conv = nn.Conv2d(4, 8, **geometry).to(dtype)
    for kind in (SAConv2d, ConvAWS2d):
        folded = kind.from_conv2d(conv).eval().folded()
        assert type(folded) is nn.Conv2d
        assert repr(folded) == repr(conv)
        assert all(torch.equal(folded.state_dict()[name], value) for name, value in conv.state_dict().items())


def test_layer_that_never_moved_takes_a_norm_when_asked_to():
    conv, bn = nn.Conv2d(4, 8, 3, padding=1).double(), norm()
    folded = SAConv2d.from_conv2d(conv).eval().folded(Affine.of(bn))
    assert type(folded) is nn.Conv2d
    with torch.no_grad():
        assert oracle.relative_error(folded(X.double()), by_hand(conv(X.double()), bn)) < 1e-13


def test_trained_standardised_layer_is_a_convolution():
    layer, bn = oracle.shake(ConvAWS2d(4, 8, 3, padding=1, bias=False)).double().eval(), norm()
    kernel = oracle.standardised(layer.weight.detach(), layer.weight_gamma, layer.weight_beta)
    wanted, _ = oracle.convolve(layer, X.double(), kernel, None, 1)
    with torch.no_grad():
        for then, expected in ((None, wanted), (bn, by_hand(wanted, bn))):
            folded = layer.folded(None if then is None else Affine.of(then))
            assert type(folded) is nn.Conv2d
            assert (folded.bias is None) == (then is None)
            assert oracle.relative_error(folded(X.double()), expected) < 1e-13


def test_block_takes_in_its_own_norm_and_keeps_its_activation():
    block = oracle.shake(SAConvBlock(4, 8, 3)).double().eval()
    block.bn.load_state_dict(norm().state_dict())
    assert not block.takes_norm
    folded = block.folded()
    assert [name for name, _ in folded.named_children()] == ["conv", "act"]
    with torch.no_grad():
        wanted = torch.nn.functional.silu(by_hand(oracle.saconv(block, X), block.bn))
        assert oracle.relative_error(folded(X.double()), wanted) < 1e-13
        kept = block.folded(own_norm=False)
        assert isinstance(kept.bn, nn.BatchNorm2d)
        assert oracle.relative_error(kept(X.double()), wanted) < 1e-13


@pytest.mark.parametrize("live", ["both", "narrow", "wide", "none"])
@pytest.mark.parametrize("options", [{"padding": 1}, {"padding": 2, "dilation": 2, "stride": 2}], ids=str)
def test_deformable(live, options, operator):  # noqa: F811
    layer = oracle.shake(DeformableSAConv2d(4, 8, 3, **options), size=0.4).eval()
    with torch.no_grad():
        zero(
            *(
                part
                for name, part in (("narrow", layer.offset_s), ("wide", layer.offset_l))
                if live not in (name, "both")
            )
        )
        bn = norm(dtype=torch.float32)
        wanted = by_hand(oracle_targets.deformable(layer, X), norm())
        folded = layer.folded(Affine.of(bn))
        assert folded.parts == ALL
        kinds = [type(branch).__name__ for branch in (folded.narrow, folded.wide)]
        assert kinds == ["DeformedBranch" if live in (name, "both") else "Conv2d" for name in ("narrow", "wide")]
        assert oracle.relative_error(folded(X), wanted) < 2e-5
        assert torch.equal(copy.deepcopy(folded)(X), folded(X))


@pytest.mark.parametrize("channels", [(8, 6), (5, 7)], ids=["two groups", "two convolutions"])
def test_split_layer_takes_in_both_its_norms(channels):
    c_in, c_out = channels
    layer = SPConv2d(c_in, c_out, 3, padding=1).double().eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(0, 0.5)
        for bn in (layer.bn1, layer.bn2):
            bn.load_state_dict(norm(c_out).state_dict())
    folded, x = layer.folded(), torch.randn(2, c_in, 7, 8).double()
    assert not layer.takes_norm
    assert isinstance(folded.bn1, nn.Identity)
    assert isinstance(folded.bn2, nn.Identity)
    with torch.no_grad():
        assert oracle.relative_error(folded(x), layer(x)) < 1e-13


def test_half_precision_is_rounded_once():
    """The kernels are those of float64, rounded; the layer's own are rounded before the norm multiplies them."""
    layer, bn = oracle.shake(SAConv2d(4, 8, 3, padding=1)).to(torch.bfloat16).eval(), norm()
    kernel = oracle.standardised(
        layer.weight.detach().double(), layer.weight_gamma.double(), layer.weight_beta.double()
    )
    with torch.no_grad():
        layer.post_context.weight.zero_()
    folded = layer.folded(Affine.of(bn))
    scale = (bn.weight / torch.sqrt(bn.running_var + bn.eps)).detach()
    exact = kernel * scale[:, None, None, None]
    assert folded.narrow.weight.dtype == torch.bfloat16
    assert float(((folded.narrow.weight.double() - exact).abs() / exact.abs().clamp(min=1e-6)).max()) < 2**-8


def test_unbatched_empty_and_small_maps():
    layer, _ = in_state("everything lives", kernel_size=3, padding=1, padding_mode="reflect")
    folded = layer.folded()
    folded.path = "stem.conv"
    with torch.no_grad():
        assert torch.equal(folded(X[0].double()), folded(X[:1].double())[0])
        assert folded(X[:0].double()).shape == (0, 8, 9, 11)
        assert oracle.relative_error(folded(X[..., :5, :6].double()), oracle.saconv(layer, X[..., :5, :6])) < 1e-13
        with pytest.raises(ValueError, match=r"FoldedSAConv2d at 'stem.conv': a map of 3x11 is too small"):
            folded(X[..., :3, :].double())


def test_small_maps_where_only_the_wide_branch_is_left():
    layer, _ = in_state("switch of 0", kernel_size=3, padding=1, padding_mode="reflect")
    with torch.no_grad():
        layer.post_context.bias.fill_(1)
        layer.pre_context.weight.fill_(0.1)
        folded = layer.folded()
        assert folded.parts == ("wide", "pre-context")
        assert oracle.relative_error(folded(X[..., :5, :6].double()), oracle.saconv(layer, X[..., :5, :6])) < 1e-13
        with pytest.raises(ValueError, match="a map of 3x11 is too small for padding_mode='reflect'"):
            folded(X[..., :3, :].double())


@pytest.mark.parametrize("state", ["everything lives", "switch of 0.3"])
def test_copies_pickles_and_graphs(state):
    layer, _ = in_state(state, kernel_size=3, stride=2, padding=1)
    folded, x = layer.folded(Affine.of(norm())), X.double()
    with torch.no_grad():
        wanted = folded(x)
        assert torch.equal(pickle.loads(pickle.dumps(folded))(x), wanted)
        again = copy.deepcopy(folded)
        again.load_state_dict(folded.state_dict())
        assert torch.equal(again(x), wanted)
        program = torch.export.export(folded, (x,)).module()
        compiled = torch.compile(folded, backend="aot_eager", fullgraph=True)
        for other in (program, compiled):
            assert oracle.relative_error(other(x), wanted) < 1e-13


def test_folding_keeps_memory_format_and_foreign_attributes():
    layer = oracle.shake(SAConv2d(4, 8, 3, padding=1)).eval().to(memory_format=torch.channels_last)
    layer.i, layer.f = 4, -1  # as YOLO's parser leaves them
    folded = layer.folded(Affine.of(norm()))
    assert (folded.i, folded.f) == (4, -1)
    assert folded.narrow.weight.is_contiguous(memory_format=torch.channels_last)
    assert folded.wide.weight.is_contiguous(memory_format=torch.channels_last)


def test_which_norms_are_constant():
    assert Affine.of(norm()) is not None
    assert Affine.of(nn.BatchNorm2d(3, affine=False)) is not None
    for other in (
        nn.BatchNorm2d(3, track_running_stats=False),
        nn.GroupNorm(1, 3),
        nn.InstanceNorm2d(3),
        nn.Identity(),
    ):
        assert Affine.of(other) is None, other

    class Scaled(nn.BatchNorm2d):
        def forward(self, x):
            return super().forward(x) * 2

    assert Affine.of(Scaled(3)) is None
    patched = nn.BatchNorm2d(3)
    patched.forward = lambda x: x
    assert Affine.of(patched) is None


def library(name):
    try:
        return importlib.import_module(name)
    except Exception as error:  # a build for another torch can raise anything
        pytest.skip(f"{name} cannot be imported ({type(error).__name__})")


def test_norms_of_libraries():
    frozen = library("torchvision.ops.misc").FrozenBatchNorm2d(8).double()
    with torch.no_grad():
        for name, tensor in norm().state_dict().items():
            if hasattr(frozen, name):
                getattr(frozen, name).copy_(tensor)
    affine, y = Affine.of(frozen), torch.randn(2, 8, 3, 3).double()
    assert torch.allclose(y * affine.scale[:, None, None] + affine.shift[:, None, None], frozen(y))


def test_norm_with_an_activation_leaves_it_behind():
    timm = library("timm.layers")
    made = timm.BatchNormAct2d(8, act_layer=nn.SiLU).double().eval()
    made.load_state_dict(norm().state_dict())
    affine, y = Affine.of(made), torch.randn(2, 8, 3, 3).double()
    scaled = y * affine.scale[:, None, None] + affine.shift[:, None, None]
    assert torch.allclose(remainder(made)(scaled), made(y))
    assert isinstance(remainder(timm.BatchNormAct2d(8, apply_act=False)), nn.Identity)


class Acting(nn.BatchNorm2d):
    """As timm's: an activation behind the norm, in one module."""

    def __init__(self, channels):
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), nn.SiLU()

    def forward(self, x):
        return self.act(self.drop(super().forward(x)))


def test_own_norm_with_an_activation_leaves_it_behind(monkeypatch):
    monkeypatch.setitem(known_norms_and_activations.BATCH_NORMS_WITH_ACTIVATION, "Acting", (__name__,))
    block = oracle.shake(SAConvBlock(4, 8, 3, act=None)).double()
    block.bn = Acting(8).double()
    block.bn.load_state_dict(norm().state_dict())
    block.eval()
    folded = block.folded()
    assert [name for name, _ in folded.named_children()] == ["conv", "bn"]
    split = SPConv2d(4, 8, 3, padding=1).double().eval()
    split.bn1 = block.bn
    with torch.no_grad():
        wanted = torch.nn.functional.silu(by_hand(oracle.saconv(block, X), norm()))
        assert oracle.relative_error(folded(X.double()), wanted) < 1e-13
        assert oracle.relative_error(split.folded()(X.double()), split(X.double())) < 1e-13


def test_layer_of_a_third_party_is_copied_or_taken_back():
    class Twice(surgeon.ConvertedLayer):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return 2 * self.conv(x)

    layer, x = Twice(), torch.randn(1, 3, 4, 4)
    assert not layer.takes_norm
    assert torch.equal(layer.folded()(x), layer(x))
    assert layer.folded() is not layer


@pytest.mark.gpu
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_device(state, dtype):
    """Against the layer itself on the CPU in float64, to the rounding of the dtype."""
    layer, _ = in_state(state, kernel_size=3, stride=2, padding=1)
    on_device = copy.deepcopy(layer).to("cuda", dtype)
    bn = norm(dtype=torch.float32)
    folded = on_device.folded(Affine.of(bn.cuda()))
    x = X.to("cuda", dtype)
    with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
        found = folded(x)
        wanted = by_hand(oracle.saconv(on_device.cpu(), x.cpu()), norm())
    assert oracle.relative_error(found.cpu(), wanted) < (1e-5 if dtype == torch.float32 else 0.05)
