"""The steps with gradients written by hand: against finite differences, and against autograd through the plain operations."""

import copy

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from saconv_surgeon import ConvAWS2d, SAConv2d
from saconv_surgeon.convs import gradients
from tests import oracle


def numbers(*shape, grad=True, seed=0):
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn.requires_grad_(grad)


def fresh(function):
    """``function`` of copies: some steps overwrite their inputs, which in a layer are intermediate results."""
    return lambda *tensors: function(*(t * 1 for t in tensors))


STEPS = {
    "standardised": (
        lambda v, g, b: gradients.standardised(v, g, b),
        lambda: (numbers(3, 2, 3, 3), 1 + numbers(3, 1, 1, 1, grad=False), numbers(3, 1, 1, 1, grad=False)),
    ),
    "one element": (
        lambda v, g, b: gradients.standardised(v, g, b),
        lambda: (numbers(3, 1, 1, 1), 1 + numbers(3, 1, 1, 1, grad=False), numbers(3, 1, 1, 1, grad=False)),
    ),
    "blended": (
        fresh(gradients.blended),
        lambda: (numbers(2, 3, 4, 5), numbers(2, 3, 4, 5, seed=1), numbers(2, 1, 4, 5, seed=2)),
    ),
    "spatial mean": (gradients.spatial_mean, lambda: (numbers(2, 3, 4, 5),)),
    "projected": (gradients.projected, lambda: (numbers(2, 3, 4, 5), numbers(1, 3, 1, 1, seed=1))),
}
steps = pytest.mark.parametrize("step", STEPS.values(), ids=STEPS.keys())


@steps
def test_first_and_second_derivatives(step):
    function, make = step
    assert gradcheck(function, make())
    assert gradgradcheck(function, make())


@steps
def test_only_what_is_asked_for(step):
    """Each input alone, the others constant: what is not asked for changes nothing."""
    function, make = step
    for i, wanted in enumerate(make()):
        if wanted.requires_grad:
            given = [t if j == i else t.detach() for j, t in enumerate(make())]
            assert gradcheck(function, given)


@steps
def test_transforms_take_the_plain_operations(step):
    """vmap, jacobians and forward mode give what reverse mode gives."""
    function, make = step
    given = tuple(t.detach() for t in make())
    whole = torch.autograd.functional.jacobian(lambda x: function(x, *given[1:]), given[0])
    assert torch.allclose(torch.func.jacrev(function)(*given), whole)
    assert torch.allclose(torch.func.jacfwd(function)(*given), whole)
    tangent = torch.ones_like(given[0])
    with forward_ad.dual_level():
        dual = function(forward_ad.make_dual(given[0], tangent), *given[1:])
        found = forward_ad.unpack_dual(dual).tangent
    assert torch.allclose(found, (whole * tangent).flatten(-given[0].dim()).sum(-1))


def plain(layer, x):
    """The layer in the plainest operations there are, for autograd to differentiate."""
    sigma, mean = gradients.filter_statistics(layer.weight)
    weight = layer.weight_gamma * (layer.weight - mean) / sigma + layer.weight_beta
    x = x + layer.pre_context(x.mean((2, 3), keepdim=True))
    small = layer._conv_forward(x, weight, layer.bias)
    large = layer._wide_forward(x, weight + layer.weight_diff)
    pooled = F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), 5, layer.stride)
    switch = F.conv2d(pooled, layer.switch.weight, layer.switch.bias)
    y = switch * small + (1 - switch) * large
    return y + layer.post_context(y.mean((2, 3), keepdim=True))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"groups": 2}, {"groups": 4}], ids=str)
def test_the_layer_has_the_gradients_of_the_plain_operations(options, layout):
    layer = oracle.shake(SAConv2d(4, 8, 3, padding=1, **options)).double().to(memory_format=layout)
    x = numbers(2, 4, 9, 11).detach().to(memory_format=layout).requires_grad_()
    weight = numbers(*layer(x).shape, grad=False, seed=3)
    wanted = torch.autograd.grad((plain(layer, x) * weight).sum(), [x, *layer.parameters()])
    found = torch.autograd.grad((layer(x) * weight).sum(), [x, *layer.parameters()])
    assert all(oracle.relative_error(a, b) < 1e-12 for a, b in zip(found, wanted, strict=True))
    assert found[0].is_contiguous(memory_format=layout)


