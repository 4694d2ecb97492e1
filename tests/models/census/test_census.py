"""The census against models whose calls are counted by hand."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from saconv_surgeon.models.census.census import CONVOLUTION_OPS, Given, take_census
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.records import CallShape


class Shared(nn.Module):
    """One convolution, two names, three calls at two sizes; one that never runs; a functional call."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 3, 3, padding=1)
        self.b = self.a
        self.never = nn.Conv2d(3, 3, 3)
        self.kernel = nn.Parameter(torch.randn(4, 3, 3, 3))

    def forward(self, x):
        x = self.b(self.a(x))
        return F.conv2d(self.a(x[..., ::2, ::2]), self.kernel)


def census_of(model, *shape):
    return take_census(model, Inputs.of(torch.randn(*shape)))


def sites_of(model, *shape):
    return {site.path: site for site in census_of(model, *shape).sites}


def test_calls_shapes_and_aliases():
    sites = sites_of(Shared(), 2, 3, 16, 16)
    assert list(sites) == ["a", "::conv2d[0]", "never"]
    assert sites["a"].aliases == ("b",)
    assert sites["a"].calls == 3
    big, small = (2, 3, 16, 16), (2, 3, 8, 8)
    assert sites["a"].shapes == (CallShape(big, big, 2), CallShape(small, small, 1))
    assert sites["::conv2d[0]"].shapes == (CallShape(small, (2, 4, 6, 6), 1),)
    assert sites["::conv2d[0]"].type == "F.conv2d"
    assert not sites["never"].executed


def test_every_convolution_operation_is_accounted_for():
    """The dispatch mode's own count of operations equals the calls in the table."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        n = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.n += func.overloadpacket.__name__ in CONVOLUTION_OPS
            return func(*args, **(kwargs or {}))

    model, x = Shared().eval(), torch.randn(1, 3, 16, 16)
    with Count() as counted, torch.no_grad():
        model(x)
    assert counted.n == 4
    assert sum(site.calls for site in census_of(model, 1, 3, 16, 16).sites) == counted.n


@pytest.mark.parametrize(
    ("module", "shape", "kind"),
    [
        (nn.Conv1d(2, 2, 3), (1, 2, 8), "Conv1d"),
        (nn.Conv3d(2, 2, 3), (1, 2, 8, 8, 8), "Conv3d"),
        (nn.ConvTranspose2d(2, 2, 3), (1, 2, 8, 8), "ConvTranspose2d"),
        (nn.Conv2d(2, 2, 3, padding="same"), (1, 2, 8, 8), "Conv2d"),
        (nn.Conv2d(2, 2, 3), (2, 8, 8), "Conv2d"),
    ],
)
def test_root_convolution_of_every_kind(module, shape, kind):
    (site,) = census_of(module, *shape).sites
    assert (site.path, site.type, site.calls) == ("", kind, 1)


def test_functional_kinds_are_named():
    class Functional(nn.Module):
        def forward(self, x):
            y = F.conv_transpose2d(x, torch.ones(2, 2, 2, 2))
            return F.conv1d(y.flatten(2), torch.ones(1, 2, 1))

    types = [site.type for site in census_of(Functional(), 1, 2, 4, 4).sites]
    assert types == ["F.conv_transpose2d", "F.conv1d"]


def test_weight_used_outside_its_module_is_seen():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3)

        def forward(self, x):
            return F.conv2d(x, self.conv.weight)

    census = census_of(Reader(), 1, 2, 8, 8)
    assert census.weights_used_elsewhere == {"conv": ""}
    assert not {s.path: s for s in census.sites}["conv"].executed


def test_model_is_left_as_it_was():
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2)
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x):
            self.seen += 1
            return self.norm(self.conv(x)) + torch.rand(())

    model = Counter()
    model.norm.eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    random_state = torch.get_rng_state()
    x = torch.randn(1, 2, 8, 8)
    random_state = torch.get_rng_state()
    take_census(model, Inputs.of(x))
    assert model.training
    assert not model.norm.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_hooks_are_removed_when_forward_raises():
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3)

        def forward(self, x):
            self.conv(x)
            raise ValueError("mine")

    model = Broken()
    with pytest.raises(ValueError, match="mine"):
        census_of(model, 1, 2, 8, 8)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_exception_caught_inside_the_model_does_not_confuse_the_stack():
    class Trying(nn.Module):
        def __init__(self):
            super().__init__()
            self.wrong, self.right = nn.Conv2d(9, 2, 3), nn.Conv2d(2, 2, 3)

        def forward(self, x):
            try:
                return self.wrong(x)
            except RuntimeError:
                return self.right(x)

    sites = sites_of(Trying(), 1, 2, 8, 8)
    assert (sites["wrong"].calls, sites["right"].calls) == (0, 1)


def test_arguments_are_recorded_without_tensors():
    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3)

        def forward(self, x, mask=None, scale=2):
            return self.conv(x) * scale

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Inner()

        def forward(self, x):
            return self.inner(x, scale=3)

    arguments = census_of(Outer(), 1, 2, 8, 8).arguments["inner"]
    given = arguments.pop("x")
    assert isinstance(given, Given)
    assert (given.example.shape, given.example.device.type) == ((1, 2, 8, 8), "meta")
    assert arguments == {"mask": None, "scale": 3}
