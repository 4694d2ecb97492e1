"""What trained layers do with their freedom, against the equations in float64."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import saconv_surgeon as surgeon
from saconv_surgeon.comparing.layer_use import layer_use
from saconv_surgeon.models.running.inputs import Inputs
from tests import oracle
from tests.operators import whole_operator  # noqa: F401 - a fixture


def layer(**changes):
    made = surgeon.SAConv2d.from_conv2d(nn.Conv2d(4, 6, 3, padding=1))
    with torch.no_grad():
        for name, value in changes.items():
            made.get_parameter(name.replace("__", ".")).copy_(value)
    return made


def look(made, x):
    (found,) = layer_use(nn.Sequential(made), Inputs.of(x))
    return found


def test_new_layer_is_at_rest():
    found = look(layer(), torch.randn(2, 4, 9, 9))
    assert (found.path, found.type, found.use) == ("0", "SAConv2d", "at rest")
    assert (found.switch_mean, found.switch_std, found.switch_min, found.switch_max) == (1, 0, 1, 1)
    assert found.weight_diff == found.pre_context == found.post_context == found.moved == 0


def test_constant_switch_and_contexts_by_hand():
    made = layer(switch__bias=torch.tensor([0.25]), pre_context__bias=torch.full((4,), 0.5))
    with torch.no_grad():
        made.weight_diff.copy_(0.1 * made.standardised_weight())
    x = torch.randn(2, 4, 9, 9)
    found = look(made, x)
    assert found.switch_mean == pytest.approx(0.25)
    assert found.switch_std == pytest.approx(0, abs=1e-6)
    assert found.weight_diff == pytest.approx(0.1, rel=1e-6)
    assert found.pre_context == pytest.approx(0.5 / float(x.double().square().mean().sqrt()), rel=1e-6)
    assert found.post_context == 0
    assert found.use == "used"


def test_figures_against_the_equations():
    torch.manual_seed(1)
    made = layer()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if made.is_new(name):
                parameter.add_(0.1 * torch.randn_like(parameter))
    x = torch.randn(2, 4, 9, 9)
    found = look(made, x)
    y = oracle.saconv(made, x).double()
    made.requires_grad_(False)
    kernel = made.standardised_weight().double()
    plain = F.conv2d(x.double(), kernel, made.bias.double(), padding=1)
    assert found.moved == pytest.approx(float((y - plain).norm() / y.norm()), rel=1e-5)
    assert found.weight_diff == pytest.approx(float(made.weight_diff.double().norm() / kernel.norm()), rel=1e-6)
    seen = x.double() + F.conv2d(
        x.double().mean((2, 3), keepdim=True), made.pre_context.weight.double(), made.pre_context.bias.double()
    )
    pooled = F.avg_pool2d(F.pad(seen, (2, 2, 2, 2), mode="reflect"), 5, 1)
    switch = F.conv2d(pooled, made.switch.weight.double(), made.switch.bias.double())
    assert found.switch_mean == pytest.approx(float(switch.mean()), rel=1e-5)
    assert found.switch_std == pytest.approx(float(switch.std(unbiased=False)), rel=1e-4)
    assert (found.switch_min, found.switch_max) == pytest.approx((float(switch.min()), float(switch.max())), rel=1e-5)
    blend = _blend(made, seen, switch, kernel)
    assert found.post_context == pytest.approx(float((y - blend).norm() / blend.norm()), rel=1e-4)


def _blend(made, seen, switch, kernel):
    small = F.conv2d(seen, kernel, made.bias.double(), padding=1)
    large = F.conv2d(seen, kernel + made.weight_diff.double(), made.bias.double(), padding=3, dilation=3)
    return switch * small + (1 - switch) * large


def test_hardly_used_and_never_run():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = layer(switch__bias=torch.tensor([1.0 - 1e-5])), layer()

        def forward(self, x):
            return self.a(x)

    first, second = layer_use(Two(), Inputs.of(torch.randn(1, 4, 9, 9)))
    assert first.use == "hardly used"
    assert 0 < first.moved < 1e-3
    assert second.switch_mean is None
    assert second.moved is None or second.moved == 0


def test_block_is_looked_at_before_its_norm_and_is_left_as_it_was():
    made = surgeon.SAConv2d(4, 6, 3, padding=1, bn=nn.BatchNorm2d(6), act=nn.ReLU())
    made.train()
    state = {name: t.clone() for name, t in made.state_dict().items()}
    found = look(made, torch.randn(2, 4, 9, 9))
    assert found.moved == 0
    assert made.training
    assert all(torch.equal(t, state[name]) for name, t in made.state_dict().items())
    assert not made.pre_context._forward_hooks


@pytest.mark.usefixtures("whole_operator")
def test_offsets_of_a_deformable_layer():
    made = surgeon.DeformableSAConv2d.from_conv2d(nn.Conv2d(4, 6, 3, padding=1))
    with torch.no_grad():
        made.offset_s.bias.copy_(torch.tensor([3.0, 4.0] * 9))  # y and x of nine taps: five pixels each
    found = look(made, torch.randn(1, 4, 9, 9))
    assert found.offset == pytest.approx(2.5)  # those of the wide branch stay
    assert found.use == "used"


def test_what_a_layer_does_not_have_is_none():
    """Not 0: there is no switch that would be 1, and no context that adds nothing."""
    x = torch.randn(2, 4, 9, 9)
    contexts, branches = (surgeon.SAConv2d(4, 6, 3, padding=1, parts=parts) for parts in ("contexts", "branches"))
    with torch.no_grad():
        contexts.pre_context.bias.fill_(0.5)
        branches.switch.bias.fill_(0.25)
        branches.weight_diff.copy_(0.1 * branches.standardised_weight())
    found = look(contexts, x)
    assert (found.switch_mean, found.switch_std, found.switch_min, found.switch_max, found.weight_diff) == (None,) * 5
    assert found.pre_context == pytest.approx(0.5 / float(x.double().square().mean().sqrt()), rel=1e-6)
    assert found.post_context == 0
    contexts.requires_grad_(False)
    plain = F.conv2d(x, contexts.weight, contexts.bias, padding=1)
    wanted = F.conv2d(x + 0.5, contexts.weight, contexts.bias, padding=1)
    assert found.moved == pytest.approx(float((wanted - plain).norm() / wanted.norm()), rel=1e-4)
    assert found.use == "used"
    found = look(branches, x)
    assert (found.pre_context, found.post_context) == (None, None)
    assert found.switch_mean == pytest.approx(0.25)
    assert found.weight_diff == pytest.approx(0.1, rel=1e-6)
    assert found.use == "used"
    for parts in ("contexts", "branches"):
        assert look(surgeon.SAConv2d(4, 6, 3, parts=parts), x).use == "at rest"
        unused = nn.ModuleList([oracle.shake(surgeon.SAConv2d(4, 6, 3, parts=parts)), nn.Identity()])
        unused.forward = unused[1].forward
        assert layer_use(unused, Inputs.of(x))[0].use == "never ran"
