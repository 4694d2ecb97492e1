"""Inputs that are saved as a description and made again."""

import json

import pytest
import torch

from saconv_surgeon.errors import ArtefactError
from saconv_surgeon.models.running.described_inputs import described, remade
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.records import RecordedInputs, TensorInput, from_dict, to_dict


def again(example_inputs):
    """Through JSON and back."""
    record = described(Inputs.of(example_inputs))
    assert record.problem is None
    return remade(from_dict(RecordedInputs, json.loads(json.dumps(to_dict(record)))), seed=3)


def test_image_has_its_shape_dtype_and_range():
    image = torch.rand(2, 3, 40, 40, dtype=torch.float16) * 200 + 50
    (made,) = again(image).args
    assert (made.shape, made.dtype) == (image.shape, image.dtype)
    assert made.min() >= image.min()
    assert made.max() <= image.max()
    assert abs(made.double().mean() - image.double().mean()) < 3
    assert 0.8 < made.double().std() / image.double().std() < 1.1  # a little is cut off at the ends of the range
    assert not torch.equal(made, image)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bool])
def test_few_whole_numbers_are_kept_and_many_stay_in_range(dtype):
    few = torch.randint(0, 2, (4, 7)).to(dtype)
    assert torch.equal(again(few).args[0], few)
    many = torch.randint(0, 2, (50, 50)).to(dtype) if dtype == torch.bool else torch.randint(7, 90, (50, 50)).to(dtype)
    (made,) = again(many).args
    assert (made.shape, made.dtype) == (many.shape, many.dtype)
    assert {int(made.min()), int(made.max())} == {int(many.min()), int(many.max())}


def test_nesting_numbers_and_names_are_kept():
    shared = torch.ones(3)
    given = {
        "x": [torch.zeros(1, 3, 4, 4), (shared, None)],
        "opts": {"k": 2.5, 7: "name", "deep": [True, float("inf")]},
        "same": shared,
    }
    made = again(given)
    assert made.args == ()
    assert list(made.kwargs) == ["x", "opts", "same"]
    assert isinstance(made.kwargs["x"][1], tuple)
    assert made.kwargs["opts"] == {"k": 2.5, 7: "name", "deep": [True, float("inf")]}
    assert made.kwargs["same"] is made.kwargs["x"][1][0]
    assert torch.equal(made.kwargs["same"], shared)  # a constant stays that constant


def test_several_positional_inputs_and_layout():
    image = torch.randn(1, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    made = again((image, torch.randn(1, 1, 8, 8), 3)).args
    assert [tuple(t.shape) for t in made[:2]] == [(1, 3, 8, 8), (1, 1, 8, 8)]
    assert made[2] == 3
    assert made[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("values", [[float("nan")] * 3, [float("inf"), 1.0, 2.0], []])
def test_values_that_are_not_finite_are_not_imitated(values):
    (made,) = again(torch.tensor(values)).args
    assert made.shape == (len(values),)
    assert made.isfinite().all()


def test_complex():
    (made,) = again(torch.randn(30, 30, dtype=torch.complex64)).args
    assert (made.dtype, made.shape) == (torch.complex64, (30, 30))
    assert 0.5 < made.real.std() < 2


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ((object(),), "argument 1 is a object"),
        (([torch.ones(2), {1, 2}],), "argument 1[1] is a set"),
        ({"x": torch.eye(3).to_sparse()}, "x is a float32 tensor of its own kind"),
        ({"x": {"m": 2j}}, "x['m'] is a complex"),
    ],
)
def test_what_has_no_description_is_said(given, what):
    record = described(Inputs.of(given))
    assert what in record.problem
    assert record.tensors == ()


@pytest.mark.parametrize(
    "record",
    [
        RecordedInputs((), ({"tensor": 0},)),
        RecordedInputs((TensorInput((1,), "float32"),), ({"tensor": -1},)),
        RecordedInputs((), ({"call": "os.system"},)),
        RecordedInputs((), ({"value": [1]},)),
        RecordedInputs((), ("x",)),
        RecordedInputs((), (), {"x": 1}),
        RecordedInputs((TensorInput((2**40, 2**20), "float32", 0.0, 1.0),)),
        RecordedInputs((TensorInput((-2, 3), "float32", 0.0, 1.0),)),
        RecordedInputs((TensorInput((2,), "Tensor", 0.0, 1.0),)),
        RecordedInputs((TensorInput((2,), "int64", values=(1, 2, 3)),)),
    ],
)
def test_damaged_description_is_refused(record):
    with pytest.raises(ArtefactError, match="cannot be made again"):
        remade(record, seed=0)


@pytest.mark.parametrize("given", [torch.rand(3, 5, 8, 8), {"x": [torch.rand(3, 5)]}])
def test_the_batch_axis_is_kept(given):
    inputs = Inputs.of(given).along(1)
    assert inputs.batch == remade(described(inputs), seed=0).batch == 5
    assert described(Inputs.of(given)).batch_axis is None
    assert described(Inputs((torch.rand(2, 3), object()), batch_axis=1)).batch_axis == 1
