"""Models that do what nobody expects: the ledger balances, outputs stay, and the user's model is left as it was."""

import copy
import random

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrizations

import saconv_surgeon as surgeon
from saconv_surgeon.errors import ModelError

X = torch.randn(1, 2, 9, 9, generator=torch.Generator().manual_seed(0))


def conv():
    return nn.Conv2d(2, 2, 3, padding=1)


class Net(nn.Module):
    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)


class ByKeyword(Net):
    def forward(self, x):
        return self.a(input=x)


class Reassigned(Net):
    """A buffer that forward replaces by another tensor."""

    def __init__(self):
        super().__init__(a=conv())
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("later", None)

    def forward(self, x):
        self.mean = 0.9 * self.mean + x.mean((0, 2, 3))
        self.later = self.mean
        return self.a(x) + self.mean[:, None, None]


class Replaces(Net):
    def forward(self, x):
        y = self.a(x)
        self.a = copy.deepcopy(self.a)
        return self.a(y)


class BuiltLate(Net):
    def forward(self, x):
        if not hasattr(self, "late"):
            self.late = conv().requires_grad_(False)
        return self.late(self.a(x))


class Functional(Net):
    """Runs a copy of a part on other parameters."""

    def forward(self, x):
        twin = copy.deepcopy(self.a)
        return functional_call(twin, {k: v * 2 for k, v in self.a.named_parameters()}, (x,)) + self.b(x)


class Conditional(Net):
    def forward(self, x):
        return torch.cond(x.sum() > -1e9, lambda y: self.a(y) + 1, lambda y: self.b(y), (x,))


class Draws(Net):
    def forward(self, x):
        return self.a(x) + 0 * torch.rand(()) + 0 * random.random()


def weight_in_a_buffer():
    layer = conv()
    kernel = layer.weight.detach()
    del layer.weight
    layer.register_buffer("weight", kernel)
    return nn.Sequential(layer, conv())


AWKWARD = {
    # the model, convolutions executed and converted
    "by keyword": (lambda: ByKeyword(a=conv()), 1, 1),
    "a buffer that is replaced": (Reassigned, 1, 1),
    "scripted part": (lambda: nn.Sequential(torch.jit.script(nn.Sequential(conv())), conv()), 2, 1),
    "traced part": (lambda: nn.Sequential(torch.jit.trace(conv().eval(), X), conv()), 2, 1),
    "a copy on other parameters": (lambda: Functional(a=conv(), b=conv()), 2, 1),
    "built late": (lambda: BuiltLate(a=conv()), 2, 2),
    "weight in a buffer": (weight_in_a_buffer, 2, 1),
    "spectral norm": (lambda: nn.Sequential(parametrizations.spectral_norm(conv()), conv()), 2, 1),
    "draws": (lambda: Draws(a=conv()), 1, 1),
}


def snapshot(model):
    tensors = {name: (id(t), t.clone()) for name, t in [*model.named_parameters(), *model.named_buffers()]}
    return (
        tensors,
        [m.training for m in model.modules()],
        [len(getattr(m, "_forward_hooks", ())) for m in model.modules()],
    )


def same(a, b):
    return a[1:] == b[1:] and all(i == b[0][n][0] and torch.equal(t, b[0][n][1]) for n, (i, t) in a[0].items())


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_awkward_models(name, training):
    make, executed, converted = AWKWARD[name]
    model = make().train(training)
    if name == "built late":
        model(X)
    before, world = snapshot(model), (torch.get_rng_state(), random.getstate())
    conversion = surgeon.convert(model, X)
    assert same(before, snapshot(model))
    assert torch.equal(world[0], torch.get_rng_state()) and world[1] == random.getstate()
    ledger = conversion.plan.ledger
    assert ledger.converted + ledger.refused == ledger.executed + ledger.never_ran == len(conversion.plan.sites)
    assert conversion.equivalence.bit_equal, conversion.equivalence
    assert executed is None or ledger.executed == executed
    assert converted is None or ledger.converted == converted


def test_what_is_replaced_while_it_runs():
    sites = surgeon.inspect(Replaces(a=conv()), X)
    assert [site.path for site in sites] == ["a", "::conv2d[0]"]


def test_a_module_that_is_its_own_copy():
    class Frozen(nn.Sequential):
        def __deepcopy__(self, memo):
            return self

    model = nn.Sequential(Frozen(conv()), conv())
    with pytest.raises(ModelError, match="the Frozen at '0' is its own copy"):
        surgeon.convert(model, X)
    assert type(model[0][0]) is nn.Conv2d


def test_a_model_that_wants_plain_convolutions():
    class Counts(Net):
        def forward(self, x):
            assert type(self.a) is nn.Conv2d, "no convolution left"
            return self.a(x)

    with pytest.raises(ModelError, match=r"the converted Counts cannot be run, .*no convolution left.*exclude"):
        surgeon.convert(Counts(a=conv()), X)


def test_models_without_weights():
    with torch.device("meta"):
        model = nn.Sequential(conv())
    with pytest.raises(ModelError, match="is on the meta device and has no weights"):
        surgeon.convert(model, X)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:You are calling torch.compile inside")
def test_the_branch_that_a_program_takes_is_watched():
    program = torch.export.export(Conditional(a=conv(), b=conv()).eval(), (X,))
    (site,) = surgeon.inspect(program, X)
    assert (site.calls, site.reason_code) == (1, "functional")
