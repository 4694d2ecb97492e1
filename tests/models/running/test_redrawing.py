"""Other inputs of the same kind, for every kind that a model may be run on."""

import copy
import types
from collections import OrderedDict, UserDict, namedtuple
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.redrawing import digest_of

X = torch.randn(2, 3, 9, 9)


def redrawn(value, seed=1):
    return Inputs.of((value,)).redrawn(seed).args[0]


# ------------------------------------------------------------------ tensors


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn])
def test_floats_keep_mean_and_deviation(dtype):
    given = (torch.randn(4, 3, 40, 40) * 3 + 5).to(dtype)
    drawn = redrawn(given)
    assert drawn.dtype is dtype
    assert drawn.shape == given.shape
    assert not torch.equal(drawn.float(), given.float())
    assert abs(float(drawn.double().mean()) - 5) < 0.2
    assert abs(float(drawn.double().std()) - 3) < 0.2


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_values_keep_mean_and_deviation_of_each_part(dtype):
    given = torch.complex(torch.randn(100, 100).double() * 2 + 1, torch.randn(100, 100).double() * 4 - 3).to(dtype)
    drawn = redrawn(given)
    assert drawn.dtype is dtype
    assert not torch.equal(drawn, given)
    for part, (mean, deviation) in {"real": (1, 2), "imag": (-3, 4)}.items():
        values = getattr(drawn, part)
        assert abs(float(values.mean()) - mean) < 0.2
        assert abs(float(values.std()) - deviation) < 0.2
    assert torch.equal(redrawn(torch.randn(9, 9) + 0j).imag, torch.zeros(9, 9))
    assert not torch.equal(redrawn(torch.zeros(9, 9) + 0j).real, torch.zeros(9, 9))


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.int64])
@pytest.mark.parametrize("shape", [(2, 16), (2, 3, 9, 9)])
def test_integers_are_the_examples_own_values(dtype, shape):
    """Ids, classes, images: none that the example does not show, so that every table that took it takes these."""
    generator = torch.Generator().manual_seed(0)
    values = torch.tensor([-7, 3, 5, 90, 101])
    given = values[torch.randint(0, 5, shape, generator=generator)].to(dtype)
    drawn = redrawn(given)
    assert drawn.dtype is dtype
    assert not torch.equal(drawn, given)
    assert torch.equal(drawn.sort(-1).values, given.sort(-1).values)


def test_bytes_of_an_image_are_drawn_from_its_range():
    given = torch.randint(10, 61, (1, 3, 32, 32), dtype=torch.uint8)
    drawn = redrawn(given)
    assert drawn.dtype is torch.uint8
    assert not torch.equal(drawn, given)
    assert (int(drawn.min()), int(drawn.max())) == (int(given.min()), int(given.max()))
    black = redrawn(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    assert (int(black.min()), int(black.max())) == (0, 255)


@pytest.mark.parametrize(
    "mask",
    [
        torch.tensor([[True, True, False, False, False, False], [True, False, False, False, False, False]]),
        torch.tensor([[1, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]]),
        torch.tensor([[1.0, 1.0, 0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]]),
    ],
    ids=["bool", "integer", "floating"],
)
def test_masks_keep_how_many_each_row_has(mask):
    drawn = [redrawn(mask, seed) for seed in range(1, 6)]
    assert any(not torch.equal(each, mask) for each in drawn)
    for each in drawn:
        assert each.dtype is mask.dtype
        assert each.sum(-1).tolist() == [2, 1]


@pytest.mark.parametrize(
    "kept",
    [
        torch.tensor([5, 3, 3, 1]),
        torch.arange(7),
        torch.tensor(4),
        torch.zeros(2, 8, dtype=torch.int64),
        torch.ones(2, 8, dtype=torch.bool),
        torch.zeros(0, 3),
        torch.zeros(2, 0, dtype=torch.int64),
    ],
    ids=["lengths", "positions", "scalar", "one id", "whole mask", "no floats", "no integers"],
)
def test_what_cannot_be_drawn_stays(kept):
    assert digest_of(redrawn(kept)) == digest_of(kept)


def test_layouts():
    last = torch.randint(0, 9, (2, 3, 8, 8)).to(memory_format=torch.channels_last)
    assert redrawn(last).is_contiguous(memory_format=torch.channels_last)
    sparse = torch.eye(4).to_sparse()
    assert torch.equal(redrawn(sparse * 3).indices(), sparse.coalesce().indices())
    expanded = torch.randn(1, 3, 1, 1).expand(2, 3, 4, 4)
    assert redrawn(expanded).shape == expanded.shape


def test_the_same_seed_gives_the_same():
    given = {"image": X, "ids": torch.randint(0, 50, (2, 12))}
    first, again, other = (digest_of(Inputs.of(given).redrawn(seed).given) for seed in (1, 1, 2))
    assert first == again != other


# ------------------------------------------------------------------ objects


@dataclass
class Data:
    image: torch.Tensor
    name: str = "photo"
    more: dict = field(default_factory=dict)


class Own:
    def __init__(self, image):
        self.image, self.inner = image, {"again": image}


class Slotted:
    __slots__ = ("image",)

    def __init__(self, image):
        self.image = image


class Encoding(UserDict):
    """As transformers' BatchEncoding."""


class Batch(dict):
    """A dict of a class of its own."""


Pair = namedtuple("Pair", "image other")

OBJECTS = {
    "dataclass": (lambda x: Data(x), lambda v: v.image),
    "nested dataclass": (lambda x: Data(X, more={"in": [Data(x)]}), lambda v: v.more["in"][0].image),
    "namespace": (lambda x: types.SimpleNamespace(a=types.SimpleNamespace(image=x)), lambda v: v.a.image),
    "named tuple": (lambda x: Pair(x, 3), lambda v: v.image),
    "own class": (Own, lambda v: v.image),
    "slots": (Slotted, lambda v: v.image),
    "encoding": (lambda x: Encoding(image=x), lambda v: v["image"]),
    "dict of a class": (lambda x: Batch(image=x), lambda v: v["image"]),
    "ordered dict": (lambda x: OrderedDict(image=x), lambda v: v["image"]),
    "list of dicts": (lambda x: [{"image": x}, {"image": x + 1}], lambda v: v[0]["image"]),
    "tuple of objects": (lambda x: (Data(x), [Own(x)]), lambda v: v[1][0].image),
    "numpy": (lambda x: x.numpy(), lambda v: torch.from_numpy(np.asarray(v))),
    "numpy in an object": (lambda x: Data(x.numpy()), lambda v: torch.from_numpy(v.image)),
}


@pytest.mark.parametrize("kind", OBJECTS)
def test_objects_are_redrawn_and_stay_what_they_are(kind):
    make, get = OBJECTS[kind]
    given = make(X.clone())
    drawn = redrawn(given)
    assert type(drawn) is type(given)
    assert get(drawn).shape == X.shape
    assert not torch.equal(get(drawn), X)
    assert torch.equal(get(given), X)


@pytest.mark.parametrize("kind", [kind for kind in OBJECTS if "numpy" not in kind])
def test_objects_are_copied_before_a_run(kind):
    """A model that works in place on what it gets, and hangs things on it, leaves the user's as it was."""
    make, get = OBJECTS[kind]

    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, value):
            if hasattr(value, "__dict__"):
                value.marked = True
            return self.conv(get(value).mul_(0.5))

    given = make(X.clone())
    conversion = surgeon.convert(InPlace(), (given,))
    surgeon.profile(InPlace(), (given,), timing=surgeon.Timing(budget_s=0.02))
    assert torch.equal(get(given), X)
    assert not hasattr(given, "marked")
    assert conversion.equivalence.bit_equal
    assert conversion.equivalence.different_inputs == 3