def test_gradient_penalties():
    """A loss on the gradient of the output reaches every parameter as the plain operations say."""
    layer = oracle.shake(SAConv2d(4, 4, 3, padding=1)).double()
    x = numbers(1, 4, 6, 7)

    def penalty(function):
        (of_x,) = torch.autograd.grad(function(x).square().sum(), x, create_graph=True)
        return torch.autograd.grad(of_x.square().sum(), [x, *layer.parameters()])

    wanted = penalty(lambda x: plain(layer, x))
    assert all(oracle.relative_error(a, b) < 1e-10 for a, b in zip(penalty(layer), wanted, strict=True))


def test_a_graph_can_be_gone_through_twice():
    layer = oracle.shake(SAConv2d(4, 4, 3, padding=1))
    loss = layer(torch.randn(1, 4, 6, 7)).square().sum()
    parameters = list(layer.parameters())
    first = torch.autograd.grad(loss, parameters, retain_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(first, torch.autograd.grad(loss, parameters), strict=True))


@pytest.mark.parametrize("frozen", ["weight", "weight_diff", "switch", "pre_context", "post_context", "all"])
def test_frozen_parts(frozen):
    """Other gradients are what they were; the frozen ones are none."""
    layer = oracle.shake(SAConv2d(4, 4, 3, padding=1))
    x = torch.randn(2, 4, 6, 7)
    layer(x).square().sum().backward()
    wanted = {name: p.grad for name, p in layer.named_parameters()}
    part = copy.deepcopy(layer)
    for name, p in part.named_parameters():
        p.requires_grad_(not (name == frozen or name.startswith(f"{frozen}.") or frozen == "all"))
        p.grad = None
    y = part(x.requires_grad_())
    y.square().sum().backward()
    for name, p in part.named_parameters():
        assert (p.grad is None) == (not p.requires_grad), name
        assert p.grad is None or torch.allclose(p.grad, wanted[name], rtol=1e-4, atol=1e-5), name
    assert torch.equal(y, layer(x))


def kept(run):
    """Bytes of what autograd saves in ``run`` that is not among ``known``."""
    seen = {}

    def pack(tensor):
        seen[tensor.untyped_storage().data_ptr()] = tensor  # kept alive, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return list(seen.values())


def test_what_autograd_keeps():
    """Of maps: the input after the context, and the difference of the branches. Nothing else of that size."""
    layer = oracle.shake(SAConv2d(8, 8, 3, padding=1))
    x = torch.randn(2, 8, 30, 30, requires_grad=True)
    maps = [t for t in kept(lambda: layer(x)) if t.untyped_storage().nbytes() == 4 * x.numel()]
    assert len(maps) == 2


def test_half_precision_kernels_get_half_precision_gradients():
    layer = oracle.shake(ConvAWS2d(4, 4, 3)).to(torch.bfloat16)
    layer(torch.randn(1, 4, 6, 6, dtype=torch.bfloat16)).sum().backward()
    assert layer.weight.grad.dtype == torch.bfloat16
    assert layer.weight.grad.any()


def test_nothing_of_the_users_is_overwritten():
    """Inputs, and the gradients that come in, stay as they were."""
    layer = oracle.shake(SAConv2d(4, 4, 3, padding=1))
    x = torch.randn(2, 4, 6, 7, requires_grad=True)
    before, weight = x.detach().clone(), torch.randn(2, 4, 6, 7)
    given = weight.clone()
    torch.autograd.grad(layer(x), x, weight)
    with torch.no_grad():
        layer(x)
    assert torch.equal(x, before)
    assert torch.equal(weight, given)


@pytest.mark.gpu
@steps
def test_on_a_cuda_device(step):
    function, make = step
    assert gradcheck(function, [t.detach().cuda().requires_grad_(t.requires_grad) for t in make()])


def test_a_bare_switch_is_a_plain_convolution():
    """The matrix product is the 1×1 convolution, in either memory format."""
    x, weight = torch.randn(2, 5, 6, 7), torch.randn(1, 5, 1, 1)
    for layout in (torch.contiguous_format, torch.channels_last):
        found = gradients.projected(x.to(memory_format=layout), weight)
        assert torch.allclose(found, nn.functional.conv2d(x, weight), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_look_at_values_finds_every_kind_and_is_not_counted(dtype):
    t = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    seen = []

    class Recorded(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    others = []
    for bad in (float("inf"), -float("inf"), float("nan")):
        others += [t.clone(), t.clone().requires_grad_()]
        for other in others[-2:]:
            other.data[1, 2, 3] = bad
    views = [t, t[:0], t.transpose(0, 2)]
    with Recorded():
        assert all(map(gradients.is_finite, views))
        assert not any(map(gradients.is_finite, others))
        t + t
    assert [name for name in seen if "detach" not in name] == ["aten.add.Tensor"]
