"""The layer: exact at the start, following the equations afterwards, and at home in everything PyTorch does to a module."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from saconv_surgeon import SAConv2d
from tests import oracle, published
from tests.oracle import relative_error

X = torch.randn(2, 4, 9, 11, generator=torch.Generator().manual_seed(2))
NEW = (
    *("weight_diff", "switch.weight", "switch.bias", "pre_context.weight", "pre_context.bias"),
    *("post_context.weight", "post_context.bias"),
)
GEOMETRIES = {
    "same size": {"kernel_size": 3, "padding": 1},
    "strided": {"kernel_size": 3, "padding": 1, "stride": 2},
    "valid": {"kernel_size": 3},
    "wide padding": {"kernel_size": 3, "padding": 4, "stride": 3},
    "even": {"kernel_size": 4, "padding": 1, "stride": 2},
    "same": {"kernel_size": 3, "padding": "same", "dilation": 2},
    "grouped": {"kernel_size": 3, "padding": 1, "groups": 2},
    "depthwise": {"kernel_size": 3, "padding": 1, "groups": 4},
    "one axis": {"kernel_size": (1, 3), "padding": (0, 1)},
    "reflect": {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    "circular": {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
    "replicate": {"kernel_size": 5, "padding": 2, "padding_mode": "replicate", "stride": 2},
}
geometries = pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES.keys())


def pair_of(dtype=torch.float32, **geometry):
    conv = nn.Conv2d(4, 8, **(geometry or GEOMETRIES["same size"])).to(dtype)
    return conv, SAConv2d.from_conv2d(conv)


def shaken(**geometry):
    return oracle.shake(pair_of(**geometry)[1])


def test_state_dict_is_the_public_contract():
    names = {"weight", "bias", "weight_gamma", "weight_beta", *NEW}
    assert set(SAConv2d(4, 6, 3).state_dict()) == names
    assert set(SAConv2d(4, 6, 3, bias=False).state_dict()) == names - {"bias"}
    block = SAConv2d(4, 6, 3, bn=nn.BatchNorm2d(6), act=nn.SiLU())
    norm = {f"bn.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}
    assert set(block.state_dict()) == names | norm
    assert SAConv2d(4, 6, 3).weight_gamma.shape == (6, 1, 1, 1)


def test_parameter_count_is_the_formula():
    c, k = 64, 3
    layer = SAConv2d(c, c, k, bias=False)
    assert sum(p.numel() for p in layer.parameters()) == 20 * c * c + 3 * c + 1 == 82_113
    assert sum(b.numel() for b in layer.buffers()) == 2 * c


@geometries
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_converted_layer_is_equal_to_the_bit(geometry, dtype, layout):
    conv = nn.Conv2d(4, 8, **geometry).to(dtype=dtype, memory_format=layout)
    x = X.to(dtype=dtype, memory_format=layout)
    assert torch.equal(SAConv2d.from_conv2d(conv)(x), conv(x))


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 7), (2, 9), (3, 2)])
def test_tiny_maps(size):
    conv, layer = pair_of()
    x = torch.randn(2, 4, *size)
    assert torch.equal(layer(x), conv(x))
    oracle.shake(layer)
    assert relative_error(layer(x), oracle.saconv(layer, x)) < 2e-5


def test_unbatched_and_empty_batches():
    conv, layer = pair_of()
    assert torch.equal(layer(X[0]), conv(X[0]))
    assert layer(X[:0]).shape == conv(X[:0]).shape


@geometries
def test_shaken_layer_follows_the_equations(geometry):
    layer = shaken(**geometry)
    assert relative_error(layer(X), oracle.saconv(layer, X)) < 2e-5
    exact = layer.double()
    assert relative_error(exact(X.double()), oracle.saconv(exact, X)) < 1e-12


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"padding": 2, "dilation": 2}, {"groups": 2}])
def test_shaken_layer_gives_what_the_published_order_gives(options):
    layer = oracle.shake(SAConv2d(4, 8, 3, bias=False, **{"padding": 1, **options}))
    assert relative_error(layer(X), published.saconv(layer.state_dict(), X, **options).double()) < 2e-6


def test_each_part_matters():
    """Every new parameter changes the output: none is read in vain, and the oracle would see it."""
    layer = shaken()
    before = layer(X)
    for name in (*NEW, "weight", "bias"):
        other = copy.deepcopy(layer)
        with torch.no_grad():
            other.get_parameter(name).add_(torch.rand_like(other.get_parameter(name)))
        assert not torch.allclose(other(X), before), name


@geometries
def test_gradients_in_float64(geometry):
    layer = shaken(**geometry).double()
    x = X[:1, :, :6, :7].double().requires_grad_()
    names = [name for name, _ in layer.named_parameters()]

    def run(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values)), (x,))

    values = [p.detach().requires_grad_() for p in layer.parameters()]
    assert torch.autograd.gradcheck(run, (x, *values), nondet_tol=1e-12)


def test_first_step_reaches_every_parameter():
    """Δw has no gradient while 1 - S is zero; after one step everything has."""
    _, layer = pair_of()
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    for step in range(2):
        optimiser.zero_grad()
        layer(X).square().sum().backward()
        for name, parameter in layer.named_parameters():
            assert parameter.grad.isfinite().all(), name
            if step or name != "weight_diff":
                assert parameter.grad.any(), name
            else:
                assert not parameter.grad.any()
        optimiser.step()
    assert layer(X).isfinite().all()


def test_from_conv2d_carries_everything_over():
    conv = nn.Conv2d(4, 8, 5, (1, 2), (2, 1), (1, 2), 2, padding_mode="replicate", dtype=torch.float64)
    conv.to(memory_format=torch.channels_last).eval()
    conv.weight.requires_grad_(False)
    conv.note = "mine"
    state, before = torch.get_rng_state(), copy.deepcopy(conv.state_dict())
    layer = SAConv2d.from_conv2d(conv)
    for name in ("stride", "padding", "dilation", "groups", "padding_mode", "kernel_size", "note", "training"):
        assert getattr(layer, name) == getattr(conv, name), name
    assert layer.weight.dtype == layer.weight_diff.dtype == layer.switch.weight.dtype == torch.float64
    assert layer.weight.is_contiguous(memory_format=torch.channels_last)
    assert not layer.weight.requires_grad
    assert layer.bias.requires_grad
    assert not layer.weight_diff.requires_grad
    assert not layer.training
    assert not layer.switch.training
    theirs = {t.data_ptr() for t in conv.state_dict().values()}
    assert theirs.isdisjoint(t.data_ptr() for t in layer.state_dict().values())
    assert all(torch.equal(v, before[k]) for k, v in conv.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_arguments_changed_after_construction_are_followed():
    """Some libraries turn strides into dilations on the finished object."""
    conv = nn.Conv2d(4, 8, 3, stride=2, padding=1)
    conv.stride, conv.dilation, conv.padding = (1, 1), (2, 2), (2, 2)
    layer = SAConv2d.from_conv2d(conv)
    assert torch.equal(layer(X), conv(X))
    late = SAConv2d(4, 8, 3, stride=2, padding=1)
    late.stride, late.dilation, late.padding = (1, 1), (2, 2), (2, 2)
    late.load_state_dict(conv.state_dict(), strict=False)
    assert torch.equal(late(X), conv(X))


def test_forward_changes_no_state():
    layer = shaken()
    attributes = {name: value for name, value in vars(layer).items() if not name.startswith("_")}
    state = copy.deepcopy(layer.state_dict())
    layer(X)
    assert attributes == {name: value for name, value in vars(layer).items() if not name.startswith("_")}
    assert all(torch.equal(v, state[k]) for k, v in layer.state_dict().items())


def test_copies_and_pickles():
    layer = shaken()
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(X), layer(X))


@geometries
def test_compiles_whole(geometry):
    layer = shaken(**geometry)
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(X), layer(X), atol=1e-5)


@pytest.mark.slow
def test_compiles_with_the_default_backend():
    layer = shaken()
    torch._dynamo.reset()
    assert relative_error(torch.compile(layer, fullgraph=True)(X), oracle.saconv(layer, X)) < 2e-5


@geometries
def test_exports(geometry):
    layer = shaken(**geometry).eval()
    program = torch.export.export(layer, (X,))
    assert torch.allclose(program.module()(X), layer(X), atol=1e-6)


def test_autocast_equals_the_convolution_under_autocast():
    conv, layer = pair_of()
    with torch.autocast("cpu", torch.bfloat16):
        wanted, found = conv(X), layer(X)
    assert found.dtype == wanted.dtype == torch.bfloat16
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_training_step_under_amp(dtype):
    layer = shaken()
    optimiser, scaler = torch.optim.SGD(layer.parameters(), 1e-3), torch.amp.GradScaler("cpu", init_scale=256.0)
    with torch.autocast("cpu", dtype):
        loss = layer(X).float().square().mean()
    scaler.scale(loss).backward()
    scaler.unscale_(optimiser)
    for name, parameter in layer.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
    before = layer.weight_diff.detach().clone()
    scaler.step(optimiser)
    assert not torch.equal(layer.weight_diff, before)


def test_gradient_checkpointing_gives_the_same_gradients():
    layer = shaken()
    layer(X).square().sum().backward()
    wanted = {name: p.grad.clone() for name, p in layer.named_parameters()}
    layer.zero_grad()
    checkpoint(layer, X, use_reentrant=False).square().sum().backward()
    assert all(torch.equal(p.grad, wanted[name]) for name, p in layer.named_parameters())


def test_two_threads_at_once():
    layer = shaken()
    inputs = [torch.randn(1, 4, 9 + i, 11) for i in range(8)]
    with torch.no_grad():
        wanted = [layer(x) for x in inputs]
        with ThreadPoolExecutor(2) as pool:
            for _ in range(5):
                assert all(torch.equal(a, b) for a, b in zip(pool.map(layer, inputs), wanted))


def test_block_form_applies_norm_then_activation():
    conv, norm = nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8).eval()
    nn.init.uniform_(norm.running_var, 0.5, 2)
    layer = SAConv2d(4, 8, 3, padding=1, bn=norm, act=nn.SiLU()).eval()
    layer.load_state_dict(conv.state_dict(), strict=False)
    assert torch.equal(layer(X), nn.functional.silu(norm(conv(X))))


def test_too_small_a_map_says_which_layer_and_how_small():
    layer = SAConv2d(4, 8, 3, padding=1, padding_mode="reflect")
    layer.path = "stage.2.conv"
    with pytest.raises(ValueError, match=r"'stage.2.conv': a map of 3x9 .* needs at least 4x4"):
        layer(torch.randn(1, 4, 3, 9))


def test_infinite_values_stay_where_they_were_in_the_narrow_branch():
    """S is exactly 1 at the start, so the wide branch adds nothing, whatever its finite value."""
    conv, layer = pair_of(torch.float16)
    x = (X * 3000).half()
    assert conv(x).isfinite().all()
    assert torch.equal(layer(x), conv(x))


@pytest.mark.gpu
@geometries
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_cuda_layers_are_equal_to_the_bit(geometry, dtype):
    conv = nn.Conv2d(4, 8, **geometry).to(device="cuda", dtype=dtype)
    x = X.to(device="cuda", dtype=dtype)
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        assert torch.equal(SAConv2d.from_conv2d(conv)(x), conv(x))
        moved = SAConv2d.from_conv2d(nn.Conv2d(4, 8, **geometry)).to(device="cuda", dtype=dtype)
        assert torch.equal(moved.standardised_weight().to(dtype), moved.weight)
