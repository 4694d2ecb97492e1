"""How far two outputs are apart."""

import pytest
import torch

from saconv_surgeon.models.running.difference import compare
from saconv_surgeon.models.running.output_leaves import leaves


def difference(a, b):
    return compare(list(leaves(a)), list(leaves(b)))


nan, inf = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ({"x": [torch.ones(2), (1, None, "s")]}, {"x": [torch.ones(2), (1, None, "s")]}),
        (torch.tensor([nan, inf, -inf]), torch.tensor([nan, inf, -inf])),
        (torch.tensor([True, False]), torch.tensor([True, False])),
        (nan, nan),
        (torch.empty(0), torch.empty(0)),
    ],
)
def test_equal_outputs(a, b):
    assert difference(a, b).bit_equal
    assert difference(a, b).within(0.0)


@pytest.mark.parametrize(
    ("a", "b", "problem"),
    [
        (torch.ones(2), torch.ones(3), "float32 (2,) became float32 (3,)"),
        (torch.ones(2), torch.ones(2).double(), "became float64"),
        (torch.tensor([1, 2]), torch.tensor([1, 3]), "1 of 2 values differ, compared exactly"),
        (torch.tensor([nan, 1]), torch.tensor([1, 1.0]), "1 values are NaN or infinite on one side only"),
        (torch.tensor([inf]), torch.tensor([-inf]), "NaN or infinite"),
        ({"a": 1}, {"b": 1}, "lacks output['a'] and has output['b'] besides"),
        ([1, 2], [1], "lacks output[1]"),
        ("x", "y", "'x' became 'y'"),
        (1, None, "int became NoneType"),
    ],
)
def test_problems_are_named(a, b, problem):
    found = difference(a, b)
    assert problem in found.problems[0]
    assert not found.within(1e9)
    assert not found.bit_equal


def test_relative_is_to_the_largest_of_each_tensor():
    found = difference(
        [torch.tensor([10.0, 1.0]), torch.tensor([1.0])], [torch.tensor([10.0, 2.0]), torch.tensor([1.001])]
    )
    assert found.max_abs == 1.0
    assert found.max_rel == pytest.approx(0.1)
    assert found.tensors == 2


def test_change_from_zero_is_no_small_change():
    assert not difference(torch.zeros(2), torch.tensor([0.0, 1e-12])).within(1.0)
