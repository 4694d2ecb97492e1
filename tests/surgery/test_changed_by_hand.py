"""What other code has put on a convolution: methods, hooks, tensors of other classes."""

import functools
import types

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import saconv_surgeon as surgeon
from saconv_surgeon.surgery.changed_by_hand import changed_by_hand, hooks_on, patched_methods
from tests import nets
from tests.surgery.plans import decisions


def tiled(self, x, w, b):
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), w, b, self.stride, 0)


class Doubled(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


def by_conv_forward(conv):
    conv._conv_forward = types.MethodType(tiled, conv)


def by_partial(conv):
    conv.forward = functools.partial(tiled, conv, w=conv.weight, b=conv.bias)


def by_lambda(conv):
    conv.forward = lambda x: 2 * nn.Conv2d.forward(conv, x)


def by_call(conv):
    usual = conv._call_impl
    conv._call_impl = lambda *args: 2 * usual(*args)


def by_train(conv):
    conv.train = types.MethodType(lambda self, mode=True: nn.Module.train(self, False), conv)


@pytest.mark.parametrize("change", [by_conv_forward, by_partial, by_lambda, by_call, by_train])
def test_methods_replaced_on_the_object_are_refused_and_stay(change):
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3))
    change(model[0])
    conversion = surgeon.convert(model, nets.X)
    first, second = conversion.plan.sites
    assert (first.reason_code, second.decision) == ("patched-forward", "convert")
    assert torch.equal(conversion.model.eval()(nets.X), model.eval()(nets.X))


def test_tiling_stays_true():
    """Circular by its patched method: a shifted image gives a shifted output, whatever its parameters become."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1))
    by_conv_forward(model[0])
    with pytest.warns(surgeon.NoEffectWarning):
        converted = surgeon.convert(model, nets.X).model
    for parameter in converted.parameters():
        nn.init.normal_(parameter, std=0.1)
    moved = converted(nets.X).roll(5, -1)
    torch.testing.assert_close(converted(nets.X.roll(5, -1)), moved, atol=1e-4, rtol=1e-4)


def test_class_swapped_on_the_object():
    model = nets.OneConv()
    model.conv.__class__ = Doubled
    assert decisions(model)["conv"].reason_code == "subclass"


@pytest.mark.parametrize("name", ["forward", "_conv_forward"])
def test_methods_replaced_on_the_class_are_refused(monkeypatch, name):
    usual = getattr(nn.Conv2d, name)
    monkeypatch.setattr(nn.Conv2d, name, functools.wraps(usual)(lambda self, *args: usual(self, *args)))
    assert decisions(nets.OneConv())["conv"].reason == f"nn.Conv2d.{name} was replaced in this process"


def test_what_changes_nothing_is_no_change():
    conv = nn.Conv2d(3, 3, 3)
    conv.extra_repr = lambda: "mine"
    conv.note = "mine"
    conv.compile()
    assert changed_by_hand(conv) is None
    assert (patched_methods(conv), hooks_on(conv)) == ((), ())


class Marked(nn.Parameter):
    pass


@pytest.mark.parametrize(
    ("weight", "code"),
    [
        (Marked(torch.randn(3, 3, 3, 3)), "tensor-class"),
        (nn.Parameter(torch.zeros(3, 3, 3, 3, dtype=torch.int8), requires_grad=False), "dtype"),
        (nn.Parameter(torch.eye(3).to_sparse()), "layout"),
        (nn.Parameter(torch.zeros(0, 3, 3, 3)), "layout"),
    ],
)
def test_kernels_that_are_no_plain_parameters(weight, code):
    conv = nn.Conv2d(3, 3, 3)
    conv.weight = weight
    assert changed_by_hand(conv).code == code
