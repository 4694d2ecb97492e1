"""Whether a norm sees a convolution's output: on every way, and not known if no graph shows it."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import saconv_surgeon as surgeon
from saconv_surgeon.models.census.followers import Context, Traced, _with_context
from saconv_surgeon.records import ConvSite

X = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def conv(c_in=4, c_out=4, k=3):
    return nn.Conv2d(c_in, c_out, k, padding=k // 2)


def reach(model, x=X, **options):
    return {site.path: site.reaches_norm for site in surgeon.inspect(model.eval(), x, **options)}


class Net(nn.Module):
    def __init__(self, forward, **parts):
        super().__init__()
        for name, part in {"a": conv(), "b": conv(), **parts}.items():
            self.add_module(name, part)
        self.run = forward

    def forward(self, x):
        return self.run(self, x)


@pytest.mark.parametrize(
    "between",
    [
        [nn.BatchNorm2d(4)],
        [nn.ReLU(), nn.BatchNorm2d(4)],
        [nn.PReLU(4), nn.GroupNorm(2, 4)],
        [nn.Dropout(), nn.MaxPool2d(2), nn.InstanceNorm2d(4)],
        [nn.Identity(), nn.Sequential(nn.SiLU(), nn.BatchNorm2d(4))],
    ],
    ids=["at once", "after an activation", "after one with weights", "after pooling", "in a part"],
)
def test_a_norm_before_the_next_weights_is_reached(between):
    assert reach(nn.Sequential(conv(), *between, conv())) == {"0": True, str(len(between) + 1): False}


@pytest.mark.parametrize(
    "after",
    [[], [nn.ReLU()], [conv(), nn.BatchNorm2d(4)], [nn.Linear(8, 8), nn.LayerNorm(8)], [nn.Upsample(scale_factor=2)]],
)
def test_without_a_norm_before_the_next_weights(after):
    assert reach(nn.Sequential(conv(), *after))["0"] is False


def test_ways_that_part_and_meet():
    normed = {"n": nn.BatchNorm2d(4)}
    assert reach(Net(lambda m, x: m.n(m.a(x) + m.b(x)), **normed)) == {"a": True, "b": True}
    assert reach(Net(lambda m, x: m.b(m.n(m.a(x))) + x, **normed)) == {"a": True, "b": False}
    assert reach(Net(lambda m, x: torch.cat([m.n(F.relu(m.a(x))), m.b(x)], 1), **normed)) == {"a": True, "b": False}
    assert reach(Net(lambda m, x: (m.n(y := m.a(x)), m.b(y))[1], **normed))["a"] is True  # on one way of two
    assert reach(Net(lambda m, x: F.layer_norm(m.a(x), x.shape[1:]) + m.b(x))) == {"a": True, "b": False}


class Untraceable(nn.Module):
    """Its forward decides by values, so that only its parts are traced."""

    def __init__(self, *parts):
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x):
        for part in self.parts:
            x = part(x) if float(x.detach().sum()) > -1e9 else x
        return x


def test_what_leaves_a_traced_part_is_not_known():
    inside = nn.Sequential(conv(), nn.ReLU(), conv())
    model = Untraceable(inside, nn.Sequential(nn.BatchNorm2d(4), conv(), nn.BatchNorm2d(4)))
    assert reach(model) == {"parts.0.0": False, "parts.0.2": None, "parts.1.1": True}


def test_what_no_graph_shows_is_not_known():
    model = Untraceable(conv(), nn.BatchNorm2d(4), conv())
    sites = surgeon.inspect(model.eval(), X)
    assert {(site.found_by, site.norm, site.reaches_norm) for site in sites} == {("census", None, None)}
    assert ConvSite("a", "Conv2d", 0, ()).reaches_norm is None


def test_a_shared_convolution_that_is_normed_once_keeps_what_its_calls_share():
    """Both calls feed an activation alone; after it, one reaches a norm."""
    model = Net(lambda m, x: m.b(m.n(m.act(m.a(x)))) + m.act(m.a(x)), n=nn.BatchNorm2d(4), act=nn.ReLU())
    (site,) = [s for s in surgeon.inspect(model.eval(), X) if s.path == "a"]
    assert site.activation == "act (ReLU)"
    assert site.reaches_norm is None


def test_calls_that_no_graph_shows_leave_it_open():
    site = ConvSite("a", "Conv2d", 2, ())
    seen = [Traced("a", Context(None, None), False, "", 1)]
    assert _with_context(site, seen).reaches_norm is None
    assert _with_context(site, seen * 2).reaches_norm is False


def test_converted_layers_and_attention_end_a_way():
    model = nn.Sequential(conv(), nn.ReLU(), conv(), nn.BatchNorm2d(4)).eval()
    once = surgeon.convert(model, X, include=["2"], absorb=True).model
    assert reach(once)["0"] is False
    head = Net(lambda m, x: m.t(m.a(x).flatten(2)) + m.b(x).flatten(2), t=nn.TransformerEncoderLayer(64, 2, 8))
    assert reach(head) == {"a": None, "b": False}
