"""Expressions of sizes that sympy would not finish, and those that models have."""

import pytest

from saconv_surgeon.models.exported.safe_expressions import is_arithmetic, is_guard

SUM = "(" + "+".join(f"s{i}" for i in range(30)) + ")"
TWENTY = "(" + "+".join(f"s{i}*s{j}" for i in range(5) for j in range(5, 9)) + ")"
NEST = "s0"
for _ in range(40):
    NEST = f"Mod({NEST} + 7, s1)"


@pytest.mark.parametrize(
    "text",
    [
        f"Mod({SUM}**16, {SUM}**15)",
        f"FloorDiv({SUM}**4, {SUM})",
        f"ModularIndexing({SUM}**2, {SUM}, 7)",
        f"Mod(Pow({SUM}, Integer(16)), Pow({SUM}, Integer(15)))",
        f"Mod({'*'.join([SUM] * 4)}, {'*'.join([SUM] * 3)})",
        f"({SUM}*{SUM}*{SUM}) // ({SUM}*{SUM})",
        f"({SUM}**3) % ({SUM}**2)",
        f"Eq({SUM}**8, {SUM}**7)",
        f"{SUM}**4 < {SUM}**3",
        "Max(" + ",".join(f"s{i}*s{i + 1}" for i in range(150)) + ")",
        "Min(" + ",".join(f"s{i}" for i in range(20)) + ")",
        "Max(s0, a=Mod((s0 + s1)**16, (s1 + s2)**15))",
        "Mod((s0**16 + s1**16)**3, s0**15 + 1)",
        "Symbol('s0', positive=Mod((s0 + s1)**16, (s1 + s2)**15))",
        "+".join(f"s{i}" for i in range(60)),
        NEST,
        "Mod((s0 + s1 + s2 + s3)**6, s0)",  # 84 terms
        f"Mod({TWENTY}, {TWENTY} + 1)",  # 420 products
        SUM,  # 30 symbols
        "-" * 3000 + "s0",
        "s0" + " + 1" * 2500,
    ],
)
def test_what_has_no_end(text):
    assert not is_arithmetic(text)


@pytest.mark.parametrize(
    "text",
    [
        "((((((((s77 - 1)//2) + 1 - 1)//2) + 1 - 1)//2) + 1 - 1)//2) + 1",
        "Mod(-(((s0 - 1)//4) + 1), 7)",
        "64*s27*(((s53 - 1)//32) + 1)*(((s77 - 1)//32) + 1)",
        "Max(1, (((s53 - 1)//32) + 1))**2*s27",
        "Mul(Integer(8), Max(Integer(1), FloorDiv(Add(Symbol('s0', positive=True, integer=True), Integer(-1)), Integer(2))))",
        "(s0*s1*(((s2 + 6)//7) + 1)*(((s3 + 6)//7) + 1)) // ((((s2 + 6)//7) + 1)*s1)",
        "Eq(Mod(s0*s1, 4), 0)",
    ],
)
def test_what_models_have(text):
    assert is_arithmetic(text)


def test_guards_of_open_images_are_long():
    side = "(1 + (((-1) + L['x'].size()[3]) // 2) + ((7 + (-1)*((1 + (((-1) + L['x'].size()[3]) // 2)) % 7)) % 7))"
    assert is_guard(f"min({' * '.join([side] * 6)}, 8*max(1, {side})) == 8")
