"""Which texts in an exported program are expressions of sizes, and nothing else."""

import pytest

from saconv_surgeon.models.exported import safe_expressions as exported_sizes


@pytest.mark.parametrize(
    "text", ["s77", "2*s0 + 1", "Max(1, (s0 + 1)//2)", "Mul(Integer(3), Symbol('s0', positive=True))", "-int_oo"]
)
def test_sizes_that_are_sizes(text):
    assert exported_sizes.is_arithmetic(text)


@pytest.mark.parametrize(
    "text",
    [
        "L['x'].size()[0] >= 2",
        "max(1, 1 + (((-1) + L['x'].size()[3]) // 2))*max(1, (-1) + L['x'].size()[2]) != 9",  # as torch 2.10 writes them
        "min(L['x'].size()[3], abs(-2)) == 2",
    ],
)
def test_guards_that_compare_sizes(text):
    assert exported_sizes.is_guard(text)


@pytest.mark.parametrize(
    "text", ["max.__class__", "max(1, open)", "sum(1, 2)", "L['x'].max()", "min('a', 'b')", "getattr(L, 'x')"]
)
def test_guards_that_do_more(text):
    assert not exported_sizes.is_guard(text)
