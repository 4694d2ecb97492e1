"""Convolutions of other classes, taken for what they compute. Oracle: the classes themselves."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import saconv_surgeon as surgeon
from saconv_surgeon.surgery.own_convolutions import recognised
from tests import oracle, published
from tests.surgery.plans import decisions

X = torch.randn(2, 4, 13, 15, generator=torch.Generator().manual_seed(0))


class WithNorm(nn.Conv2d):
    """A convolution with a norm and an activation inside."""

    def __init__(self, *args, norm=None, activation=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.norm, self.activation = norm, activation

    def forward(self, x):
        x = F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        x = x if self.norm is None else self.norm(x)
        return x if self.activation is None else self.activation(x)


class ActivationFirst(WithNorm):
    def forward(self, x):
        return self.norm(self.activation(super(WithNorm, self).forward(x)))


class NoiseInTraining(WithNorm):
    def forward(self, x):
        return super().forward(x + torch.randn_like(x) if self.training else x)


class ScaledWeight(WithNorm):
    def forward(self, x):
        return self.norm(self._conv_forward(x, self.weight * 1.01, self.bias))


class ClampedInput(WithNorm):
    def forward(self, x):
        return super().forward(x.clamp(-20, 20))


class PastedSwitchable(nn.Conv2d):
    """In the published order, with the published names; ``bias`` is there and not used."""

    def __init__(self, c_in, c_out, kernel=3, bn=False, bias=True, **options):
        super().__init__(c_in, c_out, kernel, padding=1, bias=bias, **options)
        for name in ("gamma", "beta"):
            self.register_buffer(f"weight_{name}", torch.zeros(c_out, 1, 1, 1))
        self.weight_diff = nn.Parameter(torch.zeros_like(self.weight))
        self.switch = nn.Conv2d(c_in, 1, 1)
        self.pre_context, self.post_context = nn.Conv2d(c_in, c_in, 1), nn.Conv2d(c_out, c_out, 1)
        if bn:
            self.bn, self.act = nn.BatchNorm2d(c_out), nn.SiLU()
        self.load_state_dict(published.random_state(c_in, c_out, kernel, self.groups, bias=bias, bn=bn), strict=False)

    def forward(self, x):
        state = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        y = published.saconv(state, x, stride=self.stride[0], groups=self.groups)
        return self.act(self.bn(y)) if hasattr(self, "bn") else y


class PastedStandardised(nn.Conv2d):
    uses_bias = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.register_buffer("weight_gamma", torch.rand(self.out_channels, 1, 1, 1) + 0.5)
        self.register_buffer("weight_beta", torch.randn(self.out_channels, 1, 1, 1) * 0.1)

    def forward(self, x):
        weight = published.standardised(dict(self.named_buffers()) | {"weight": self.weight})
        return self._conv_forward(x, weight, self.bias if self.uses_bias else None)


class IgnoresBias(PastedStandardised):
    uses_bias = False


class OtherFormula(PastedSwitchable):
    def forward(self, x):
        return super().forward(x).sigmoid()


def normed(channels=6):
    norm = nn.BatchNorm2d(channels)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    return norm


WITH_NORM = {
    "norm and function": lambda: WithNorm(4, 6, 3, padding=1, bias=False, norm=normed(), activation=F.relu),
    "norm and module": lambda: WithNorm(4, 6, 3, 2, 1, norm=normed(), activation=nn.Hardswish()),
    "norm alone": lambda: WithNorm(4, 6, 5, padding=2, norm=nn.GroupNorm(2, 6)),
    "activation alone": lambda: WithNorm(4, 6, 3, groups=2, activation=nn.LeakyReLU(0.3)),
    "neither": lambda: WithNorm(4, 6, 3, dilation=2),
}
PASTED = {
    "switchable": lambda: PastedSwitchable(4, 6),
    "switchable, stride, groups": lambda: PastedSwitchable(4, 6, stride=2, groups=2),
    "no bias": lambda: PastedSwitchable(4, 6, bias=False),
    "the article's block": lambda: PastedSwitchable(4, 6, bn=True),
    "standardised": lambda: PastedStandardised(4, 6, 3, padding=1),
    "standardised, bias ignored": lambda: IgnoresBias(4, 6, 3, padding=1),
}


def around(conv):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 4, 1), conv, nn.Conv2d(6, 3, 1)).eval()


@pytest.mark.parametrize("kind", WITH_NORM)
def test_norm_and_activation_inside_become_parts(kind):
    model = around(WITH_NORM[kind]())
    before = model(X)
    made = surgeon.convert(model, X, include=["1"])
    assert type(made.model[1]) is surgeon.SAConv2d
    assert made.equivalence.bit_equal
    assert torch.equal(made.model(X), before)
    trained, reference = copy.deepcopy(made.model).train(), copy.deepcopy(model).train()
    assert torch.equal(trained(X), reference(X))
    oracle.shake(made.model[1])
    with torch.no_grad():
        assert oracle.relative_error(surgeon.fold(made.model, X).model(X), made.model(X)) < 1e-5


def test_a_norm_inside_needs_a_place():
    model = around(WITH_NORM["norm alone"]())
    site = decisions(model, X, target="aws")["1"]
    assert (site.reason_code, site.decision) == ("parts-inside", "refuse")
    assert decisions(around(WITH_NORM["neither"]()), X, target="aws")["1"].decision == "convert"


@pytest.mark.parametrize("kind", [ActivationFirst, NoiseInTraining, ScaledWeight, ClampedInput])
def test_what_computes_otherwise_is_refused(kind):
    conv = kind(4, 6, 3, padding=1, norm=normed(), activation=nn.ReLU())
    assert decisions(around(conv), X)["1"].reason_code == "subclass"


def test_what_holds_more_is_refused():
    conv = WITH_NORM["neither"]()
    conv.register_buffer("scale", torch.ones(1))
    assert recognised(conv) is None
    assert recognised(OtherFormula(4, 6)) is None
    assert recognised(nn.Conv2d(4, 6, 3)) is None


@pytest.mark.parametrize("kind", PASTED)
def test_pasted_layers_are_taken_over(kind):
    torch.manual_seed(1)
    model = around(PASTED[kind]())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    target = "aws" if kind.startswith("standardised") else "saconv"
    with torch.no_grad():
        wanted = model(X)
        made = surgeon.convert(model, X, target=target, include=["1"])
        assert isinstance(made.model[1], surgeon.ConvAWS2d)
        assert made.equivalence.passed, made.equivalence
        assert oracle.relative_error(made.model(X), wanted) < 1e-5
        assert oracle.relative_error(copy.deepcopy(made.model).train()(X), copy.deepcopy(model).train()(X)) < 1e-4
        folded = surgeon.fold(model, X)
        assert folded.equivalence.passed
        assert oracle.relative_error(folded.model(X), wanted) < 1e-5
        assert not isinstance(folded.model[1], type(model[1]))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_standardised_one_becomes_switchable():
    model = around(PastedStandardised(4, 6, 3, padding=1))
    made = surgeon.convert(model, X, include=["1"])
    assert type(made.model[1]) is surgeon.SAConv2d
    assert made.equivalence.passed


def test_a_switchable_one_is_no_other_target():
    site = decisions(around(PastedSwitchable(4, 6)), X, target="aws")["1"]
    assert site.reason_code == "published-layer"
    assert "SAConv2d" in site.reason


def test_saved_and_restored(tmp_path):
    for make in (WITH_NORM["norm and function"], PASTED["the article's block"]):
        model = around(make())
        made = surgeon.convert(model, X)
        surgeon.save(made, tmp_path / type(model[1]).__name__)
        assert torch.equal(surgeon.restore(model, tmp_path / type(model[1]).__name__)(X), made.model(X))


def test_the_optimizer_goes_along():
    model = around(WITH_NORM["norm and module"]()).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    model(X).sum().backward()
    optimizer.step()
    momentum = optimizer.state[model[1].norm.weight]["momentum_buffer"]
    converted = surgeon.convert(model, X).model
    surgeon.carry_optimizer(optimizer, model, converted)
    assert optimizer.state[converted[1].bn.weight]["momentum_buffer"] is momentum


class WithHelper(WithNorm):
    def helper(self):
        return self.norm.weight.sum()


@pytest.mark.parametrize(
    "use",
    [lambda c, x: c(x) * c.norm.weight.mean(), lambda c, x: c.activation(c(x) - 0.1), lambda c, x: c(x) + c.helper()],
)
def test_a_class_of_which_more_is_used_is_refused_and_the_rest_converted(use):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.own = WithHelper(4, 6, 3, padding=1, norm=normed(), activation=nn.ReLU())
            self.conv = nn.Conv2d(6, 4, 3, padding=1)

        def forward(self, x):
            return self.conv(use(self.own, x))

    made = surgeon.convert(Net().eval(), X)
    assert made.equivalence.bit_equal
    assert [site.decision for site in made.plan.sites] == ["refuse", "convert"]
    assert "more than a call" in made.plan.sites[0].reason


def test_attributes_that_are_no_activation():
    class Configured(nn.Conv2d):
        def __init__(self, *args):
            super().__init__(*args)
            self.act = {"type": "ReLU"}

        def forward(self, x):
            return torch.relu(super().forward(x))

    assert recognised(Configured(4, 6, 3)) is None


class WiderPool(PastedSwitchable):
    """Equal to the published one until its switch has been trained."""

    def forward(self, x):
        state = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        switch = self.switch(F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, 1))
        return published.saconv(state, x) + (switch - 1) * 0.5


def test_what_is_only_equal_before_training_is_refused():
    layer = WiderPool(4, 6)
    with torch.no_grad():
        layer.switch.weight.zero_()
        layer.switch.bias.fill_(1.0)
        layer.weight_diff.zero_()
    assert recognised(layer) is None


def test_a_model_that_runs_in_inference_mode():
    class Inferring(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 6, 3)

        @torch.inference_mode()
        def forward(self, x):
            return self.conv(x / 2)

    assert surgeon.convert(Inferring().eval(), X).equivalence.bit_equal
