"""What a forward leaves in objects that the model holds is taken back by every verb."""

import random
import types
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import nn

from saconv_surgeon.models.running.state import preserved
from tests.verbs import VERBS

X = torch.randn(2, 3, 8, 8)


@dataclass
class State:
    t: torch.Tensor = field(default_factory=lambda: torch.zeros(2))
    n: int = 0
    log: list = field(default_factory=list)
    inner: object = None


class Slots:
    __slots__ = ("late", "n")

    def __init__(self):
        self.n = 0


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1))
        self.hold()

    def hold(self):
        pass

    def change(self):
        pass

    def told(self):
        return None

    def forward(self, x):
        self.change()
        return self.net(x)


class Plain(Net):
    def hold(self):
        self.st = State(inner=State())

    def change(self):
        for st in (self.st, self.st.inner):
            st.t += 1
            st.n += 1
            st.log.append(st.n)
            st.late = 1

    def told(self):
        return [(st.t.tolist(), st.n, st.log, hasattr(st, "late")) for st in (self.st, self.st.inner)]


class InContainers(Net):
    def hold(self):
        self.all = [{"a": (State(), types.SimpleNamespace(n=0))}]

    def change(self):
        first, second = self.all[0]["a"]
        first.t = first.t + 1
        second.n += 1

    def told(self):
        first, second = self.all[0]["a"]
        return first.t.tolist(), second.n


class Slotted(Net):
    def hold(self):
        self.st = Slots()

    def change(self):
        self.st.n += 1
        self.st.late = 2

    def told(self):
        return self.st.n, hasattr(self.st, "late")


class KindsOfContainers(Net):
    def hold(self):
        self.counts, self.by, self.last = Counter(a=2), defaultdict(list), deque([1], maxlen=1)
        self.by["a"].append(1)
        self.array = np.zeros(2)

    def change(self):
        self.counts["a"] += 1
        self.by["a"].append(2)
        self.by["b"].append(3)
        self.last.append(2)
        self.array += 1

    def told(self):
        return dict(self.counts), dict(self.by), list(self.last), self.array.tolist()


class Generators(Net):
    def hold(self):
        self.torch, self.python, self.numpy = torch.Generator(), random.Random(1), np.random.default_rng(1)

    def change(self):
        torch.rand(1, generator=self.torch)
        self.python.random()
        self.numpy.random()

    def told(self):
        return self.torch.get_state().tolist(), self.python.getstate(), self.numpy.bit_generator.state


class Class(Net):
    def change(self):
        self.net[2].__class__ = nn.SiLU

    def told(self):
        return type(self.net[2])


class Circle(Net):
    def hold(self):
        self.st = types.SimpleNamespace(n=0)
        self.st.model, self.st.itself = self, self.st

    def change(self):
        self.st.n += 1

    def told(self):
        return self.st.n


KINDS = [Plain, InContainers, Slotted, KindsOfContainers, Generators, Class, Circle]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::saconv_surgeon.NoEffectWarning")
def test_every_verb_takes_back_what_forward_leaves(kind, verb):
    model, fresh = kind(), kind()
    VERBS[verb](model, X)
    assert model.told() == fresh.told()
    model.change()
    assert model.told() != fresh.told()


def test_objects_stay_the_objects_that_they_are():
    model = Plain()
    held, tensor, log = model.st, model.st.t, model.st.log
    with preserved(model):
        model.st = State()
        held.t, held.log = torch.ones(5), [1]
    assert model.st is held
    assert held.t is tensor
    assert held.log is log
