"""Formulas of users and other packages: what they get, what they may say, and that their figures are named."""

import json
import sys

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.profiling.counting.user_formulas import user_formulas
from saconv_surgeon.profiling.environment import environment
from tests.cli.running import run
from tests.profiling.counting.counted import Call, R, count

LIBRARY = torch.library.Library("surgeon_user", "FRAGMENT")
LIBRARY.define("gemm(Tensor a, Tensor b, int groups=1, *, bool relu=False) -> Tensor")
LIBRARY.impl("gemm", lambda a, b, groups=1, relu=False: a @ b, "CPU")
LIBRARY.define("pair(Tensor[] parts, float scale) -> (Tensor, Tensor)")
LIBRARY.impl("pair", lambda parts, scale: (parts[0] * scale, parts[1] @ parts[1]), "CPU")
GEMM = "surgeon_user::gemm"


def gemm(a, b, groups, relu, out):
    assert out == (a[0], b[1])
    return a[0] * a[1] * b[1] // groups


def model(groups=1):
    return Call(lambda a, b: torch.ops.surgeon_user.gemm(a, b, groups))


A, B = R(3, 4), R(4, 6)


def test_without_a_formula_the_operation_is_listed():
    assert GEMM in count(model(), A, B).uncounted_ops


@pytest.mark.parametrize("operation", [GEMM, torch.ops.surgeon_user.gemm, torch.ops.surgeon_user.gemm.default], ids=str)
def test_formula_gets_shapes_and_settings_and_gives_macs(operation):
    with surgeon.count_operation(operation, gemm):
        counted = count(model(groups=2), A, B)
    assert counted.macs == 3 * 4 * 6 // 2
    assert counted.flops == 2 * counted.macs
    assert counted.activations == 3 * 6
    assert counted.uncounted_ops == {}
    assert counted.cross_check.agrees
    (found,) = counted.counted_by_formulas.values()
    assert (found.source, found.calls, found.macs) == (f"{__name__}:gemm", 1, 36)


def test_defaults_and_lists_are_filled_in_for_both_engines():
    seen = []

    def formula(*given):
        seen.append(given)
        return 0

    with surgeon.count_operation(GEMM, formula), surgeon.count_operation("surgeon_user::pair", formula):
        counted = count(model(), A, B)
        assert counted.cross_check.agrees
        count(Call(lambda a: torch.ops.surgeon_user.pair([a, a], 2.0)), R(3, 3))
    assert seen[:2] == [((3, 4), (4, 6), 1, False, (3, 6))] * 2
    assert seen[2:] == [([(3, 3), (3, 3)], 2.0, [(3, 3), (3, 3)])] * 2


def test_formula_is_taken_back():
    handle = surgeon.count_operation(GEMM, gemm)
    with surgeon.count_operation(GEMM, lambda *_: 5):
        assert count(model(), A, B).macs == 5
    assert count(model(), A, B).macs == 72
    handle.remove()
    with surgeon.count_operation(GEMM, lambda *_: 5):
        handle.remove()  # once only
        assert count(model(), A, B).macs == 5
    assert GEMM in count(model(), A, B).uncounted_ops
    assert GEMM not in user_formulas()


def test_other_flops_than_macs():
    cost = surgeon.OperationCost(macs=10, other_flops=7, activations=3)
    with surgeon.count_operation(GEMM, lambda *_: cost):
        counted = count(nn.Sequential(Call(lambda a: torch.ops.surgeon_user.gemm(a, B))), A)
    assert (counted.macs, counted.flops, counted.activations) == (10, 27, 3)
    assert [(row.path, row.flops) for row in counted.layers] == [("0", 27)]


def test_a_formula_for_an_operation_of_torch_replaces_ours():
    with surgeon.count_operation("aten::linear", lambda x, weight, bias, out: 1):
        counted = count(nn.Linear(4, 5), A)
    assert counted.macs == 1
    assert list(counted.counted_by_formulas) == ["aten::linear"]


def test_a_formula_for_an_operation_that_calls_functions():
    from torch._higher_order_ops import map as torch_map

    with surgeon.count_operation("higher_order::map_impl", lambda function, xs, *others_and_out: 42):
        counted = count(Call(lambda x: torch_map(lambda y: y @ y, x)), R(2, 3, 3))
    assert counted.macs == 42


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        (
            lambda *_: 1 / 0,
            r"raised ZeroDivisionError: division by zero; it was called as formula\(\(3, 4\), \(4, 6\), 1, False",
        ),
        (lambda a: 3, "raised TypeError: .*takes 1 positional argument"),
        (lambda *_: "many", "returned 'many'; give MACs, an integer from 0 up, or a saconv_surgeon.OperationCost"),
        (lambda *_: -1, "returned -1"),
        (lambda *_: 2.5, "returned 2.5"),
    ],
)
def test_broken_formula_is_told_in_one_sentence(formula, message):
    with surgeon.count_operation(GEMM, formula), pytest.raises(surgeon.UsageError, match=message) as raised:
        surgeon.profile(model(), (A, B), timing=None)
    assert str(raised.value).startswith(f"the formula for {GEMM}, {__name__}:")


