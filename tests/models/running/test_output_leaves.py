"""What models take and give: packed and nested sequences, iterators, objects; each output is compared element by element."""

import dataclasses
from collections import UserDict, namedtuple

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence

import saconv_surgeon as surgeon
from saconv_surgeon.models.running.difference import compare
from saconv_surgeon.models.running.output_leaves import collected, leaves
from tests import nets

Pair = namedtuple("Pair", "a b")


@dataclasses.dataclass(frozen=True)
class Output:
    logits: torch.Tensor


class Ends(nn.Module):
    """A convolution whose output is packed into something by ``end``."""

    def __init__(self, end):
        super().__init__()
        self.conv, self.end = nn.Conv2d(3, 4, 3, padding=1), end

    def forward(self, x):
        return self.end(self.conv(x))


def packed(y):
    return pack_padded_sequence(y.flatten(2), torch.tensor([4, 2]), batch_first=True, enforce_sorted=False)


def nested(layout):
    return lambda y: torch.nested.as_nested_tensor([y[0, 0], y[1, 0, :5]], layout=layout)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("end", "tensors"),
    [
        (packed, 4),
        (nested(torch.strided), 2),
        (nested(torch.jagged), 2),
        (lambda y: (y * i for i in range(3)), 3),
        (lambda y: {"maps": map(torch.neg, [y, y + 1])}, 2),
        (lambda y: zip([y], [y + 1], strict=True), 2),
        (Output, 1),
        (lambda y: Pair(y, y + 1), 2),
        (lambda y: UserDict(y=y), 1),
        (lambda y: y.relu().to_sparse(), 1),
        (torch.fft.fft2, 1),
        (lambda y: y.to(torch.float8_e4m3fn), 1),
    ],
)
def test_every_tensor_is_compared(end, tensors):
    model = Ends(end)
    conversion = surgeon.convert(model, nets.X)
    assert conversion.converted == 1
    assert conversion.equivalence.tensors == tensors
    assert conversion.equivalence.bit_equal
    with torch.no_grad():
        conversion.model.conv.bias += 1
    moved = surgeon.diff(model, conversion.model, nets.X, timing=None)
    assert not moved.outputs.bit_equal


class Yields(nn.Module):
    """A forward that yields what its parts give, the last by a functional call."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        y = self.a(x)
        yield y
        y = self.b(y)
        yield y
        yield nn.functional.conv2d(y, torch.ones(1, 4, 3, 3))


class Consumes(nn.Module):
    """Asks a part for one element after the other."""

    def __init__(self):
        super().__init__()
        self.part = Yields()

    def forward(self, x):
        return [element.mean() for element in self.part(x)]


@pytest.mark.parametrize(("model", "prefix"), [(Yields(), ""), (Consumes(), "part.")])
def test_forwards_that_yield(model, prefix):
    conversion = surgeon.convert(model, nets.X)
    rows = {site.path: site.reason_code for site in conversion.plan.sites}
    assert rows == {f"{prefix}a": None, f"{prefix}b": None, "::conv2d[0]": "functional"}
    assert (conversion.equivalence.tensors, conversion.equivalence.bit_equal) == (3, True)


class Captioner(nn.Module):
    """Hands a packed sequence from one module to the next."""

    def __init__(self):
        super().__init__()
        self.conv, self.rnn = nn.Conv2d(3, 8, 3, padding=1), nn.LSTM(8, 4, batch_first=True)

    def forward(self, image, lengths):
        steps = self.conv(image).flatten(2).transpose(1, 2)
        return self.rnn(pack_padded_sequence(steps, lengths, batch_first=True, enforce_sorted=False))[1][0]


class TakesPacked(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.rnn = nn.Conv2d(3, 8, 3), nn.GRU(5, 4)

    def forward(self, image, words):
        return self.conv(image), self.rnn(words)[0]


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (Captioner(), (nets.X[:, :, :4, :4], torch.tensor([16, 9]))),
        (TakesPacked(), (nets.X, pack_sequence([torch.randn(2, 5), torch.randn(4, 5)], enforce_sorted=False))),
    ],
)
def test_packed_sequences_on_the_way(model, inputs):
    conversion = surgeon.convert(model, inputs)
    assert (conversion.converted, conversion.equivalence.bit_equal) == (1, True)
    assert surgeon.inspect(model, inputs)[0].decision == "convert"


def test_what_never_ends_is_said():
    def forever(y):
        while True:
            yield y.sum()

    with pytest.raises(surgeon.ModelError, match="yields more than 100000 outputs"):
        surgeon.inspect(Ends(forever), nets.X)


def test_iterators_inside_parts_are_left_to_the_model():
    asked = iter([1, 2])
    assert [*leaves(asked)] == []
    assert collected((asked, {"a": iter("xy")})) == ([1, 2], {"a": ["x", "y"]})


def test_small_and_rare_dtypes_have_a_distance():
    a = torch.tensor([1.0, 2.0])
    for dtype in (torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16):
        moved = compare([("y", a.to(dtype))], [("y", (a * torch.tensor([1.0, 2.0])).to(dtype))])
        assert (moved.max_abs, moved.max_rel) == (2.0, 1.0)
