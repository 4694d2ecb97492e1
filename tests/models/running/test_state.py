"""A model is left as it was, whatever its own code does when it is switched or run."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import saconv_surgeon as surgeon
from saconv_surgeon.models.running.state import preserved
from tests.verbs import VERBS, assert_left_alone, changes, state_of

X = torch.randn(2, 4, 9, 9)


class LowRank(nn.Module):
    """Merges low-rank weights into the kernel in train(False), and takes them out in train(True)."""

    def __init__(self):
        super().__init__()
        self.conv, self.merged = nn.Conv2d(4, 4, 3, padding=1), False
        self.down, self.up = nn.Parameter(torch.randn(2, 36) * 0.1), nn.Parameter(torch.randn(4, 2) * 0.1)

    def delta(self):
        return (self.up @ self.down).view_as(self.conv.weight)

    def train(self, mode=True):
        super().train(mode)
        if mode is self.merged:
            self.conv.weight.data.add_(self.delta().detach(), alpha=-1 if mode else 1)
            self.merged = not mode
        return self

    def forward(self, x):
        return self.conv(x) if self.merged else F.conv2d(x, self.conv.weight + self.delta(), self.conv.bias, padding=1)


class Replaced(LowRank):
    """Puts another tensor behind the parameter."""

    def train(self, mode=True):
        nn.Module.train(self, mode)
        if mode is self.merged:
            self.conv.weight.data = self.conv.weight.data + self.delta().detach() * (-1 if mode else 1)
            self.merged = not mode
        return self


class NewParameter(LowRank):
    """Puts another parameter in the place of the first."""

    def train(self, mode=True):
        nn.Module.train(self, mode)
        if mode is self.merged:
            merged = self.conv.weight.detach() + self.delta().detach() * (-1 if mode else 1)
            self.conv.weight = nn.Parameter(merged)
            self.merged = not mode
        return self


class Reparametrized(nn.Module):
    """Three branches in training, one convolution in inference, as RepVGG; the branches are thrown away."""

    def __init__(self):
        super().__init__()
        self.three, self.one = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def train(self, mode=True):
        super().train(mode)
        if not mode and hasattr(self, "three"):
            self.fused = nn.Conv2d(4, 4, 3, padding=1)
            self.fused.weight.data = self.three.weight.data + F.pad(self.one.weight.data, [1, 1, 1, 1])
            self.fused.bias.data = self.three.bias.data + self.one.bias.data
            del self.three, self.one
        return self

    def forward(self, x):
        return self.fused(x) if hasattr(self, "fused") else self.three(x) + self.one(x)


class Caching(nn.Module):
    """Keeps the kernel of inference, counts its switches, fills lists, and freezes its norm."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
        self.cache, self.log, self.switched, self.sums = None, [], 0, {"n": 0}
        self.seen = torch.zeros(3)

    def train(self, mode=True):
        super().train(mode)
        self.switched += 1
        self.cache = None if mode else self.conv.weight.detach() * 2
        self.norm.eval()
        self.norm.weight.requires_grad_(False)
        return self

    def forward(self, x):
        self.log.append(x.mean())
        self.sums["n"] += 1
        self.seen += 1
        return self.norm(self.conv(x))


class MaxNorm(nn.Module):
    """Limits its kernel in forward, in place and behind autograd's back."""

    def __init__(self):
        super().__init__()
        self.conv, self.tail = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        self.conv.weight.data.renorm_(2, 0, 0.3)
        with torch.no_grad():
            self.tail.weight.clamp_(-0.1, 0.1)
        return self.tail(self.conv(x))


class Replaces(MaxNorm):
    """As EEGNet does."""

    def forward(self, x):
        self.conv.weight.data = torch.renorm(self.conv.weight.data, 2, 0, 0.3)
        return self.tail(self.conv(x))


