"""What follows a convolution, and when a graph is not believed."""

import random

import torch
from torch import nn
from torch.nn import functional as F

from saconv_surgeon.models.census.census import take_census
from saconv_surgeon.models.census.followers import add_context
from saconv_surgeon.models.running.inputs import Inputs


def contexts(model, *shape):
    inputs = Inputs.of(torch.randn(*shape))
    return {site.path: site for site in add_context(model, take_census(model, inputs))}


def test_norm_and_activation_modules():
    sites = contexts(nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.SiLU(), nn.Conv2d(4, 2, 3)), 1, 2, 9, 9)
    assert (sites["0"].norm, sites["0"].activation) == ("1 (BatchNorm2d)", "2 (SiLU)")
    assert (sites["3"].norm, sites["3"].activation) == (None, None)
    assert sites["0"].found_by == "fx"


def test_functional_norm_and_activation():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 4, 3)

        def forward(self, x):
            return F.group_norm(self.conv(x), 2).relu()

    site = contexts(Net(), 1, 2, 9, 9)["conv"]
    assert (site.norm, site.activation) == ("group_norm", "relu")


def test_output_that_goes_two_ways_has_no_follower():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2)

        def forward(self, x):
            y = self.conv(x)
            return self.norm(y) + y

    assert contexts(Net(), 1, 2, 9, 9)["conv"].norm is None


def test_convolution_called_twice_with_different_followers_has_none():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2)

        def forward(self, x):
            return self.norm(self.conv(x)), self.conv(x).relu()

    site = contexts(Net(), 1, 2, 9, 9)["conv"]
    assert (site.norm, site.activation, site.calls) == (None, None, 2)


class Flow(nn.Module):
    """Control flow on data at the root, traceable parts below."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4))
        self.lone = nn.Conv2d(4, 4, 3)

    def forward(self, x):
        x = self.stem(x)
        return self.lone(x) if x.mean() > -1e9 else x


def test_parts_are_traced_where_the_root_cannot_be():
    sites = contexts(Flow(), 1, 2, 9, 9)
    assert sites["stem.0"].norm == "stem.1 (BatchNorm2d)"
    assert sites["stem.0"].found_by == "fx, traced from 'stem'"
    assert sites["lone"].found_by == "census"


class SharedByParts(nn.Module):
    """One convolution in two parts of a root that cannot be traced; the second part may be one that cannot be traced either."""

    def __init__(self, other):
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2))
        self.b = other(self.a[0])

    def forward(self, x):
        x = self.a(x)
        return self.b(x) if x.mean() > -1e9 else x


class Untraceable(nn.Module):
    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, x):
        return self.conv(x).abs() if x.sum() > -1e9 else x


def test_convolution_of_two_parts_needs_both_to_say_the_same():
    for other in (lambda conv: nn.Sequential(conv, nn.ReLU()), Untraceable):
        for _ in range(2):
            model = SharedByParts(other)
            assert contexts(model, 1, 2, 9, 9)["a.0"].norm is None, other
    same = SharedByParts(lambda conv: nn.Sequential(conv))
    same.b.append(same.a[1])
    assert contexts(same, 1, 2, 9, 9)["a.0"].norm is None  # under two paths it is two norms


def test_container_that_is_only_indexed_is_not_traced_as_if_it_ran():
    class Indexed(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.Sequential(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2))

        def forward(self, x):
            x = self.parts[0](x)
            return self.parts[1](x.abs()) if x.sum() > -1e9 else x

    assert contexts(Indexed(), 1, 2, 9, 9)["parts.0"].norm is None


def test_absent_argument_takes_the_side_that_was_taken():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3)

        def forward(self, x, mask=None):
            return self.a(x).relu() if mask is None else self.b(x)

    sites = contexts(Net(), 1, 2, 9, 9)
    assert sites["a"].activation == "relu"
    assert sites["a"].found_by == "fx"


def test_decisions_by_the_size_of_the_models_own_tensors():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.kernel = nn.Conv2d(2, 3, 3), nn.Parameter(torch.ones(3, 1, 1))
            self.register_buffer("filt", torch.ones(2, 1, 2, 2))

        def forward(self, x):
            if self.filt.shape[-1] > 1 and self.filt.size(0) == len(self.filt) == self.filt.dim() - 2:
                x = F.conv2d(x, self.filt.to(self.filt.dtype), groups=self.filt.size()[0])
            return (self.conv(x) * self.kernel).relu() if self.kernel.size(0) == self.kernel.numel() else x

    assert contexts(Net(), 1, 2, 9, 9)["conv"].found_by == "fx"


def test_graph_that_disagrees_with_the_census_is_discarded():
    class Net(nn.Module):
        n = 0

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, x):
            type(
                self
            ).n += 1  # one call more on every run, which nothing restores: the census saw one, tracing sees more
            for _ in range(self.n):
                x = self.conv(x)
            return x

    assert contexts(Net(), 1, 2, 9, 9)["conv"].found_by == "census"


def test_tracing_leaves_no_placeholder_behind():
    class Caching(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.seen = nn.Conv2d(2, 2, 3), None
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x):
            self.seen = x
            self.count += 1
            return self.conv(x)

    model = Caching()
    contexts(model, 1, 2, 9, 9)
    assert model.seen is None
    assert model.count == 0


# ------------------------------------------------------------------ decisions by the sizes of maps


class Sizes(nn.Module):
    """Everything that plain tracing stops at, and that the sizes alone decide."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.other = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, images, scale=1.0):
        self.calls += 1
        (x,) = images
        n, _, height, width = x.shape
        if height % 2 or x.dtype is not torch.float32 or len(x) != n or int(height / 2) < 3:
            return self.other(self.conv(x))
        x = F.relu(self.norm(self.conv(F.pad(x, (0, width % 4)))))
        x[:, 0] = x[:, 1] * random.random() + torch.rand(())
        tokens = x.flatten(2).transpose(1, 2)
        tokens, _ = self.attention(tokens, tokens, tokens)
        parts = [part * scale for part in tokens.chunk(2, dim=1)]
        return torch.cat(parts, 1).view(n, height, -1, x.size(1))


def test_sizes_of_maps_are_known():
    torch.manual_seed(0)
    random.seed(0)
    expected = (torch.rand(1), random.random())
    torch.manual_seed(0)
    random.seed(0)
    model = Sizes().eval()
    torch.manual_seed(0)
    images = torch.ones(1, 2, 8, 6)
    sites = {s.path: s for s in add_context(model, take_census(model, Inputs.of([images])))}
    assert (torch.rand(1), random.random()) == expected  # nothing drawn
    assert sites["conv"].found_by == "fx"
    assert (sites["conv"].norm, sites["conv"].activation) == ("norm (BatchNorm2d)", "relu")
    assert not sites["other"].executed
    assert float(model.calls) == 0


def test_sizes_say_which_side_was_taken():
    model = Sizes().eval()
    sites = {s.path: s for s in add_context(model, take_census(model, Inputs.of([torch.ones(1, 2, 7, 6)])))}
    assert (sites["conv"].found_by, sites["conv"].norm) == ("fx", None)
    assert sites["other"].executed


def test_values_still_decide_by_themselves():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3)

        def forward(self, x):
            return self.conv(x) if x.shape[0] == 1 and x.sum() > 0 else x

    assert contexts(Net(), 1, 2, 9, 9)["conv"].found_by == "census"
