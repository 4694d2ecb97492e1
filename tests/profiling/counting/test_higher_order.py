"""Operations that call functions cost what the functions do that they call."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch._higher_order_ops import associative_scan, scan, while_loop
from torch._higher_order_ops import map as torch_map
from torch._higher_order_ops.out_dtype import out_dtype
from torch._higher_order_ops.strict_mode import strict_mode
from torch.nn.attention.flex_attention import flex_attention
from torch.torch_version import TorchVersion
from torch.utils.checkpoint import checkpoint

import saconv_surgeon as surgeon
from saconv_surgeon.profiling.counting import higher_order
from tests.profiling.counting.counted import R, count

SCANNED = 3 if TorchVersion(torch.__version__) >= "2.11" else 4
"""How often torch runs the function of a scan over three steps; before 2.11 once more, to see what it gives."""

pytestmark = pytest.mark.filterwarnings(
    "ignore:flex_attention called without:UserWarning", "ignore:None of the inputs have requires_grad:UserWarning"
)


class Calls(nn.Module):
    """A function of two layers, of 4·4 and 4·8·2 MACs a row, and of the input."""

    def __init__(self, function):
        super().__init__()
        self.small, self.large = nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 4))
        self.function = function

    def forward(self, *args):
        return self.function(self, *args)


SMALL, LARGE = 16, 64


def branch(above):
    return lambda m, x: torch.cond(x.sum() > above, lambda y: m.small(y), lambda y: m.large(y), (x,))


def inner_branch(m, x):
    inner = lambda y: torch.cond(y.sum() > 1e9, lambda z: m.small(z), lambda z: m.large(z), (y,))
    return torch.cond(x.sum() > -1e9, inner, lambda y: m.small(y), (x,))


def three_rounds(m, x):
    return while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, m.small(y)), (torch.tensor(0), x))


@pytest.mark.parametrize(
    ("function", "inputs", "macs"),
    [
        (branch(-1e9), (R(5, 4),), 5 * SMALL),
        (branch(1e9), (R(5, 4),), 5 * LARGE),
        (inner_branch, (R(5, 4),), 5 * LARGE),
        (lambda m, x: torch_map(lambda y: m.small(y), x), (R(3, 5, 4),), 3 * 5 * SMALL),
        (three_rounds, (R(5, 4),), 3 * 5 * SMALL),
        (lambda m, x: scan(lambda c, y: (c + 1, m.small(y)), torch.zeros(1), x), (R(3, 5, 4),), SCANNED * 5 * SMALL),
        (
            lambda m, x: associative_scan(lambda a, b: a @ b, x, 0, combine_mode="generic"),
            (R(2, 4, 4),),
            4**3,
        ),
        (lambda m, x: flex_attention(x, x, x), (R(1, 2, 16, 8),), 2 * 2 * 16 * 16 * 8),
        (lambda m, x: flex_attention(x, x, x, score_mod=lambda s, *_: s * 2), (R(1, 2, 16, 8),), 2 * 2 * 16 * 16 * 8),
        (lambda m, x: checkpoint(m.small, x, use_reentrant=False), (R(5, 4),), 5 * SMALL),
        (lambda m, x: checkpoint(m.small, x, use_reentrant=True), (R(5, 4),), 5 * SMALL),
        (lambda m, x: strict_mode(lambda y: m.small(y), (x,)), (R(5, 4),), 5 * SMALL),
        (lambda m, x: torch.compiler.nested_compile_region(lambda y: m.small(y))(x), (R(5, 4),), 5 * SMALL),
        (
            lambda m, x: out_dtype(torch.ops.aten.mm.default, torch.int32, x.to(torch.int8), x.to(torch.int8)),
            (R(4, 4),),
            4**3,
        ),
        (lambda m, x: torch.vmap(m.small)(x), (R(5, 4),), 5 * SMALL),
    ],
    ids=(
        "cond true|cond false|cond in cond|map|while_loop|scan|associative_scan|flex_attention|score_mod|checkpoint|"
        "reentrant|strict_mode|nested_compile_region|out_dtype|vmap"
    ).split("|"),
)
def test_what_is_called_is_counted(function, inputs, macs):
    counted = count(Calls(function), *inputs)
    assert counted.macs == macs
    assert counted.uncounted_ops == {}
    assert sum(row.macs for row in counted.layers) == macs


def test_only_the_branch_that_is_taken_has_a_row():
    counted = count(Calls(branch(-1e9)), R(5, 4))
    assert {row.path: row.macs for row in counted.layers if row.macs} == {"small": 5 * SMALL}


@pytest.mark.parametrize("function", [branch(-1e9), three_rounds], ids=["cond", "while_loop"])
def test_the_users_model_runs_as_before_afterwards(function):
    model, x = Calls(function).eval(), R(5, 4)
    for _ in range(2):
        with torch.no_grad():
            model(x)
        count(model, x)


def test_compiled_functions_are_counted_as_python_and_stay_compiled():
    runs = []

    def backend(graph, example_inputs):
        return lambda *args: (runs.append(1), graph.forward(*args))[1]

    compiled = torch.compile(lambda y: y @ y, backend=backend)
    model = Calls(lambda m, x: compiled(x))
    x = R(4, 4)
    with torch.no_grad():
        model(x)
        before = len(runs)
        assert count(model, x).macs == 4**3
        assert len(runs) == before
        model(x)
    assert len(runs) == before + 1


def test_compiling_is_left_as_it_was_if_the_compiler_is_imported_on_the_way(monkeypatch):
    monkeypatch.setattr(higher_order, "sys", SimpleNamespace(modules={}))
    compiles, ran = torch.compile, []
    backend = lambda graph, example_inputs: (ran.append(1), graph.forward)[1]
    with higher_order.as_python():
        assert torch.compile is not compiles
        torch.compile(lambda y: y + 1, backend=backend)(R(2))
        assert torch.compile is compiles
    assert not ran
    torch.compile(lambda y: y + 1, backend=backend)(R(2))
    assert ran
    with higher_order.as_python():
        pass
    assert torch.compile is compiles


def test_an_operation_without_python_of_its_own_is_listed(monkeypatch):
    monkeypatch.setattr(higher_order, "_python_of", lambda func: None)
    model = Calls(lambda m, x: torch_map(lambda y: m.small(y), x))
    found = surgeon.profile(model, R(3, 5, 4), timing=None)
    assert "higher_order::map_impl" in found.uncounted_ops
