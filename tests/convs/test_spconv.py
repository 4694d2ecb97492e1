"""``SPConv2d`` against its definition in float64 and against the published order of operations."""

import copy
from fractions import Fraction

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from saconv_surgeon import SPConv2d, load_published, published_state
from tests import oracle, oracle_targets

GEOMETRIES = [
    ((8, 8, 3), {"padding": 1}),
    ((8, 8, 3), {"padding": 1, "stride": 2}),
    ((8, 6, 3), {"padding": 1, "stride": 3}),
    ((8, 6, 3), {"padding": 1, "stride": (1, 2)}),
    ((8, 6, 3), {"padding": 1, "stride": 4}),
    ((8, 6, 3), {}),
    ((8, 6, 3), {"padding": "same", "dilation": 2}),
    ((8, 6, 3), {"padding": "valid", "stride": 2}),
    ((8, 6, 5), {"padding": 2, "stride": 2}),
    ((8, 6, 7), {"padding": 3, "stride": 2, "dilation": 1}),
    ((8, 6, 4), {"padding": 1, "stride": 2}),
    ((8, 6, 4), {"padding": "same"}),
    ((8, 6, (1, 7)), {"padding": (0, 3)}),
    ((8, 6, (3, 2)), {"padding": (1, 0), "stride": (2, 1)}),
    ((8, 6, 4), {"stride": 4}),
    ((8, 6, 3), {"padding": 1, "padding_mode": "reflect"}),
    ((8, 6, 3), {"padding": (2, 1), "dilation": (2, 1), "stride": 2, "padding_mode": "circular"}),
    ((7, 5, 3), {"padding": 1}),
    ((9, 6, 3), {"padding": 1, "stride": 2, "ratio": "1/3"}),
    ((16, 7, 3), {"padding": 1, "ratio": "1/8"}),
    ((10, 4, 3), {"padding": 1, "ratio": 0.7}),
]
SIZES = [(12, 14), (11, 13)]
geometries = pytest.mark.parametrize(("sizes", "options"), GEOMETRIES, ids=str)


def made(sizes, options, seed=0):
    """A layer with everything moved, norms as after training."""
    layer = SPConv2d(*sizes, **options)
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*layer.named_parameters(), *layer.named_buffers()]:
            if tensor.is_floating_point():
                noise = torch.randn(tensor.shape, generator=g) * 0.4
                tensor.copy_(1 + noise.abs() if "running_var" in name else tensor + noise)
    return layer.eval()


def image(c, size, seed=1, n=2):
    return torch.randn(n, c, *size, generator=torch.Generator().manual_seed(seed))


@geometries
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # torch says so of any such convolution
def test_follows_the_definition(sizes, options, size):
    layer, x = made(sizes, options), image(sizes[0], size)
    found, wanted = layer(x), oracle_targets.spconv(layer, x)
    assert found.shape == nn.Conv2d(*sizes, **{k: v for k, v in options.items() if k != "ratio"})(x).shape
    assert oracle.relative_error(found, wanted) < 2e-6
    assert oracle.relative_error(copy.deepcopy(layer).double()(x.double()), wanted) < 1e-13


def test_the_oracle_can_tell():
    layer, x = made((8, 8, 3), {"padding": 1, "stride": 2}), image(8, (11, 13))
    wanted = oracle_targets.spconv(layer, x)
    layer.pwc.weight.data[0, 0] += 0.01
    assert oracle.relative_error(layer(x), wanted) > 1e-4


def published_order(state, x, stride):
    """The authors' forward, in their order: floor-mode pools, a softmax over the stacked averages."""
    r = state["pwc.weight"].shape[1]
    norm = lambda y, n: F.batch_norm(y, *(state[f"{n}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")))
    spatial = F.conv2d(x[:, :r], state["gwc.weight"], None, stride, 1, groups=2)
    pool = (lambda y: F.avg_pool2d(y, 2, 2)) if stride == 2 else (lambda y: y)
    u = norm(spatial + F.conv2d(pool(x[:, :r]), state["pwc.weight"]), "bn1")
    v = norm(F.conv2d(pool(x[:, r:]), state["conv1x1.weight"], state["conv1x1.bias"]), "bn2")
    share = torch.softmax(torch.stack([u.mean((2, 3)), v.mean((2, 3))], 2), 2)
    return v * share[:, :, 1, None, None] + u * share[:, :, 0, None, None]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("ratio", ["1/2", "1/4"])
