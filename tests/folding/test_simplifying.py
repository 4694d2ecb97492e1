"""What ``--tolerance`` takes out, and what it says about it."""

import torch
from torch import nn

import saconv_surgeon as surgeon
from tests import oracle
from tests.folding.models import Pair, X, outputs, trained
from tests.operators import operator  # noqa: F401 - a fixture


def test_tolerance_is_for_each_layer_by_itself():
    """Layers that share a switch, and layers that cannot be folded."""
    model = trained(Pair())
    with torch.no_grad():
        model.conv1.weight_diff.zero_()
        model.conv1.switch = model.conv2.switch = nn.Conv2d(8, 1, 1)
        model.conv1 = oracle.shake(surgeon.SAConv2d(8, 8, 3, padding=1))
        model.conv1.switch = model.conv2.switch
        for layer in (model.conv1, model.conv2):
            for part in (layer.pre_context, layer.post_context):
                hardly(model, part, 0)
        model.conv1.weight_diff.zero_()
        model.conv2.weight_diff.mul_(1000)
        model.conv1.switch.weight.mul_(0.01)
        model.conv1.switch.bias.fill_(1.001)
    x = torch.randn(2, 8, 16, 16)
    folding = surgeon.fold(model, x, tolerance=0.01)
    assert folding.layers[0].removed
    assert not folding.layers[1].removed
    assert folding.layers[1].parts == ("narrow", "wide", "switch")
    model.conv1.register_forward_hook(lambda module, args, output: None)
    assert not surgeon.fold(model, x, tolerance=0.01).layers[0].removed


def hardly(model, part, size):
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.mul_(size)
    return model


def test_tolerance_takes_out_what_hardly_contributes():
    model = trained(Pair())
    for layer in (model.conv1, model.conv2):
        hardly(model, layer.post_context, 1e-5)
        hardly(model, layer.pre_context, 1e-5)
    exact = surgeon.fold(model, X)
    assert exact.layers[0].parts == ("narrow", "wide", "switch", "pre-context", "post-context")
    folding = surgeon.fold(model, X, tolerance=1e-3)
    assert folding.layers[0].parts == ("narrow", "wide", "switch")
    assert folding.layers[0].removed == ("post-context", "pre-context")
    assert 0 < folding.layers[0].cost < 1e-3
    assert folding.equivalence.passed  # of the model without them
    assert 0 < folding.cost.max_rel < 1e-3
    assert oracle.relative_error(folding.model(X), outputs(model).double()) < 1e-3
    nothing = surgeon.fold(model, X, tolerance=0.0)
    assert nothing.cost.bit_equal
    assert nothing.layers[0].parts == exact.layers[0].parts


def test_tolerance_makes_switches_constant():
    model = trained(Pair())
    with torch.no_grad():
        for layer, value in ((model.conv1, 1.0), (model.conv2, 0.25)):
            layer.switch.weight.mul_(1e-6)
            layer.switch.bias.fill_(value)
            for part in (layer.pre_context, layer.post_context):
                hardly(model, part, 0)
    folding = surgeon.fold(model, X, tolerance=1e-3)
    assert [row.after for row in folding.layers] == ["Conv2d", "FoldedSAConv2d"]
    assert [row.removed for row in folding.layers] == [("wide branch",), ("switch",)]
    assert folding.layers[1].parts == ("narrow", "wide")


def test_tolerance_counts_everything_that_was_taken_out_together():
    """Each part alone would be within the tolerance; both are not."""
    model = trained(Pair())
    layer = model.conv1
    with torch.no_grad():
        layer.switch.weight.zero_()
        for part in (layer.pre_context, layer.post_context):
            part.weight.zero_()
            part.bias.zero_()
        kernel = layer.standardised_weight()
        plain = nn.functional.conv2d(X, kernel, layer.bias, padding=1)
        layer.switch.bias.fill_(1.0)
        layer.post_context.bias.fill_(0.8e-2 * float(plain.square().mean().sqrt()))
        y = model.conv1.blended(X)
        alone = float((y - plain).norm() / y.norm())
        layer.switch.bias.fill_(1.01)
    folding = surgeon.fold(model, X, tolerance=1.2 * alone)
    assert folding.layers[0].cost <= 1.2 * alone
    assert len(folding.layers[0].removed) == 1


def test_layers_without_some_parts_lose_what_they_can_do_without():
    for parts, gone in (("contexts", ("post-context", "pre-context")), ("branches", ("wide branch",))):
        model = trained(Pair(), options={"parts": parts})
        with torch.no_grad():
            for name, parameter in model.conv1.named_parameters():
                if model.conv1.is_new(name):
                    parameter.sub_(float(name == "switch.bias")).mul_(1e-5).add_(float(name == "switch.bias"))
        folding = surgeon.fold(model, X, tolerance=1e-3)
        first, second = folding.layers
        assert (first.removed, first.parts) == (gone, ())
        assert (second.removed, len(second.parts)) == ((), 3)
        assert oracle.relative_error(folding.model(X), outputs(model).double()) < 1e-3
