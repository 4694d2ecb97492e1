"""Inputs that a model takes as one argument although they are tuples, and inputs that a run would use up."""

import io
from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

import saconv_surgeon as surgeon
from saconv_surgeon.errors import UsageError
from saconv_surgeon.models.running.fitting_inputs import fitted
from saconv_surgeon.models.running.inputs import Inputs

X = torch.randn(2, 3, 8, 8)
Pair = namedtuple("Pair", "image mask")
One = namedtuple("One", "image")
PAIR = Pair(X, torch.ones(2, 1, 8, 8))
PACKED = pack_sequence([torch.randn(5, 3), torch.randn(3, 3)])


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)


class OfOne(Net):
    def forward(self, batch):
        return self.conv(batch.image * batch.mask)


class OfTwo(Net):
    def forward(self, image, mask):
        return self.conv(image * mask)


class OfAny(Net):
    def forward(self, *args):
        return self.conv(args[0] * args[1])


class OfPacked(Net):
    def forward(self, packed):
        return self.conv(packed.data[:, :, None, None].expand(-1, -1, 4, 4))


class OfItems(Net):
    def forward(self, items, name=""):
        return self.conv(sum(items) if not isinstance(items, torch.Tensor) else items)


@pytest.mark.parametrize(("model", "given"), [(OfOne(), PAIR), (OfTwo(), PAIR), (OfAny(), PAIR), (OfPacked(), PACKED)])
def test_every_verb_takes_a_namedtuple_as_the_model_does(model, given):
    conversion = surgeon.convert(model, given)
    assert conversion.plan.converted_paths == ("conv",)
    assert (conversion.equivalence.passed, conversion.equivalence.different_inputs) == (True, 3)
    assert surgeon.profile(model, given, timing=None).macs > 0
    assert surgeon.fold(conversion.model, given, trials=1).equivalence.passed


def test_one_argument_or_several():
    assert fitted(Inputs.of(PAIR), OfOne()).args == (PAIR,)
    assert len(fitted(Inputs.of(PAIR), OfTwo()).args) == 2
    assert len(fitted(Inputs.of(PAIR), OfAny()).args) == 2
    assert fitted(Inputs.of(One(X)), OfPacked()).args == (X,)
    assert Inputs.of(PACKED).args == (PACKED,)
    assert Inputs.of(PACKED).batch == 2
    assert Inputs.of((PACKED,)).args == (PACKED,)
    plain = (X, X)
    assert fitted(Inputs.of(plain), OfOne()).args == plain  # tuples are the arguments, whatever the model takes


@pytest.mark.parametrize(
    ("model", "given", "make"),
    [
        (OfOne(), PAIR, lambda inputs, trial: Pair(inputs.image + trial, inputs.mask)),
        (OfTwo(), PAIR, lambda inputs, trial: Pair(inputs[0] + trial, inputs[1])),
        (OfPacked(), PACKED, lambda inputs, trial: pack_sequence([torch.full((n, 3), float(trial)) for n in (5, 3)])),
    ],
)
def test_redraw_gets_and_returns_it(model, given, make):
    found = surgeon.convert(model, given, redraw=make).equivalence
    assert (found.passed, found.different_inputs) == (True, 3)


def opened_file(tmp_path):
    (tmp_path / "x.txt").write_text("1\n2\n")
    return (tmp_path / "x.txt").open()


@dataclass
class Held:
    items: Any


def generator():
    yield X


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (generator(), "argument 1 is a generator, which the first run uses up.*a list of its items"),
        ({"items": generator()}, "items is a generator"),
        ((Held([generator()]),), r"argument 1\.items\[0\] is a generator"),
        ({"items": map(str, generator())}, "items is a map"),
    ],
)
def test_what_a_run_uses_up_is_refused(given, message):
    for verb in (surgeon.convert, surgeon.inspect, surgeon.profile):
        with pytest.raises(UsageError, match=message):
            verb(OfItems(), given)


def test_an_open_file_is_refused_and_a_closed_one_is_not(tmp_path):
    with opened_file(tmp_path) as file, pytest.raises(UsageError, match=r"argument 2 is an open file.*what is in it"):
        surgeon.convert(OfItems(), (X, file))
    assert surgeon.convert(OfItems(), (X, file), trials=1).equivalence.passed
    with (tmp_path / "log.txt").open("w") as log:  # written to, not read
        assert surgeon.convert(OfItems(), (X, log), trials=1).equivalence.passed


@pytest.mark.parametrize("given", [iter([X, X]), zip([X], [X], strict=True), io.StringIO("text")])
def test_what_can_be_copied_is_not(given):
    inputs = Inputs.of((given,))
    assert fitted(inputs, OfItems()) is inputs
