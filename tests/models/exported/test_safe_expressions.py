"""Which texts in an exported program are expressions of sizes, and nothing else."""

import pytest

from saconv_surgeon.models.exported import safe_expressions as exported_sizes


@pytest.mark.parametrize(
    "text", ["s77", "2*s0 + 1", "Max(1, (s0 + 1)//2)", "Mul(Integer(3), Symbol('s0', positive=True))", "-int_oo"]
)
def test_sizes_that_are_sizes(text):
    assert exported_sizes.is_arithmetic(text)
