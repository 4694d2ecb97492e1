"""Sparse operands: what is stored is computed with. All figures are worked out by hand."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.profiling.counting.counted import Call, R, count

pytestmark = pytest.mark.filterwarnings("ignore:Sparse:UserWarning")


def pattern(rows, columns, stored):
    """A matrix with ``stored`` elements, spread over it, and the indices of these."""
    places = torch.linspace(0, rows * columns - 1, stored).long()
    dense = torch.zeros(rows * columns)
    dense[places] = 1.0
    return dense.view(rows, columns)


A = pattern(6, 8, 11)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch says once that these layouts are in beta state
    LAYOUTS = {"COO": A.to_sparse(), "CSR": A.to_sparse_csr(), "CSC": A.to_sparse_csc()}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("call", "shape", "times"),
    [
        (lambda a, x: a @ x, (8, 5), 5),
        (lambda a, x: torch.sparse.mm(a, x), (8, 5), 5),
        (lambda a, x: a @ x, (8,), 1),
        (lambda a, x: torch.mm(a, x), (8, 3), 3),
    ],
    ids=["matmul", "sparse.mm", "matrix-vector", "mm"],
)
def test_each_stored_element_is_multiplied_with_each_column(layout, call, shape, times):
    a = LAYOUTS[layout]
    counted = count(Call(lambda x: call(a, x)), R(shape))
    assert counted.macs == 11 * times
    assert counted.flops == 2 * 11 * times
    assert counted.activations == 6 * times
    assert counted.uncounted_ops == {}


def test_graph_convolution_of_a_sparse_and_a_dense_product():
    class Graph(nn.Module):
        def __init__(self, adjacency):
            super().__init__()
            self.adjacency, self.linear = adjacency, nn.Linear(4, 3, bias=False)

        def forward(self, x):
            return self.adjacency @ self.linear(x)

    counted = count(Graph(LAYOUTS["CSR"]), R(8, 4))
    assert counted.macs == 8 * 4 * 3 + 11 * 3
    assert {row.path: row.macs for row in counted.layers} == {"": 11 * 3, "linear": 8 * 4 * 3}


@pytest.mark.parametrize(
    ("call", "shape", "macs"),
    [
        (lambda x: x @ LAYOUTS["CSR"], (4, 6), 4 * 11),
        (lambda x: F.linear(x, LAYOUTS["CSR"]), (4, 8), 4 * 11),
        (lambda x: torch.addmm(x[:6], LAYOUTS["CSR"], x), (8, 5), 11 * 5),
        (lambda x: torch.sparse.addmm(x[:6], LAYOUTS["COO"], x), (8, 5), 11 * 5),
        (lambda x: torch.bmm(torch.stack([A, A]).to_sparse(), x), (2, 8, 5), 2 * 11 * 5),
        (lambda x: torch.sparse.sampled_addmm(LAYOUTS["CSR"], x, x.new_ones(3, 8)).values(), (6, 3), 11 * 3),
        (lambda x: torch.sparse.mm(LAYOUTS["CSR"], x, "sum"), (8, 5), 11 * 5),
    ],
    ids=["dense-sparse", "linear", "addmm", "sparse.addmm", "bmm", "sampled", "reduce"],
)
def test_other_products_by_hand(call, shape, macs):
    counted = count(Call(call), R(shape))
    assert counted.macs == macs
    assert counted.uncounted_ops == {}


def test_blocks_are_stored_with_their_zeros():
    blocks = torch.block_diag(torch.eye(2), torch.eye(2), torch.zeros(2, 2)).to_sparse_bsr((2, 2))
    assert count(Call(lambda x: blocks @ x), R(6, 5)).macs == 2 * 4 * 5


@pytest.mark.parametrize("layout", LAYOUTS)
def test_of_two_sparse_matrices_the_elements_that_meet(layout):
    """Σ over the inner index of (stored in that column of the left) × (stored in that row of the right)."""
    left, right = (
        LAYOUTS[layout],
        {"COO": A.T.to_sparse(), "CSR": A.T.to_sparse_csr(), "CSC": A.T.to_sparse_csc()}[layout],
    )
    by_hand = sum(int((A[:, k] != 0).sum()) ** 2 for k in range(8))
    counted = count(Call(lambda x: (left @ right).to_dense() * x), R(6, 6))
    assert counted.macs == by_hand
    assert by_hand < 6 * 8 * 6
    assert counted.uncounted_ops == {}


@pytest.mark.parametrize(
    ("call", "flops"),
    [
        (lambda x: x + LAYOUTS["COO"], 11),
        (lambda x: (LAYOUTS["COO"] * x).to_dense(), 11),
        (lambda x: torch.relu(LAYOUTS["CSR"]).to_dense() + x, 11 + 48),
        (lambda x: torch.sparse.softmax(LAYOUTS["COO"], 1).to_dense() + x, 5 * 11 + 48),
    ],
    ids=["add", "mul", "relu", "softmax"],
)
def test_element_by_element_only_what_is_stored(call, flops):
    counted = count(Call(call), R(6, 8))
    assert (counted.macs, counted.flops, counted.uncounted_ops) == (0, flops, {})


def test_what_has_no_rule_for_sparse_operands_is_listed():
    counted = count(Call(lambda x: torch.pow(LAYOUTS["COO"], 2).to_dense() + x), R(6, 8))
    assert list(counted.uncounted_ops) == ["aten::pow"]


def test_complex_and_sparse():
    a = A.to(torch.complex64).to_sparse()
    counted = count(Call(lambda x: a @ x), R(8, 5, dtype=torch.complex64))
    assert (counted.macs, counted.flops) == (11 * 5, 8 * 11 * 5)


def test_bytes_of_a_sparse_operand_are_those_of_its_indices_and_values():
    """COO: 2 indices of 8 bytes and a value of 4 for each element; the result is written."""
    counted = count(Call(lambda x: torch.mm(LAYOUTS["COO"], x)), R(8, 5))
    assert counted.bytes_moved == 11 * (2 * 8 + 4) + 4 * 8 * 5 + 4 * 6 * 5
