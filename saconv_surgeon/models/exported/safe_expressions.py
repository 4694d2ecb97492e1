"""Expressions of sizes and guards in an exported program, which torch evaluates: arithmetic, and nothing else."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable

from saconv_surgeon.models.exported.expression_cost import is_affordable

LONGEST = 8000
"""Characters of an expression; torch writes some dozens, and up to some thousands if all sizes of an image are open."""
LARGEST_EXPONENT = 16
MOST_POWERS = 4
LARGEST_NUMBER = 2**70
"""Few and small powers: a dozen characters can ask for a number that no memory holds."""
FUNCTIONS = re.compile(
    # sympy's own
    r"Symbol|Integer|Float|Rational|Add|Mul|Pow|Abs|Max|Min|Piecewise|ExprCondPair|floor|ceiling|And|Or|Not|Eq|Ne|Lt|Le|Gt|Ge"
    r"|Equality|Unequality|(Strict)?(LessThan|GreaterThan)|Half|One|Zero|NegativeOne|BooleanTrue|BooleanFalse"
    # Python's own, as guards are written by some versions of torch
    r"|max|min|abs"
    # torch.utils._sympy.functions
    r"|FloorDiv|ModularIndexing|Where|PythonMod|Mod|CleanDiv|CeilToInt|FloorToInt|CeilDiv|LShift|RShift|PowByNatural|FloatPow"
    r"|max|min"  # Python's, in guards
    r"|FloatTrueDiv|IntTrueDiv|IsNonOverlappingAndDenseIndicator|TruncToFloat|TruncToInt|RoundToInt|RoundDecimal|ToFloat|Identity"
)
POWERS = frozenset({"Pow", "PowByNatural", "FloatPow", "LShift"})
SYMBOL = re.compile(r"[A-Za-z]{1,12}_?\d+|[su]_?\w{0,40}|int_oo|oo|inf|True|False|L|math")
TEXT = re.compile(r"[A-Za-z_]\w{0,200}|-?\d{1,20}(\.\d{1,20})?")
ROUNDING = ("ceil", "floor", "trunc", "sqrt")
OF_INPUTS = ("size", "stride", "storage_offset", "dim", "numel")
"""What a guard may ask an input for."""
ARITHMETIC = (
    *(
        ast.Expression,
        ast.Call,
        ast.keyword,
        ast.Name,
        ast.Load,
        ast.Constant,
        ast.Compare,
        ast.BoolOp,
        ast.UnaryOp,
        ast.BinOp,
    ),
    *(ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
)


def is_arithmetic(text: str) -> bool:
    """Whether ``text`` computes with sizes, calls only what sizes are made of, and is soon evaluated."""
    return _consists_of(text, ARITHMETIC, is_affordable)


def is_guard(text: str) -> bool:
    """Whether ``text`` compares sizes of inputs: arithmetic, and ``L['name'].size()[0]``."""
    return _consists_of(text, (*ARITHMETIC, ast.Attribute, ast.Subscript))


def _consists_of(
    text: str, kinds: tuple[type[ast.AST], ...], and_is: Callable[[ast.expr], bool] = lambda expression: True
) -> bool:
    if len(text) > LONGEST:
        return False
    try:
        parsed = ast.parse(text.strip(), mode="eval")
        parts = list(ast.walk(parsed))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    called = {id(part.func) for part in parts if isinstance(part, ast.Call)}
    quoted = {id(text) for part in parts for text in _quoted(part)}
    powers = [part for part in parts if _is_power(part)]
    return (
        len(powers) <= MOST_POWERS
        and all(_is_small(_exponent(power)) for power in powers)
        and all(isinstance(part, kinds) and _is_harmless(part, called, quoted) for part in parts)
        and and_is(parsed.body)
    )


def _quoted(part: ast.AST) -> list[ast.expr]:
    """Where a text may stand: the name of a symbol or of an input, a number."""
    if isinstance(part, ast.Subscript):
        return [part.slice]
    named = (
        isinstance(part, ast.Call)
        and isinstance(part.func, ast.Name)
        and part.func.id in ("Symbol", "Integer", "Float")
    )
    return list(part.args) if isinstance(part, ast.Call) and named else []


def _is_harmless(part: ast.AST, called: set[int], quoted: set[int]) -> bool:
    if isinstance(part, ast.Name):
        return (FUNCTIONS if id(part) in called else SYMBOL).fullmatch(part.id) is not None
    if isinstance(part, ast.Attribute):
        of_math = isinstance(part.value, ast.Name) and part.value.id == "math" and part.attr in ROUNDING
        return of_math or part.attr in OF_INPUTS
    if isinstance(part, ast.Call):
        return isinstance(part.func, (ast.Name, ast.Attribute))
    if isinstance(part, ast.Constant):
        return _is_harmless_constant(part, quoted)
    return True


def _is_harmless_constant(part: ast.Constant, quoted: set[int]) -> bool:
    value = part.value
    if isinstance(value, str):
        return id(part) in quoted and TEXT.fullmatch(value) is not None and "__" not in value
    if isinstance(value, (bool, type(None))):
        return True
    return isinstance(value, (int, float)) and abs(value) <= LARGEST_NUMBER


def _is_power(part: ast.AST) -> bool:
    if isinstance(part, ast.BinOp):
        return isinstance(part.op, (ast.Pow, ast.LShift))
    return isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id in POWERS


def _exponent(power: ast.AST) -> ast.AST | None:
    if isinstance(power, ast.BinOp):
        return power.right
    return power.args[1] if isinstance(power, ast.Call) and len(power.args) == 2 else None


def _is_small(exponent: ast.AST | None) -> bool:
    """Whether an exponent is a small whole number, or one divided by such."""
    if isinstance(exponent, ast.UnaryOp):
        return _is_small(exponent.operand)
    if isinstance(exponent, ast.Call) and isinstance(exponent.func, ast.Name):
        numbers = exponent.func.id in ("Integer", "Rational")
        return numbers and bool(exponent.args) and all(map(_is_small, exponent.args))
    return isinstance(exponent, ast.Constant) and isinstance(exponent.value, int) and exponent.value <= LARGEST_EXPONENT