@pytest.mark.parametrize("mode", ["RGB", "L", "F"])
def test_images_of_pil(mode):
    image = pytest.importorskip("PIL.Image")
    array = np.random.default_rng(0).integers(0, 200, (9, 9, 3) if mode == "RGB" else (9, 9))
    given = image.fromarray(array.astype(np.float32 if mode == "F" else np.uint8))
    assert given.mode == mode
    drawn = redrawn(given)
    assert (drawn.size, drawn.mode) == (given.size, mode)
    assert not np.array_equal(np.asarray(drawn), np.asarray(given))


def test_what_cannot_be_copied_stays():
    generator = (i for i in range(3))
    given = {"things": [generator, X]}
    drawn = Inputs.of(given).redrawn(1).kwargs["things"]
    assert drawn[0] is generator
    assert not torch.equal(drawn[1], X)


def test_packed_sequences_keep_their_indices():
    packed = nn.utils.rnn.pack_sequence([torch.randn(2, 3), torch.randn(5, 3)], enforce_sorted=False)
    drawn = redrawn(packed)
    assert type(drawn) is type(packed)
    assert not torch.equal(drawn.data, packed.data)
    for name in ("batch_sizes", "sorted_indices", "unsorted_indices"):
        assert torch.equal(getattr(drawn, name), getattr(packed, name)), name


def test_digests_differ_only_if_data_or_plain_values_do():
    assert digest_of(Data(X)) == digest_of(Data(X.clone()))
    assert digest_of(Data(X)) != digest_of(Data(X, name="another"))
    assert digest_of(Data(X)) != digest_of(Data(X + 1))
    assert digest_of([X, X + 1]) != digest_of([X + 1, X])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((X, 3), (X, 4)),
        ({"x": X, "prompt": "a cat"}, {"x": X, "prompt": "a dog"}),
        ({"x": X, "a": 1}, {"x": X, "b": 1}),
        ((X, [1, [2, 3]]), (X, [[1, 2], 3])),
        ((X, True), (X, 1)),
        ((X, frozenset("ab")), (X, frozenset("ac"))),
        ((X, None), (X, 0.0)),
    ],
)
def test_plain_values_are_part_of_the_digest(one, other):
    """Copies, whose parts are other objects, count as the same: also if a part was there twice."""
    assert digest_of(one) != digest_of(other)
    for value in (one, other, (one, one)):
        assert digest_of(value) == digest_of(copy.deepcopy(value))
    assert digest_of((one, one)) == digest_of((one, copy.deepcopy(one)))


def test_a_digest_of_what_holds_itself_and_of_many_references_ends():
    ring = [X]
    ring.append(ring)
    assert digest_of(ring) == digest_of([ring][0])
    deep = [X]
    for _ in range(60):
        deep = [deep, deep]
    assert digest_of(deep) == digest_of(copy.deepcopy(deep))