@pytest.mark.parametrize("operation", ["gemm", "a::b::c", 3, None, "surgeon_user::"])
def test_what_names_no_operation_is_refused(operation):
    with pytest.raises(surgeon.UsageError, match="names no operation; give its namespace and its name"):
        surgeon.count_operation(operation, gemm)


def test_what_is_no_function_is_refused():
    with pytest.raises(surgeon.UsageError, match="the formula for surgeon_user::gemm is 3; give a function"):
        surgeon.count_operation(GEMM, 3)


# ------------------------------------------------------------------ entry points


PLUGIN = """
def gemm(a, b, groups, relu, out):
    return a[0] * a[1] * b[1] // groups

several = {"surgeon_user::gemm": gemm, "surgeon_user::pair": lambda parts, scale, out: 7}
misnamed = {"gemm": gemm}
nothing = 3
"""
GOOD = {"surgeon_user::gemm": "surgeon_plugin:gemm"}


@pytest.fixture
def offering(tmp_path, monkeypatch):
    """Installs a package that offers formulas."""

    def install(entries):
        (tmp_path / "surgeon_plugin.py").write_text(PLUGIN)
        (tmp_path / "surgeon_exits.py").write_text("raise SystemExit(3)\n")
        info = tmp_path / "surgeon_plugin-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: surgeon-plugin\nVersion: 1.0\n")
        lines = [f"{name} = {place}" for name, place in entries.items()]
        (info / "entry_points.txt").write_text("\n".join(["[saconv_surgeon.operations]", *lines, ""]))
        monkeypatch.syspath_prepend(str(tmp_path))

    yield install
    sys.modules.pop("surgeon_plugin", None)


@pytest.mark.parametrize("entries", [GOOD, {"anything": "surgeon_plugin:several"}], ids=["one", "several"])
def test_another_package_offers_formulas(offering, entries):
    offering(entries)
    counted = count(model(), A, B)
    (source,) = entries.values()
    assert (counted.macs, counted.uncounted_ops) == (72, {})
    assert counted.counted_by_formulas[GEMM].source == source
    assert environment()[f"operation {GEMM}"] == f"counted by {source}"
    with surgeon.count_operation(GEMM, lambda *_: 1):
        assert count(model(), A, B).macs == 1


BROKEN = [
    ("no_such_module:x", r"cannot be imported \(ModuleNotFoundError: No module named 'no_such_module'\)"),
    ("surgeon_plugin:absent", r"cannot be imported \(AttributeError"),
    ("surgeon_exits:x", r"cannot be imported \(SystemExit"),
    ("surgeon_plugin:nothing", "is not a formula or a mapping of names to formulas but 3"),
    ("surgeon_plugin:misnamed", "'gemm' names no operation"),
]


@pytest.mark.parametrize(("place", "message"), BROKEN, ids=[place for place, _ in BROKEN])
def test_a_broken_offer_stops_nothing_and_is_named(offering, place, message, tmp_path):
    import re

    offering({**GOOD, "broken": place})
    counted = count(model(), A, B)
    assert counted.macs == 72
    assert re.search(message, counted.broken_formulas["broken"])
    assert re.search(message, environment()["formulas of broken"])
    result = run(
        "profile", "tests/nets.py:chain", "--input", "1x3x16x16", "--no-latency", "--json", tmp_path / "r.json"
    )
    assert result.exit_code == 0
    assert "formulas of broken are left out" in " ".join(result.output.split())
    assert "broken" in json.loads((tmp_path / "r.json").read_text())["broken_formulas"]


def test_two_packages_with_the_same_operation_are_told(offering):
    offering({**GOOD, "zz": "surgeon_plugin:several"})
    counted = count(model(), A, B)
    assert counted.counted_by_formulas[GEMM].source == "surgeon_plugin:gemm"
    assert "has formulas for surgeon_user::gemm, as surgeon_plugin:gemm has" in counted.broken_formulas["zz"]


NET = """
import torch
from torch import nn
library = torch.library.Library("surgeon_file", "FRAGMENT")
library.define("gemm(Tensor a) -> Tensor")
library.impl("gemm", lambda a: a @ a, "CPU")
class Net(nn.Module):
    def forward(self, x):
        return torch.ops.surgeon_file.gemm(x)
def build():
    return Net()
def example_inputs():
    return torch.zeros(4, 4)
"""


def test_strict_fails_until_there_is_a_formula(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    command = ("profile", f"{tmp_path / 'net.py'}:build", "--no-latency", "--strict")
    result = run(*command)
    assert result.exit_code == 1
    assert "surgeon_file::gemm" in result.output
    with surgeon.count_operation("surgeon_file::gemm", lambda a, out: a[0] ** 3):
        result = run(*command)
    assert result.exit_code == 0, result.output
    assert "surgeon_file::gemm, 1 ×, 64 MACs: counted by the formula" in " ".join(result.output.split())
