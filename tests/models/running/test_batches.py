"""How many samples inputs hold, and inputs with others of them."""

import dataclasses
from collections import UserDict

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence, unpack_sequence

import saconv_surgeon as surgeon
from saconv_surgeon.errors import UsageError
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.profiling.timing.time_models import resized


def image(h=8):
    return torch.randn(3, h, 9)


@dataclasses.dataclass
class Batch:
    pixels: torch.Tensor
    name: str = "x"


class Sample:
    """An object of the user's own, one to an image."""

    def __init__(self):
        self.pixels, self.boxes = image(), torch.zeros(5, 4)


@dataclasses.dataclass
class Images:
    images: list


SEQUENCES = pack_sequence([torch.randn(4, 5), torch.randn(2, 5)], enforce_sorted=False)


@pytest.mark.parametrize(
    ("given", "axis", "batch", "shapes"),
    [
        ([{"image": image(), "height": 480}, {"image": image(6), "height": 480}], 0, 2, [(3, 8, 9), (3, 6, 9), (3, 8, 9)]),
        ({"images": [image(), image()], "sizes": [(1, 2), (3, 4)]}, 0, 2, [(3, 8, 9)] * 3),
        (({"images": [image(), image()], "ids": torch.zeros(2, 7)},), 0, 2, [(3, 8, 9)] * 3 + [(3, 7)]),
        ((torch.randn(7, 2, 5), torch.tensor([7, 4])), 1, 2, [(7, 3, 5), (3,)]),
        ((torch.randn(7, 2, 5), torch.randn(1, 2, 4)), 1, 2, [(7, 3, 5), (1, 3, 4)]),
        (torch.randn(3, 2, 8, 9, 9), 1, 2, [(3, 3, 8, 9, 9)]),
        ((Batch(torch.randn(2, 3, 4, 4)),), 0, 2, [(3, 3, 4, 4)]),
        ((UserDict(pixels=torch.randn(2, 3, 4, 4)),), 0, 2, [(3, 3, 4, 4)]),
        (([torch.randn(2, 4, 8, 8), torch.randn(2, 4, 4, 4)],), 0, 2, [(3, 4, 8, 8), (3, 4, 4, 4)]),
        ((torch.randn(2, 3, 4, 4), [{"boxes": torch.zeros(5, 4)}, {"boxes": torch.zeros(1, 4)}]), 0, 2,
         [(3, 3, 4, 4), (5, 4), (1, 4), (5, 4)]),
        (torch.arange(2).to(torch.uint16), 0, 2, [(3,)]),
        (torch.nested.nested_tensor([torch.ones(3, 4), torch.ones(2, 4)], layout=torch.jagged), 0, 2, [(3, 4), (2, 4), (3, 4)]),
    ],
)  # fmt: skip
def test_batches(given, axis, batch, shapes):
    inputs = Inputs.of(given).along(axis)
    assert inputs.batch == batch
    three = inputs.with_batch(3)
    assert list(three.shapes) == shapes
    assert three.batch == 3
    assert three.batch_axis == axis


def test_packed_sequences_are_repeated_whole():
    inputs = Inputs.of((SEQUENCES,))
    assert inputs.batch == 2
    (packed,) = inputs.with_batch(3).args
    found, given = unpack_sequence(packed), unpack_sequence(SEQUENCES)
    assert [torch.equal(a, b) for a, b in zip(found, [given[0], given[1], given[0]], strict=True)] == [True] * 3


def test_repeated_along_the_axis_that_was_given():
    x = torch.randn(7, 2, 5)
    assert torch.equal(Inputs.of(x).along(1).with_batch(3).args[0], x[:, [0, 1, 0]])
    assert torch.equal(Inputs.of(x).along(1).samples(1, 2).args[0], x[:, 1:])


@pytest.mark.parametrize("axis", [3, -1])
def test_axes_that_are_not_there(axis):
    with pytest.raises(UsageError, match=f"axis.* {axis}.*axes are counted from 0"):
        Inputs.of(torch.randn(7, 2, 5)).along(axis)


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, batch):
        return [self.conv(sample["image"][None]) for sample in batch]


