"""What operations cost on sparse tensors: what is stored is computed with, zeros are not."""

from __future__ import annotations

from math import prod

from saconv_surgeon.profiling.counting.complex_operations import FACTORS
from saconv_surgeon.profiling.counting.operation import Formula, Operation
from saconv_surgeon.profiling.counting.shape_formulas import SOFTMAX, Cost, numel

_UNARY = frozenset(
    """neg abs sqrt square sin tan asin atan sinh tanh asinh atanh sign sgn relu round floor ceil trunc frac erf expm1
    log1p""".split()
)
"""They leave zeros zero, and so touch only what is stored."""


def sparse_cost(name: str, formula: Formula, op: Operation) -> Cost | None:
    """What ``name`` costs if operands or results are sparse; None if there is no rule for it."""
    if name in SPARSE_ONLY:
        return SPARSE_ONLY[name](op)
    stored = op.stored(None)
    if name in FACTORS:
        return _products(name, formula, op, numel(op.out) if stored is None else stored)
    base = name.removesuffix("_")
    if stored is not None and (base in _UNARY or base in ("mul", "multiply", "div", "divide", "true_divide")):
        return Cost(other_flops=stored)
    left, right = op.stored(0), op.stored(1)
    if base in ("add", "sub") and stored is None and (left is None) != (right is None):
        return Cost(other_flops=right if left is None else left)  # type: ignore[arg-type]  # one of them is a number
    if base == "sum":
        return Cost(other_flops=left or 0)
    return None


def _products(name: str, formula: Formula, op: Operation, written: int) -> Cost | None:
    """Each stored element is multiplied as often as it would be in a dense tensor; of two sparse ones, those that meet."""
    i, j = FACTORS[name]
    left, right = op.stored(i), op.stored(j)
    if left is not None and right is not None:
        met = op.meetings(i, j)
        return None if met is None else Cost(met, activations=written)
    if left is None and right is None:
        return None
    which, stored = (i, left) if left is not None else (j, right)
    dense, size = formula(op), prod(op.shape(which))
    return dense and Cost(dense.macs // size * (stored or 0) if size else 0, activations=written)


def _sampled(op: Operation) -> Cost:
    """One inner product for each element of the pattern."""
    stored = op.stored(0) or 0
    return Cost(stored * op.shape(1)[-1], activations=stored)


def _reduced(op: Operation) -> Cost:
    """``torch.sparse.mm(a, b, reduce)``: sums and means add up products, the others compare them."""
    products = (op.stored(0) or 0) * op.shape(1)[-1]
    if op.value(2) in ("sum", "mean"):
        divisions = numel(op.out) if op.value(2) == "mean" else 0
        return Cost(products, other_flops=divisions, activations=numel(op.out))
    return Cost(other_flops=2 * products)


def _coalesced(op: Operation) -> Cost:
    """Elements at the same place are added."""
    return Cost(other_flops=(op.stored(0) or 0) - (op.stored(None) or 0))


def _softmax(op: Operation) -> Cost:
    return Cost(other_flops=SOFTMAX * (op.stored(0) or 0))


SPARSE_ONLY: dict[str, Formula] = {
    "sparse_sampled_addmm": _sampled,
    "_sparse_mm_reduce_impl": _reduced,
    **dict.fromkeys(("_coalesce", "coalesce"), _coalesced),
    **dict.fromkeys(("_sparse_softmax", "_sparse_log_softmax"), _softmax),
}
"""Operations of sparse tensors alone."""
