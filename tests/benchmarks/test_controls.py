"""Controls start where the trained model is; all arms see the same pictures."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.payoff.arms import Situation, eligible, layers_converted
from benchmarks.payoff.choices import CHOICES, budget, priced, taken_in_order
from benchmarks.payoff.controls import ZeroBranch, widened, wider, with_layers
from benchmarks.payoff.tasks.classify import Classify, largest
from benchmarks.payoff.tasks.dense import Dense, mean_iou
from benchmarks.payoff.train import orders
from saconv_surgeon import new_parameters


def moved(model):
    """With norms that are not at their start."""
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model.eval()


@pytest.mark.parametrize("task", [Dense(), Classify()], ids=lambda task: task.name)
def test_a_wider_network_computes_the_same(task):
    torch.manual_seed(0)
    model = moved(task.new_model()).double()
    wide = wider(task, model, 1.4).double()
    x = task.example().double()
    assert sum(p.numel() for p in wide.parameters()) > 1.5 * sum(p.numel() for p in model.parameters())
    assert torch.allclose(wide(x), model(x), rtol=1e-9, atol=1e-9)
    wide.train()(x).square().sum().backward()
    grown = wide.backbone.stage3.conv2.weight.grad[:, 56:]
    assert grown.abs().max() > 0  # what reads new channels learns from the first step


def test_a_zero_branch_changes_nothing_and_is_new():
    model = moved(Dense().new_model())
    paths = eligible(model, Dense())
    changed = with_layers(model, paths, ZeroBranch)
    x = Dense().example()
    assert len(paths) == 8
    assert torch.equal(changed(x), model(x))
    assert len(list(new_parameters(changed))) == 8


def test_a_widened_convolution_is_three_times_dilated():
    conv = nn.Conv2d(3, 5, 3, stride=2, padding=1)
    x = torch.rand(2, 3, 12, 12)
    expected = F.conv2d(x, conv.weight, conv.bias, stride=2, padding=3, dilation=3)
    assert torch.allclose(widened(conv)(x), expected)


def test_every_arm_sees_the_same_pictures_however_long_it_is_trained():
    short, long = (list(orders(10, 4, steps, seed=3)) for steps in (5, 12))
    assert all(torch.equal(a, b) for a, b in zip(short, long))
    first = torch.cat(list(itertools.islice(orders(12, 4, 9, seed=3), 3)))
    assert sorted(first.tolist()) == list(range(12))


def test_choices_stay_within_the_price():
    costs = {"a": {"all": 3.0, "contexts": 1.0}, "b": {"all": 5.0, "contexts": 1.0}, "c": {"all": 1.0, "contexts": 0.5}}
    order = [("b", "all"), ("a", "all"), ("a", "contexts"), ("c", "all"), ("c", "contexts")]
    assert taken_in_order(order, costs, 4.0) == {"a": "all", "c": "all"}
    assert taken_in_order(order, costs, 1.6) == {"a": "contexts", "c": "contexts"}


@pytest.mark.parametrize("name", ["random", "random-parts", "depth", "stages", "contexts-only"])
def test_a_quarter_of_the_price(name):
    task = Dense()
    s = Situation(task, 0, moved(task.new_model()))
    costs = priced(s)
    chosen = CHOICES[name](s)
    assert chosen and sum(costs[path][parts] for path, parts in chosen.items()) <= budget(costs)
    assert budget(costs) == pytest.approx(sum(own["all"] for own in costs.values()) / 4)
    model = layers_converted(s.model, task, chosen)
    assert {path for path, module in model.named_modules() if type(module).__name__ == "SAConv2d"} == set(chosen)
    assert torch.equal(model(task.example()), s.model(task.example()))


def test_mean_iou_by_hand():
    true = torch.tensor([[1, 1], [0, 2]])
    found = torch.tensor([[1, 0], [1, 2]])
    # digit 1: one shared of three; digit 2: one of one; the others are nowhere
    assert mean_iou(found, true) == pytest.approx((1 / 3 + 1) / 2)


def test_the_largest_digit():
    boxes = torch.tensor([[[0.0, 0, 4, 9], [10, 10, 16, 16], [0, 0, 0, 0]]])

    class Batch:
        classes = torch.tensor([[2, 5, -1]], dtype=torch.int8)

    Batch.boxes = boxes
    label, side = largest(Batch)
    assert label.tolist() == [2] and side.tolist() == [9.0]