class TimeMajor(nn.Module):
    """(T, N, C) → (N, 4); it wants three samples at least, so that a wrong axis shows."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(5, 4)

    def forward(self, x):
        if x.shape[0] != 7:
            raise ValueError("seven steps")
        return self.rnn(x)[1][0]


QUICK = {"budget_s": 0.02, "per_layer": False}


def test_records_say_the_batch():
    samples = [{"image": image(), "height": 480}, {"image": image(), "height": 480}]
    found = surgeon.profile(Detector(), samples, timing=surgeon.Timing(batches=(2, 4), **QUICK))
    assert [latency.batch for latency in found.latencies] == [2, 4]
    found = surgeon.profile(
        TimeMajor(), torch.randn(7, 2, 5), timing=surgeon.Timing(batches=(3,), batch_axis=1, **QUICK)
    )
    assert found.latency.batch == 3


def test_a_wrong_axis_is_said_with_the_option_for_it():
    with pytest.raises(surgeon.ModelError, match=r"batch of 3 .*seven steps.*--batch-axis along which axis"):
        surgeon.profile(TimeMajor(), torch.randn(7, 2, 5), timing=surgeon.Timing(batches=(3,), **QUICK))
    with pytest.raises(UsageError, match="no input has an axis 5"):
        surgeon.profile(TimeMajor(), torch.randn(7, 2, 5), timing=surgeon.Timing(batch_axis=5, **QUICK))


@pytest.mark.parametrize(
    ("given", "batch", "lengths"),
    [
        ([Batch(image()), Batch(image(6))], 2, [5]),
        (([Batch(image()), Batch(image())], torch.zeros(2, 7)), 2, [5, 5]),
        ({"samples": [Sample(), Sample()]}, 2, [5]),
        ([np.zeros((9, 8, 3), "u1")] * 2, 2, [5]),
        ([Batch(torch.zeros(16)), Batch(torch.zeros(19))], 2, [5]),
        (([Batch(torch.zeros(4, 3, 8, 8)), Batch(torch.zeros(4, 3, 4, 4))],), 4, [2]),
        ((torch.zeros(4, 3, 8, 8), [Batch(torch.zeros(4, 7))]), 4, [5, 1]),
    ],
)
def test_a_list_of_records_or_objects_has_one_for_each_sample(given, batch, lengths):
    """Two samples of three channels are two; records of whole batches (the last two) are no samples."""
    inputs = Inputs.of(given)
    assert inputs.batch == batch
    five = inputs.with_batch(5)
    assert [len(part) for part in (*five.args, *five.kwargs.values())] == lengths
    assert five.batch == 5


def test_a_list_of_images_in_a_record():
    inputs = Inputs.of((Images([image(), image()]),))
    assert inputs.batch == 2
    assert len(inputs.with_batch(5).args[0].images) == 5
    assert len(inputs.args[0].images) == 2


SPARSE = torch.tensor([[0.0, 1, 0, 2], [3, 0, 0, 0], [0, 0, 4, 0], [5, 0, 6, 0]])


TO_SPARSE = {
    "coo": torch.Tensor.to_sparse,
    "hybrid": lambda t: t.to_sparse(1),
    "csr": torch.Tensor.to_sparse_csr,
    "csc": torch.Tensor.to_sparse_csc,
    "bsr": lambda t: t.to_sparse_bsr((2, 2)),
}


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("kind", TO_SPARSE)
def test_samples_of_sparse_tensors(kind):
    given = TO_SPARSE[kind](SPARSE)
    for n in (2, 4, 6):
        (found,) = Inputs.of((given,)).with_batch(n).tensors
        assert found.layout is given.layout
        assert torch.equal(found.to_dense(), torch.cat([SPARSE, SPARSE])[:n])


@pytest.mark.filterwarnings("ignore:ComplexHalf")
@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.complex32, torch.uint16, torch.bool])
def test_samples_of_rare_kinds_of_numbers(dtype):
    given = torch.tensor([[1, 0], [0, 1]]).to(dtype)
    (found,) = Inputs.of((given,)).with_batch(3).tensors
    assert found.dtype is dtype
    assert found.to(torch.complex64).tolist() == [[1, 0], [0, 1], [1, 0]]


@pytest.mark.filterwarnings("ignore:torch.quantize")
def test_samples_of_quantised_tensors():
    given = torch.quantize_per_tensor(torch.tensor([[1.0, 2], [3, 4]]), 0.5, 0, torch.qint8)
    (found,) = Inputs.of((given,)).with_batch(3).tensors
    assert found.dequantize().tolist() == [[1, 2], [3, 4], [1, 2]]


@pytest.mark.filterwarnings("ignore:Sparse")
def test_the_reason_is_the_kind_of_the_tensor_or_its_size():
    opaque = Inputs.of((torch.ones(2, 3).to_mkldnn(),))
    with pytest.raises(UsageError, match=r"cannot pick samples from a tensor of kind _mkldnn.*leave --batch out"):
        opaque.with_batch(3)
    with pytest.raises(UsageError, match=r"cannot pick samples from a tensor of kind sparse_bsr .*divisible"):
        Inputs.of((SPARSE.to_sparse_bsr((2, 2)),)).with_batch(3)
    with pytest.raises(UsageError, match=f"a batch of {2**20} asks for more than there is memory for"):
        resized(Inputs.of((torch.ones(1).expand(1, 2**24),)), 2**20)
