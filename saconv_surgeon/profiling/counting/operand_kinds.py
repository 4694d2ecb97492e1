"""Which rule counts an operation: the formula of the table is for dense tensors of real numbers, and is applied to nothing else.

Complex and sparse tensors have rules of their own; what has none, as nested and quantised tensors, is of unknown cost.
"""

from __future__ import annotations

from saconv_surgeon.profiling.counting.complex_operations import FACTORS, complex_cost, of_complex_products
from saconv_surgeon.profiling.counting.operation import Formula, Operation
from saconv_surgeon.profiling.counting.shape_formulas import Cost
from saconv_surgeon.profiling.counting.sparse_operations import SPARSE_ONLY, sparse_cost


def cost_of(name: str, formula: Formula, op: Operation) -> Cost | None:
    """What a call of the operation ``name`` (torch's, without ``aten::``) costs; None if that is unknown.

    Args:
        name: The operation.
        formula: What the table has for it.
        op: The call.
    """
    kinds = op.kinds
    if not kinds:
        return None if name in SPARSE_ONLY else formula(op)
    if kinds == {"complex"}:
        return complex_cost(name, formula, op)
    if kinds == {"sparse"}:
        return sparse_cost(name, formula, op)
    if kinds == {"sparse", "complex"} and name in FACTORS:
        return of_complex_products(name, sparse_cost(name, formula, op), op)
    return None
