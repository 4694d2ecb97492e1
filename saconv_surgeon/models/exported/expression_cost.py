"""How much work an expression of sizes can make for sympy, which multiplies out, divides and compares what functions are given.

Estimated from the text alone: every part counts as a polynomial with a number of terms and a degree, a call as a new unknown.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from math import comb

MOST_TERMS = 48
"""Of one polynomial. A U-net with attention whose three sizes are all open has 9, a degree of 4, and functions 7 deep."""
MOST_PAIRS = 256
"""Products of the terms of the arguments of one function."""
HIGHEST_DEGREE = 10
MOST_COMPARED = 8
"""Arguments of one ``Max`` or ``Min``, each of which is compared with all others."""
DEEPEST = 16
"""Functions inside functions."""
MOST_SYMBOLS = 24
SUMS, PRODUCTS = frozenset({"Add"}), frozenset({"Mul"})
POWERS = frozenset({"Pow", "PowByNatural", "FloatPow"})
ATOMS = frozenset({"Symbol", "Integer", "Float", "Rational"})
COMPARED = frozenset({"Max", "Min"})


@dataclass(frozen=True)
class _Size:
    terms: int = 1
    degree: int = 0
    depth: int = 0


class _TooMuchError(Exception):
    pass


def is_affordable(expression: ast.expr) -> bool:
    """Whether sympy is done with an expression, which consists of arithmetic alone, in a fraction of a second."""
    called = {id(part.func) for part in ast.walk(expression) if isinstance(part, ast.Call)}
    symbols = {
        part.id if isinstance(part, ast.Name) else part.value
        for part in ast.walk(expression)
        if (isinstance(part, ast.Name) and id(part) not in called)
        or (isinstance(part, ast.Constant) and isinstance(part.value, str))
    }
    if len(symbols) > MOST_SYMBOLS:
        return False
    try:
        _size(expression)
    except (_TooMuchError, RecursionError):
        return False
    return True


def _size(part: ast.expr) -> _Size:
    if isinstance(part, ast.Name):
        return _Size(degree=1)
    if isinstance(part, ast.UnaryOp):
        return _size(part.operand)
    if isinstance(part, ast.BinOp):
        name = {ast.Add: "Add", ast.Sub: "Add", ast.Mult: "Mul", ast.Pow: "Pow"}.get(type(part.op), "")
        return _combined(name, [part.left, part.right])
    if isinstance(part, ast.BoolOp):
        return _combined("", part.values)
    if isinstance(part, ast.Compare):
        return _combined("", [part.left, *part.comparators])
    if isinstance(part, ast.Call):
        name = part.func.id if isinstance(part.func, ast.Name) else ""
        if not all(isinstance(option.value, ast.Constant) for option in part.keywords):
            raise _TooMuchError
        return _Size(degree=int(name == "Symbol")) if name in ATOMS else _combined(name, part.args)
    return _Size()


def _combined(name: str, arguments: list[ast.expr]) -> _Size:
    sizes = [_size(argument) for argument in arguments]
    depth = max((size.depth for size in sizes), default=0)
    terms, degree = 1, max((size.degree for size in sizes), default=0)
    if name in SUMS:
        terms = sum(size.terms for size in sizes)
    elif name in PRODUCTS:
        terms, degree = _product(sizes), sum(size.degree for size in sizes)
    elif name in POWERS and sizes:
        n = _number(arguments[-1])
        terms, degree = comb(sizes[0].terms + n - 1, n), sizes[0].degree * n
    else:  # it is given its arguments multiplied out, and is one unknown for all around it
        if _product(sizes) > MOST_PAIRS or (name in COMPARED and len(sizes) > MOST_COMPARED):
            raise _TooMuchError
        degree, depth = 1, depth + 1
    if terms > MOST_TERMS or degree > HIGHEST_DEGREE or depth > DEEPEST:
        raise _TooMuchError
    return _Size(terms, degree, depth)


def _product(sizes: list[_Size]) -> int:
    product = 1
    for size in sizes:
        product = min(product * size.terms, 10**9)
    return product


def _number(exponent: ast.expr) -> int:
    """The exponent, 1 for a root; it is known to be small."""
    if isinstance(exponent, ast.UnaryOp):
        return _number(exponent.operand)
    if isinstance(exponent, ast.Call):
        return max((_number(argument) for argument in exponent.args), default=1)
    return max(1, int(exponent.value)) if isinstance(exponent, ast.Constant) and isinstance(exponent.value, int) else 1
