"""A model is left as it was, whatever its own code does when it is switched or run."""

import copy

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.models.running.state import preserved
from tests.models.running.writing_models import (
    Caching,
    LowRank,
    MaxNorm,
    NewParameter,
    Reparametrized,
    Replaced,
    Replaces,
)
from tests.verbs import VERBS, assert_left_alone, changes, state_of

X = torch.randn(2, 4, 9, 9)


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
@pytest.mark.filterwarnings("ignore::saconv_surgeon.NoEffectWarning")
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
    model = nn.Sequential(MaxNorm(), LowRank(), nn.Conv2d(4, 4, 3)).train()
    conversion = surgeon.convert(model, X)
    converted = conversion.model
    assert conversion.converted == 1
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
