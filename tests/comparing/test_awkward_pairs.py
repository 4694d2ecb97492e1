"""Pairs of models that are not each other's conversion, or not quite: no crash, no trace, nothing claimed that is not so."""

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.comparing.layer_use import layer_use
from saconv_surgeon.comparing.parts_of_model import tree
from saconv_surgeon.models.running.inputs import Inputs
from sample_models import tiny_resnet
from tests.comparing.test_aligning import said

X = torch.randn(2, 3, 8, 8)


def net(*extra, at=3):
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 5, 3, padding=1),
        nn.BatchNorm2d(5),
        nn.ReLU(),
    ]
    tail = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 7)]
    layers[at:at] = extra
    return nn.Sequential(*layers, *tail).eval()


def diff(a, b, x=X):
    found = surgeon.diff(a, b, x, timing=None)
    assert not any(m._forward_hooks for model in (a, b) for m in model.modules())
    return found


@pytest.mark.parametrize("swap", [False, True])
def test_absorbed_conversion_of_a_model_with_a_layer_more(swap):
    a = net()
    b = surgeon.convert(net(nn.Dropout(0.1)), X, absorb=True).model
    with torch.no_grad():
        b[-1].weight.mul_(2)
    found = diff(b, a) if swap else diff(a, b)
    assert [c.name for c in found.weights.changed] == ["9.weight" if swap else "8.weight"]
    assert not (found.weights.only_in_b if swap else found.weights.only_in_a)
    first = found.outputs.first_diverging
    assert {first.a, first.b} == {"8", "9"}
    assert len(found.outputs.diverging) == 1


@pytest.mark.slow
def test_absorbed_conversion_of_another_architecture():
    x = tiny_resnet.example_inputs()
    b = surgeon.convert(tiny_resnet.build().eval(), x, absorb=True).model
    a = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)).eval()
    assert not diff(a, b, x).outputs.bit_equal
    wrapped = diff(nn.Sequential(tiny_resnet.build(), nn.Softmax(1)), b, x)
    assert ("renamed", "0", "") in {(c.change, c.path, c.new_path) for c in wrapped.structure}
    assert wrapped.weights.equal == len(tiny_resnet.build().state_dict())


def test_what_is_nan_agrees_with_nothing():
    a, b = net(), net()
    with torch.no_grad():
        b[-1].bias.fill_(float("nan"))
    found = diff(a, b).outputs
    assert (found.top1, found.cosine, found.max_rel) == (0.0, None, float("inf"))
    assert diff(b, b).outputs.top1 == 0.0


def test_equal_outputs_have_a_cosine_of_one():
    assert all(diff(net(), net(), torch.randn(3, 3, 8, 8)).outputs.cosine == 1.0 for _ in range(3))


def test_strangers_are_not_renamed():
    class Two(nn.Module):
        def __init__(self, **parts):
            super().__init__()
            for name, part in parts.items():
                self.add_module(name, part)

    conv = nn.Conv2d(3, 4, 3)
    assert said(Two(c=conv, drop=nn.Dropout(0.1)), Two(c=conv, norm=nn.BatchNorm2d(4))) == {
        ("removed", "drop", None),
        ("added", "norm", None),
    }
    pooled = Two(c=conv, pool=nn.MaxPool2d(2))
    assert said(pooled, Two(c=conv, attention=nn.Sequential(nn.Conv2d(4, 4, 1), nn.Sigmoid()))) == {
        ("removed", "pool", None),
        ("added", "attention", None),
    }
    inner = Two(enc=Two(c=conv, n=nn.BatchNorm2d(4)))
    assert {c for c in said(Two(c=conv, n=nn.BatchNorm2d(4)), inner) if c[0] == "renamed"} == {
        ("renamed", "c", "enc.c"),
        ("renamed", "n", "enc.n"),
    }


def test_keys_of_a_dict_are_names():
    heads = {key: nn.Linear(4, int(key)) for key in ("8", "16", "32", "64")}
    a = nn.ModuleDict({key: heads[key] for key in ("8", "16", "32")})
    b = nn.ModuleDict({key: heads[key] for key in ("16", "32", "64")})
    assert said(a, b) == {("renamed", "8", "64")}  # and changed: the one that is left on either side


def test_layer_that_never_runs_is_not_said_to_be_foldable():
    class Skips(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
            self.both = True

        def forward(self, x):
            return self.idle(self.used(x)) if self.both else self.used(x)

    model = surgeon.convert(Skips(), X).model
    with torch.no_grad():
        model.idle.switch.bias.fill_(0.5)
    model.both = False
    idle = next(f for f in layer_use(model, Inputs.of(X)) if f.path == "idle")
    assert (idle.use, idle.moved, idle.pre_context) == ("never ran", None, None)


def test_parametrised_weights_do_not_move_when_they_are_looked_at():
    model = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 3))).train()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    tree(model)
    diff(model, model)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_layer_that_only_b_shares_is_not_blamed():
    class Twice(nn.Module):
        def __init__(self, shared):
            super().__init__()
            torch.manual_seed(0)
            self.c1, self.c2 = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
            self.c2.load_state_dict(self.c1.state_dict())
            self.c2 = self.c1 if shared else self.c2
            self.h = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return self.h(self.c2(self.c1(x)))

    a, b = Twice(False), Twice(True)
    with torch.no_grad():
        b.h.weight.mul_(2)
    assert [d.a for d in diff(a, b).outputs.diverging] == ["h"]
