"""Models and inputs that are nested deeper than Python's recursion limit was made for."""

import sys
import threading

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.models.tree.recursion import FRAMES_PER_LEVEL, nesting_of, room_for

X = torch.randn(1, 3, 8, 8)


def deep(levels):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
    for _ in range(levels):
        model = nn.Sequential(model)
    return model


@pytest.mark.slow
def test_every_verb_on_two_hundred_levels(tmp_path):
    model, limit = deep(200).eval(), sys.getrecursionlimit()
    conversion = surgeon.convert(model, X)
    assert torch.equal(conversion.model(X), model(X))
    assert surgeon.profile(model, X, timing=None).macs == 4 * 8 * 8 * 27
    assert surgeon.diff(model, conversion.model, X, timing=None).outputs.bit_equal
    assert torch.equal(surgeon.fold(conversion.model, X).model(X), model(X))
    surgeon.save(conversion, tmp_path / "out")
    assert torch.equal(surgeon.restore(deep(200).eval(), tmp_path / "out")(X), model(X))
    assert torch.equal(surgeon.revert(conversion.model)(X), model(X))
    assert sys.getrecursionlimit() == limit


@pytest.mark.slow
def test_a_thousand_levels():
    model = deep(1000)
    conversion = surgeon.convert(model, X)
    assert (conversion.converted, conversion.equivalence.bit_equal) == (1, True)


class Nested(nn.Module):
    """Takes and gives tensors in lists of lists."""

    def __init__(self, levels):
        super().__init__()
        self.levels, self.conv = levels, nn.Conv2d(3, 4, 3)

    def forward(self, x):
        for _ in range(self.levels):
            (x,) = x
        x = self.conv(x)
        for _ in range(self.levels):
            x = [x]
        return x


@pytest.mark.parametrize("levels", [200, 500])
def test_deep_inputs(levels):
    x = X
    for _ in range(levels):
        x = [x]
    conversion = surgeon.convert(Nested(levels), (x,))
    assert (conversion.equivalence.tensors, conversion.equivalence.bit_equal) == (1, True)


def test_what_holds_itself_ends():
    held = []
    held.append(held)
    assert nesting_of(held) == 1
    assert nesting_of({"a": [(X,)]}) == 3


def test_rooms_may_overlap():
    usual = sys.getrecursionlimit()
    first, second = threading.Event(), threading.Event()

    def work():
        with room_for(deep(100)):
            first.set()
            second.wait(5)
        seen.append(sys.getrecursionlimit())

    seen = []
    thread = threading.Thread(target=work)
    thread.start()
    first.wait(5)
    with room_for(deep(300)):
        second.set()
        thread.join()
        assert seen == [usual + FRAMES_PER_LEVEL * 301]
    assert sys.getrecursionlimit() == usual
