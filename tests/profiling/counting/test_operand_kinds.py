"""Operands that no formula was made for: the operation is listed, never counted as if they were dense and real."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.profiling.counting.counted import Call, R, count

LIBRARY = torch.library.Library("surgeon_kinds", "FRAGMENT")  # its operators are there as long as it is


@pytest.mark.parametrize("layout", [torch.strided, torch.jagged], ids=str)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_nested_tensors_are_listed(layout):
    class Nested(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 6)

        def forward(self, x):
            nested = torch.nested.nested_tensor([x[:3], x[3:]], layout=layout)
            return torch.ones(2, 8) @ self.linear(nested).values().view(8, 6)

    counted = count(Nested(), R(8, 4))
    assert counted.uncounted_ops["aten::linear"].modules == ("linear",)
    assert counted.macs == 8 * 6 * 2  # what came after it was taken out is counted


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (torch.relu, "aten::relu"),
        (lambda x: F.max_pool2d(x, 2), "aten::max_pool2d"),
        (lambda x: x.mean((2, 3)), "aten::mean"),
    ],
    ids=["relu", "max_pool2d", "mean"],
)
def test_operations_on_quantised_tensors_are_listed(call, name):
    counted = count(Call(call), torch.quantize_per_tensor(R(1, 2, 4, 4), 0.1, 0, torch.quint8))
    assert name in counted.uncounted_ops


@pytest.mark.parametrize(
    "call", [lambda lib, x: lib.alias(x), lambda lib, x: lib.overwrite(x.clone(), x)], ids=["alias", "in place"]
)
def test_operations_of_other_libraries_that_return_their_argument_are_listed(call):
    if not hasattr(torch.ops.surgeon_kinds, "alias"):
        LIBRARY.define("alias(Tensor x) -> Tensor")
        LIBRARY.define("overwrite(Tensor(a!) x, Tensor y) -> Tensor(a!)")
        LIBRARY.impl("alias", lambda x: x, "CPU")
        LIBRARY.impl("overwrite", lambda x, y: x.copy_(y @ y), "CPU")
    counted = count(Call(lambda x: call(torch.ops.surgeon_kinds, x)), R(3, 3))
    assert [name.partition("::")[0] for name in counted.uncounted_ops] == ["surgeon_kinds"]


def test_custom_operations_are_listed_and_composite_ones_looked_into():
    @torch.library.custom_op("surgeon_kinds::opaque", mutates_args=())
    def opaque(x: torch.Tensor) -> torch.Tensor:
        return x @ x

    library = torch.library.Library("surgeon_kinds", "FRAGMENT")
    library.define("open(Tensor x) -> Tensor")
    library.impl("open", lambda x: x @ x, "CompositeImplicitAutograd")
    counted = count(Call(lambda x: opaque(x) + torch.ops.surgeon_kinds.open(x)), R(3, 3))
    assert list(counted.uncounted_ops) == ["surgeon_kinds::opaque"]
    assert counted.macs == 27


def test_arguments_given_by_name():
    assert count(Call(lambda x: torch.ops.aten.mm(self=x, mat2=x)), R(3, 3)).macs == 27
    assert count(Call(lambda x: torch.ops.aten.linear.default(input=x, weight=x)), R(3, 3)).macs == 27


@pytest.mark.parametrize(
    ("path", "macs"),
    [(None, 2 * 3 * 5 + 2 * 5 * 7 + 2 * 7 * 11), ([2, 3, 1, 2, 0, 1], 5 * 7 * 11 + 3 * 5 * 11 + 2 * 3 * 11)],
    ids=["left to right", "right to left"],
)
def test_einsum_follows_its_path(path, macs):
    operands = [R(2, 3), R(3, 5), R(5, 7), R(7, 11)]
    named = {} if path is None else {"path": path}
    counted = count(Call(lambda *ops: torch._VF.einsum("ab,bc,cd,de->ae", ops, **named)), *operands)
    assert counted.macs == macs
    assert counted.cross_check.agrees


@pytest.mark.parametrize(
    ("call", "inputs", "flops"),
    [
        (lambda a: torch.cdist(a, a, p=1), (R(5, 3),), 25 * 3 * 3),
        (lambda a: F.grid_sample(a, R(1, 2, 2, 2), mode="nearest", align_corners=False), (R(1, 1, 3, 3),), 0),
        (lambda a: F.grid_sample(a, R(1, 2, 2, 2), mode="bicubic", align_corners=False), (R(1, 1, 3, 3),), 32 * 4),
        (lambda a: F.grid_sample(a, R(1, 2, 2, 2, 3), align_corners=False), (R(1, 1, 3, 3, 3),), 8 * 8),
        (lambda a: a.new_zeros(3, 4).scatter_add(0, torch.zeros(3, 4, dtype=torch.long), a), (R(3, 4),), 12),
        (lambda a: a.new_zeros(3, 4).index_add(0, torch.arange(3), a), (R(3, 4),), 12),
        (lambda a: a.new_zeros(3, 4).index_put((torch.arange(3),), a, accumulate=True), (R(3, 4),), 12),
        (lambda a: a.new_zeros(3, 4).index_put((torch.arange(3),), a), (R(3, 4),), 0),
        (lambda w: F.embedding_bag(torch.tensor([[1, 2]]), w, mode="sum", per_sample_weights=R(1, 2)), (R(5, 4),), 16),
        (lambda w: F.embedding_bag(torch.tensor([[1, 2]]), w, mode="mean"), (R(5, 4),), 8 + 4),
    ],
)
def test_settings_that_change_the_cost_by_hand(call, inputs, flops):
    counted = count(Call(call), *inputs)
    assert (counted.flops, counted.macs, counted.uncounted_ops) == (flops, 0, {})


def test_bags_with_padding_are_listed_since_shapes_do_not_tell_it():
    counted = count(Call(lambda w: F.embedding_bag(torch.tensor([[1, 2]]), w, padding_idx=1)), R(5, 4))
    assert counted.uncounted_ops