KINDS = [LowRank, Replaced, NewParameter, Reparametrized, Caching, MaxNorm, Replaces]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::saconv_surgeon.NoEffectWarning")
def test_every_verb_leaves_the_model_alone(kind, verb):
    model = nn.Sequential(kind(), nn.Conv2d(4, 4, 1))
    for mode in (True, False):
        model.train(mode)
        assert_left_alone(model, VERBS[verb], X)


@pytest.mark.parametrize("verb", VERBS)
def test_training_goes_on_where_it_was(verb):
    """Against a twin that surgery never saw: outputs and gradients to the bit."""
    model = nn.Sequential(LowRank()).train()
    twin = copy.deepcopy(model)
    VERBS[verb](model, X)
    for each in (model, twin):
        each(X).square().sum().backward()
    assert torch.equal(model(X), twin(X))
    assert torch.equal(model[0].down.grad, twin[0].down.grad)


def test_graph_made_before_can_be_used_after():
    """Values are put back without counting up the version of a tensor that backward needs."""
    model = nn.Sequential(LowRank()).train()
    loss = model(X).square().sum()
    surgeon.profile(model, X, timing=None)
    loss.backward()
    assert model[0].down.grad is not None


def test_models_that_raise_are_left_alone_too():
    class Fails(Caching):
        def forward(self, x):
            super().forward(x)
            self.register_forward_hook(lambda *_: None)
            self.conv.register_forward_pre_hook(lambda *_: None)
            raise ArithmeticError("in the middle")

    for verb in ("inspect", "convert", "profile", "profile, timed", "diff"):
        model = nn.Sequential(nn.Conv2d(4, 4, 1), Fails()).train()
        with pytest.raises(Exception, match="in the middle"):
            assert_left_alone(model, VERBS[verb], X)


@pytest.mark.parametrize("verb", VERBS)
def test_hooks_that_forward_puts_on_do_not_pile_up(verb):
    class Hooking(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3)

        def forward(self, x):
            self.conv.register_forward_hook(lambda m, i, o: o)
            self._register_state_dict_hook(lambda *_: None)
            return self.conv(x)

    model = nn.Sequential(Hooking())
    assert_left_alone(model, VERBS[verb], X)


def test_converted_model_is_in_the_state_that_the_model_was_in():
    model = nn.Sequential(MaxNorm(), LowRank()).train()
    converted = surgeon.convert(model, X, include=["0.conv"]).model
    assert converted.training
    assert not converted[1].merged
    for name in ("0.conv.weight", "0.tail.weight", "1.conv.weight"):
        assert torch.equal(converted.state_dict()[name], model.state_dict()[name]), name


def test_modules_outside_of_the_tree_are_restored():
    class Outside(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.listed = nn.Conv2d(4, 4, 3), [nn.BatchNorm2d(4)]
            hidden = nn.BatchNorm2d(4)
            self.call = lambda x: hidden(x)

        def forward(self, x):
            return self.call(self.listed[0](NORM(self.conv(x))))

    model = Outside().train()
    hidden = model.call.__closure__[0].cell_contents
    for verb in VERBS:
        VERBS[verb](model, X)
    assert [norm.num_batches_tracked.item() for norm in (hidden, model.listed[0], NORM)] == [0, 0, 0]


NORM = nn.BatchNorm2d(4)


def test_only_what_is_written_is_copied(monkeypatch):
    """A model of 400 kB whose switch writes one small kernel: no other parameter is cloned while it is kept."""
    model = nn.Sequential(LowRank(), nn.Flatten(), nn.Linear(324, 300)).train()
    cloned = []
    clone = torch.Tensor.clone
    monkeypatch.setattr(torch.Tensor, "clone", lambda t, *a, **k: cloned.append(t.numel()) or clone(t, *a, **k))
    with preserved(model):
        pass
    assert cloned == [model[0].conv.weight.numel()]


def test_the_oracle_sees_changes():
    model = nn.Sequential(LowRank(), Caching())
    before = state_of(model)
    model.eval()
    model(X)
    assert {key for _, key in changes(before, state_of(model))} >= {"mode", "attributes", "lists", "values"}
