"""What operations cost on complex numbers: the operations on their parts."""

from __future__ import annotations

from saconv_surgeon.profiling.counting.operation import Formula, Operation
from saconv_surgeon.profiling.counting.shape_formulas import Cost, numel

_FIRST_TWO = """
    _convolution convolution convolution_overrideable _convolution_mode conv1d conv2d conv3d conv_transpose1d
    conv_transpose2d conv_transpose3d linear mm mv bmm matmul linalg_matmul inner dot vdot linalg_vecdot hspmm
    _sparse_sparse_matmul
""".split()
_LATER_TWO = (
    "addmm addmv baddbmm addbmm _addmm_activation _sparse_addmm sspaddmm addmm_ addmv_ baddbmm_ addbmm_".split()
)
FACTORS = {**dict.fromkeys(_FIRST_TWO, (0, 1)), **dict.fromkeys(_LATER_TWO, (1, 2))}
"""Operations that sum products of two operands, and which arguments these are."""

_PER_OUTPUT = {
    **dict.fromkeys(("neg", "negative"), 2),
    **dict.fromkeys(("abs", "absolute"), 4),  # two squares, a sum, a root
    **dict.fromkeys(("square", "reciprocal"), 6),
    "exp": 5,  # exp, sin, cos, two products
    "polar": 4,  # sin, cos, two products
    "angle": 1,
    "complex": 0,
}
_PER_INPUT = {
    **dict.fromkeys(("sum", "mean", "cumsum", "nansum", "trace"), 2),
    **dict.fromkeys(("prod", "cumprod"), 6),
    **dict.fromkeys(("norm", "linalg_vector_norm", "linalg_norm", "frobenius_norm", "linalg_matrix_norm"), 4),
}
_DIVISIONS = ("div", "divide", "true_divide")
_PAIRS = {  # both operands complex, one of them; of a division, the divisor
    **dict.fromkeys(("add", "sub", "rsub", "subtract"), (2, 1)),
    **dict.fromkeys(("mul", "multiply", "outer", "ger"), (6, 2)),
    **dict.fromkeys(_DIVISIONS, (11, 2)),
}


def complex_cost(name: str, formula: Formula, op: Operation) -> Cost | None:
    """What ``name`` costs if operands or results are complex; None if there is no rule for it.

    A complex multiply–accumulate is 1 MAC and 8 FLOPs: four products and four sums. FFTs have the figure of the table, which
    is that of complex numbers.
    """
    if name in FACTORS:
        return of_complex_products(name, formula(op), op)
    if name == "einsum":
        cost, each = formula(op), 2 if len(op.shapes(1)) == 1 else 6  # sums, or products
        return cost and Cost(cost.macs, 6 * cost.macs + each * cost.other_flops, cost.activations)
    if name.lstrip("_").startswith("fft_"):
        return formula(op)
    base = name.removesuffix("_")
    if base in _PAIRS:
        both, one = _PAIRS[base]
        return _per_element(op, both if op.is_complex(1) and (op.is_complex(0) or base in _DIVISIONS) else one)
    if base in _PER_OUTPUT:
        return _per_element(op, _PER_OUTPUT[base])
    if base in _PER_INPUT:
        return Cost(other_flops=_PER_INPUT[base] * numel(op.shape(0)))
    return None


def of_complex_products(name: str, cost: Cost | None, op: Operation) -> Cost | None:
    """``cost``, with the six further operations of each complex multiply–accumulate; with one real factor, two."""
    i, j = FACTORS[name]
    extra = 6 if op.is_complex(i) and op.is_complex(j) else 2
    return cost and Cost(cost.macs, cost.other_flops + extra * cost.macs, cost.activations)


def _per_element(op: Operation, flops: int) -> Cost:
    """Of scalars nothing, as everywhere in the table."""
    return Cost(other_flops=flops * numel(op.out) if len(op.out) else 0)
