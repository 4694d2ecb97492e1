"""Modules that a model reaches by closures, partial functions, methods, weak references: a copy reaches its own."""

import copy
import functools
import types
import weakref
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.errors import ModelError
from saconv_surgeon.models.tree.copying import copy_model
from tests.verbs import VERBS, assert_left_alone

X = torch.randn(2, 3, 12, 12)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.bn, self.head = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)
        self.reach()

    def reach(self): ...

    def forward(self, x):
        return self.head(self.stem(x))


class Lambda(Net):
    def reach(self):
        self.stem = lambda x: self.bn(self.a(x))


class Nested(Net):
    def reach(self):
        def outer(x):
            def inner(y):
                return self.bn(self.a(y))

            return inner(x)

        self.stem = outer


class Chained(Net):
    """A function that calls a function that calls the modules; both share a variable."""

    def reach(self):
        first = lambda x: self.a(x)
        self.stem = lambda x: self.bn(first(x))


class Recursive(Net):
    """A function that calls itself."""

    def reach(self):
        def stem(x, n=1):
            return stem(self.a(x), n - 1) if n else self.bn(x)

        self.stem = stem


class Method(Net):
    def reach(self):
        self.stem = self.convolve

    def convolve(self, x):
        return self.bn(self.a(x))


class PatchedMethod(Net):
    def reach(self):
        bn = self.bn
        self.stem = types.MethodType(lambda model, x: bn(model.a(x)), self)


class PartialOfFunction(Net):
    def reach(self):
        self.stem = functools.partial(lambda model, x: model.bn(model.a(x)), self)


class PartialOfClosure(Net):
    def reach(self):
        self.stem = functools.partial(lambda x, scale: self.bn(self.a(x)) * scale, scale=2)


class Default(Net):
    def reach(self):
        self.stem = lambda x, model=self: model.bn(model.a(x))


class KeywordDefault(Net):
    def reach(self):
        def stem(x, *, model=self):
            return model.bn(model.a(x))

        self.stem = stem


class Wrapped(Net):
    def reach(self):
        def stem(x):
            return self.bn(self.a(x))

        @functools.wraps(stem)
        def wrapper(*args):
            return stem(*args) + 1

        self.stem = wrapper


class InContainers(Net):
    def reach(self):
        self.parts = [{"a": lambda x: self.a(x)}, (lambda x: self.bn(x),)]

    def forward(self, x):
        return self.head(self.parts[1][0](self.parts[0]["a"](x)))


@dataclass
class Holder:
    stem: Any


class InDataclass(Net):
    def reach(self):
        self.holder = Holder(lambda x: self.bn(self.a(x)))

    def forward(self, x):
        return self.head(self.holder.stem(x))


class WeakParent(Net):
    def reach(self):
        self.a.parent = weakref.ref(self)

    def forward(self, x):
        parent = self.a.parent()
        return self.head(parent.bn(self.a(x)))


class WeakDefault(Net):
    def reach(self):
        parent = weakref.ref(self)
        self.stem = lambda x, model=parent: model().bn(model().a(x))


class Hook(Net):
    def reach(self):
        self.head.register_forward_pre_hook(lambda module, args: (self.bn(args[0]),))

    def forward(self, x):
        return self.head(self.a(x))


class Compiled(Net):
    def reach(self):
        self.stem = torch.compile(lambda x: self.bn(self.a(x)), backend="eager")


class Unregistered(Net):
    """The norm lies outside of the tree as well."""

    def reach(self):
        norm = nn.BatchNorm2d(3)
        self.stem = lambda x: norm(self.bn(self.a(x)))


KINDS = [
    *(
        Lambda,
        Nested,
        Chained,
        Recursive,
        Method,
        PatchedMethod,
        PartialOfFunction,
        PartialOfClosure,
        Default,
        KeywordDefault,
    ),
    *(Wrapped, InContainers, InDataclass, WeakParent, WeakDefault, Hook, Compiled, Unregistered),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_conversion_shares_nothing_with_the_model(kind, mode):
    model = kind()
    before = copy.deepcopy(model.state_dict())
    conversion = surgeon.convert(model, X, mode=mode)
    assert conversion.equivalence.bit_equal
    assert conversion.equivalence.problems == ()
    conversion.model.train()(X).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is not None] == []
    assert all(
        p.grad is not None for name, p in conversion.model.named_parameters() if name.startswith(("a.w", "bn.w"))
    )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.bn.num_batches_tracked == 0
    assert conversion.model.bn.num_batches_tracked == 1
    with torch.no_grad():  # the user's own is not moved by training the other, nor the other way round
        for p in model.parameters():
            p.zero_()
    assert bool(conversion.model.a.weight.any())


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("kind", [Lambda, Chained, WeakParent, Unregistered])
def test_every_verb_leaves_the_model_alone(kind, verb):
    model = kind().train()
    assert_left_alone(model, VERBS[verb], X)
    if kind is Unregistered:
        assert model.stem.__closure__[0].cell_contents.num_batches_tracked == 0


@pytest.mark.parametrize("kind", KINDS)
def test_copies_of_copies_and_what_they_compute(kind):
    model = kind().eval()
    first = copy_model(model)
    second = copy_model(first)
    wanted = model(X)
    assert torch.equal(first(X), wanted)
    assert torch.equal(second(X), wanted)
    with torch.no_grad():
        first.bn.weight.mul_(3)
    assert not torch.equal(first(X), wanted)
    assert torch.equal(second(X), wanted)
    assert torch.equal(model(X), wanted)


def test_functions_that_reach_no_module_stay_the_same():
    """Counters and lists of the user's go on being used."""
    seen = []

    class Logging(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.log = nn.Conv2d(3, 3, 3), lambda x: seen.append(tuple(x.shape))
            self.both = lambda x: seen.append(self.conv(x).shape)

    model = Logging()
    copied = copy_model(model)
    assert copied.log is model.log
    assert copied.both is not model.both
    copied.both(X)
    assert len(seen) == 1


GLOBAL = None


def test_a_global_variable_is_refused_and_named():
    """No copy can reach anything else by it."""

    class Global(Net):
        def forward(self, x):
            return self.head(GLOBAL.bn(GLOBAL.a(x)))

    global GLOBAL
    model = GLOBAL = Global().train()
    before = copy.deepcopy(model.state_dict())
    try:
        for verb in ("convert", "price"):
            with pytest.raises(ModelError, match="still uses 'weight' of your model's own 'a': its code reaches"):
                VERBS[verb](model, X)
        for verb in ("inspect", "profile", "profile, timed", "diff"):
            assert_left_alone(model, VERBS[verb], X)
    finally:
        GLOBAL = None
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_class_attribute_is_refused_and_named():
    class Registry(Net):
        parts = {}  # noqa: RUF012

        def reach(self):
            type(self).parts["bn"] = self.bn

        def forward(self, x):
            return self.head(self.parts["bn"](self.a(x)))

    with pytest.raises(ModelError, match="own 'bn'"):
        surgeon.convert(Registry(), X)


def test_what_cannot_be_copied_in_a_closure_stays():
    generator = (i for i in range(3))

    class Odd(Net):
        def reach(self):
            both = [generator, self.bn]
            self.stem = lambda x: both[1](self.a(x))

    with pytest.raises(ModelError, match="own 'bn'"):
        surgeon.convert(Odd(), X)