def test_published_checkpoints_give_what_they_gave(stride, ratio):
    source = made((16, 12, 3), {"padding": 1, "stride": stride, "ratio": ratio})
    state = {k: v.clone() for k, v in source.state_dict().items()}
    layer = SPConv2d(16, 12, 3, stride, 1, ratio=ratio).eval()
    loaded = load_published(layer, {f"module.{k}": v for k, v in state.items()}, "spconv")
    assert loaded.tensors == len(state)
    x = image(16, (12, 14))
    assert oracle.relative_error(layer(x), published_order(state, x, stride).double()) < 1e-6
    back = published_state(layer, "spconv")
    assert set(back) == {
        *("gwc.weight", "pwc.weight", "conv1x1.weight", "conv1x1.bias"),
        *(f"{n}.{k}" for n in ("bn1", "bn2") for k in ("weight", "bias", "running_mean", "running_var")),
        *("bn1.num_batches_tracked", "bn2.num_batches_tracked"),
    }
    assert oracle.relative_error(published_order(back, x, stride), layer(x).detach().double()) < 1e-6


def test_layers_that_the_authors_do_not_have_are_not_written_for_them():
    with pytest.raises(ValueError, match="two equal groups"):
        published_state(SPConv2d(7, 8, 3, padding=1), "spconv")
    with pytest.raises(ValueError, match="two equal groups"):
        published_state(SPConv2d(8, 8, 5, padding=2), "spconv")
    with pytest.raises(ValueError, match="mmcv has no SPConv2d"):
        published_state(SPConv2d(8, 8, 3, padding=1), "mmcv")


def test_parameters_counted_by_hand():
    # 64 → 64 at 1/2: two groups of 3×3 over 16 → 32, 32·64 and 32·64 + 64 for the 1×1, two norms
    assert sum(p.numel() for p in SPConv2d(64, 64, 3).parameters()) == 2 * 9 * 16 * 32 + 2 * 32 * 64 + 64 + 4 * 64
    assert SPConv2d(64, 64, 3, ratio="1/16").representative == 4
    assert SPConv2d(10, 4, 3, ratio=0.7).representative == 7  # 0.7 as it is meant, not as it is stored


@pytest.mark.parametrize(
    ("sizes", "options"),
    [
        ((3, 8, 3), {}),
        ((8, 1, 3), {}),
        ((8, 8, 3), {"groups": 2}),
        ((8, 8, 3), {"ratio": 1}),
        ((8, 8, 3), {"ratio": "1/8"}),
    ],
)
def test_arguments_that_the_definition_does_not_cover(sizes, options):
    with pytest.raises(ValueError, match="needs two representative channels"):
        SPConv2d(*sizes, **options)


def test_outputs_without_a_pixel_beneath_them_are_an_error():
    layer = SPConv2d(8, 8, 3, padding=2)
    layer.path = "a.b"
    with pytest.raises(ValueError, match=r"SPConv2d at 'a.b': outputs at the edge of a 8x8 map have no pixel"):
        layer.eval()(image(8, (6, 6)))


def test_unbatched_half_and_channels_last():
    layer, x = made((8, 8, 3), {"padding": 1, "stride": 2}), image(8, (11, 13))
    assert torch.equal(layer(x[0]), layer(x[:1])[0])
    wanted = oracle_targets.spconv(layer, x)
    last = copy.deepcopy(layer).to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    assert oracle.relative_error(last, wanted) < 2e-6
    assert oracle.relative_error(copy.deepcopy(layer).bfloat16()(x.bfloat16()), wanted) < 0.03


def test_gradients():
    layer = made((4, 4, 3), {"padding": 1, "stride": 2, "ratio": "1/2"}).double().train()
    x = image(4, (5, 7)).double().requires_grad_()
    parameters = list(layer.parameters())
    assert torch.autograd.gradcheck(
        lambda x, *_: layer(x), (x, *parameters), atol=1e-6
    )  # batch statistics of the same batch each time


def test_shows_itself_and_its_options():
    layer = SPConv2d(8, 6, 3, 2, 1, ratio="1/4")
    assert layer.extra_repr() == "8, 6, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), ratio=1/4"
    assert layer.options() == {"ratio": "1/4"}
    assert layer.ratio == Fraction(1, 4)
    assert not layer.is_at_rest()
    with pytest.raises(ValueError, match="SPConv2d equals no plain convolution"):
        layer.to_conv2d()


def test_takes_over_what_is_not_weights():
    conv = nn.Conv2d(8, 8, 3, padding=1).to(torch.float64).requires_grad_(False).eval()
    conv.tag = "theirs"
    layer = SPConv2d.from_conv2d(conv, ratio="1/2")
    assert layer.tag == "theirs"
    assert not layer.training
    assert {p.dtype for p in layer.parameters()} == {torch.float64}
    assert not any(p.requires_grad for p in layer.parameters())
    last = SPConv2d.from_conv2d(conv.to(memory_format=torch.channels_last))
    assert last.gwc.weight.is_contiguous(memory_format=torch.channels_last)
