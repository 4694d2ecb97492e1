"""``absorb``: norms and activations become parts of the new layer, or the table says why not."""

import copy

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon import load_published
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.surgery.equivalence import layer_differences, prove
from sample_models import tiny_resnet
from tests import nets, oracle, published

X = nets.X


def block(act=True, c=4):
    return nn.Sequential(nn.Conv2d(3, c, 3, padding=1), nn.BatchNorm2d(c), *([nn.SiLU()] if act else []))


def aged(model, seed=0):
    """With norms as after training."""
    g = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            with torch.no_grad():
                for tensor in (module.weight, module.bias, module.running_mean):
                    tensor.add_(torch.randn(tensor.shape, generator=g) * 0.3)
                module.running_var.add_(torch.rand(module.running_var.shape, generator=g))
    return model


def converted(model, x=X, **rest):
    return surgeon.convert(model, x, absorb=True, **rest)


def test_norm_and_activation_move_in_and_nothing_changes():
    model = aged(block())
    conversion = converted(model)
    layer = conversion.model[0]
    assert conversion.equivalence.bit_equal
    assert isinstance(layer.bn, nn.BatchNorm2d)
    assert isinstance(layer.act, nn.SiLU)
    assert [type(part) for part in conversion.model[1:]] == [nn.Identity, nn.Identity]
    assert type(model[1]) is nn.BatchNorm2d  # the original keeps its own
    (site,) = conversion.plan.sites
    assert site.absorbs == {"bn": "1", "act": "2"}
    assert site.not_absorbed is None


def test_the_layer_has_the_names_of_the_published_block_and_loads_its_state():
    model = converted(aged(block(c=6))).model
    state = published.random_state(c_in=3, bn=True)
    assert set(model[0].state_dict()) == set(state)
    load_published(model[0], state, "seed")
    assert oracle.relative_error(model.eval()(X), published.block(state, X).double()) < 1e-6


class Twice(nn.Module):
    """An activation that is called in two places."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()

    def forward(self, x):
        return self.relu(self.relu(self.bn(self.conv(x))) + x)


class SharedNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.norm(self.b(self.norm(self.a(x))))


class OtherReader(nn.Module):
    """Somebody else reads the convolution's output too."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x):
        y = self.conv(x)
        return self.bn(y) + y


class FunctionalNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x):
        return nn.functional.batch_norm(self.conv(x), self.bn.running_mean, self.bn.running_var)


class FunctionalActivation(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x):
        return torch.relu(self.bn(self.conv(x)))


class Untraceable(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x):
        if x.mean() > 1e6:
            return x
        return self.bn(self.conv(x))


@pytest.mark.parametrize(
    ("build", "absorbs", "why_not"),
    [
        (Twice, {"bn": "bn"}, "relu is called 2 times, the convolution 1"),
        (SharedNorm, {}, "norm is called 2 times, the convolution 1"),
        (OtherReader, {}, "no norm that it alone feeds"),
        (FunctionalNorm, {}, "its norm is a function, batch_norm"),
        (FunctionalActivation, {"bn": "bn"}, "its activation is a function, relu"),
        (Untraceable, {}, "no graph shows its norm"),
        (lambda: nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU()), {}, "no norm that it alone feeds"),
        (lambda: block(act=False), {"bn": "1"}, None),
    ],
)
def test_what_cannot_move_stays_and_is_named(build, absorbs, why_not):
    conversion = converted(aged(build()))
    site = conversion.plan.sites[0]
    assert site.absorbs == absorbs
    assert site.not_absorbed == why_not
    assert conversion.equivalence.bit_equal


class Alias(nn.Module):
    """A norm under two names."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleDict({"conv": nn.Conv2d(3, 4, 3), "bn": nn.BatchNorm2d(4)})
        self.alias = self.parts["bn"]

    def forward(self, x):
        return self.alias(self.parts["conv"](x))


def test_a_norm_under_two_names_stays():
    """The other name may be called where this run did not come: by a teacher, say."""
    conversion = converted(aged(Alias()))
    (site,) = conversion.plan.sites
    assert site.absorbs == {}
    assert site.not_absorbed in ("parts.bn has other names: alias", "alias has other names: parts.bn")
    assert conversion.equivalence.bit_equal


def test_a_block_under_two_names_moves_once():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = block()
            self.again = self.first

        def forward(self, x):
            return self.again(x)

    conversion = converted(aged(Net()))
    assert conversion.plan.sites[0].absorbs == {"bn": "first.1", "act": "first.2"}
    assert conversion.equivalence.bit_equal
    assert isinstance(conversion.model.again[1], nn.Identity)


class Auxiliary(nn.Module):
    """In training, the convolution's output has a second reader."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.aux = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1)

    def forward(self, x):
        y = self.conv(x)
        return (self.bn(y), self.aux(y)) if self.training else self.bn(y)


def test_what_is_read_in_training_stays():
    conversion = converted(aged(Auxiliary()))
    assert conversion.plan.sites[0].absorbs == {}
    assert conversion.plan.sites[0].not_absorbed == "something else follows it in training"
    model = aged(Auxiliary()).train()
    found = conversion.model.train()(X)
    model.load_state_dict({k: v for k, v in conversion.model.state_dict().items() if k in model.state_dict()})
    assert torch.equal(found[1], model(X)[1])


def test_absorbed_layers_in_exported_programs(tmp_path):
    model = aged(nn.Sequential(block(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)))
    conversion = converted(model)
    surgeon.save(conversion, tmp_path / "out.pt2", example_inputs=X)
    program = torch.export.load(tmp_path / "out.pt2")
    assert oracle.relative_error(program.module()(X), model.eval()(X).detach().double()) < 1e-6


def test_a_state_with_a_norm_does_not_fit_a_layer_without():
    """torch looks at the names of modules alone, and one that is None has its name."""
    state = surgeon.SAConvBlock(4, 4, 3).state_dict()
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\) in state_dict: "bn.weight"'):
        surgeon.SAConv2d(4, 4, 3).load_state_dict(state)


def test_a_block_of_its_own_cannot_be_reverted():
    with pytest.raises(surgeon.ModelError, match="has a norm or an activation of its own"):
        surgeon.revert(nn.Sequential(surgeon.SAConvBlock(3, 4, 3)))


@pytest.mark.slow
def test_a_sample_saves_restores_and_reverts(tmp_path):
    """The others: ``tests/samples/test_targets_on_samples.py``."""
    model, inputs = tiny_resnet.build(), Inputs.of(tiny_resnet.example_inputs())
    conversion = converted(model, inputs)
    assert conversion.equivalence.bit_equal
    absorbed = [site for site in conversion.plan.sites if site.absorbs]
    assert len(absorbed) > 5
    surgeon.save(conversion, tmp_path / "out")
    restored = surgeon.restore(tiny_resnet.build(), tmp_path / "out")
    assert surgeon.diff(conversion.model, restored, inputs, timing=None).outputs.bit_equal
    layer = restored.get_submodule(absorbed[0].path)
    assert layer.absorbed == absorbed[0].absorbs
    reverted = surgeon.revert(restored)
    found = surgeon.diff(model, reverted, inputs, timing=None)
    assert not found.structure
    assert not (found.weights.changed or found.weights.only_in_a or found.weights.only_in_b)
    assert found.outputs.bit_equal


def test_proof_in_training_mode():
    conversion = converted(aged(block()), mode="train")
    assert conversion.equivalence.passed
    assert conversion.equivalence.mode == "train"


def test_the_proof_sees_a_norm_that_went_wrong():
    model = aged(block())
    conversion, inputs = converted(model), Inputs.of(X)
    assert layer_differences(model, conversion.model, inputs, ("0",), 0)["0"].bit_equal
    conversion.model[0].bn.weight.data[0] += 0.1
    assert not prove(model, conversion.model, inputs, paths=("0",)).passed
    assert layer_differences(model, conversion.model, inputs, ("0",), 0)["0"].max_rel > 1e-3


class Detections(nn.Module):
    """A model whose output is empty: its parts are compared instead."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.act = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.SiLU()

    def forward(self, x):
        return self.act(self.bn(self.conv(x))).flatten()[:0]


def test_empty_outputs_are_proved_by_parts_that_kept_their_place():
    conversion = converted(aged(Detections()))
    assert conversion.plan.sites[0].absorbs
    assert conversion.equivalence.passed, conversion.equivalence.problems


def test_plans_carry_what_is_absorbed_and_may_be_edited(tmp_path):
    model = aged(block())
    plan = converted(model).plan
    again = surgeon.convert(model, X, plan=plan)
    assert again.plan.sites[0].absorbs == {"bn": "1", "act": "2"}
    from dataclasses import replace

    def edited(**absorbs):
        return replace(plan, sites=(replace(plan.sites[0], absorbs=absorbs),))

    only_norm = surgeon.convert(model, X, plan=edited(bn="1"))
    assert isinstance(only_norm.model[2], nn.SiLU)
    assert only_norm.equivalence.bit_equal
    with pytest.raises(surgeon.UsageError, match="absorb '2' as 'bn', but that cannot be done"):
        surgeon.convert(model, X, plan=edited(bn="2"))
    for hostile in ({"forward": "1"}, {"weight": "1"}):
        with pytest.raises(surgeon.ArtefactError, match="which saconv cannot"):
            surgeon.apply(model, edited(**hostile))
    for itself in ("", "0"):
        with pytest.raises(surgeon.ArtefactError, match="which it is part of"):
            surgeon.apply(model, edited(bn=itself))
    with pytest.raises(surgeon.ArtefactError, match="absorb 'nowhere', which Sequential does not have"):
        surgeon.apply(model, edited(bn="nowhere"))


@pytest.mark.parametrize("target", ["aws", "spconv"])
def test_targets_without_a_block_say_so(target):
    with pytest.raises(surgeon.UsageError, match=f"the target '{target}' has no norm and activation of its own"):
        converted(block(), target=target)


def test_optimisers_keep_what_they_know_of_a_moved_norm():
    model = aged(block())
    optimizer = torch.optim.AdamW(
        [{"params": [model[0].weight], "weight_decay": 0.1}, {"params": [model[0].bias, *model[1].parameters()]}]
    )
    model(X).square().mean().backward()
    optimizer.step()
    moments = {id(p): optimizer.state[p]["exp_avg"].clone() for p in model.parameters()}
    operated = converted(model).model
    before = copy.deepcopy(model)
    surgeon.carry_optimizer(optimizer, model, operated)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in operated.parameters()}
    for old, new in zip(model[1].parameters(), operated[0].bn.parameters()):
        assert torch.equal(optimizer.state[new]["exp_avg"], moments[id(old)])
        assert any(new is p for p in optimizer.param_groups[1]["params"])
    assert any(operated[0].switch.weight is p for p in optimizer.param_groups[0]["params"])
    assert torch.equal(before[1].weight, model[1].weight)
    reverted = surgeon.revert(converted(model).model)
    surgeon.carry_optimizer(optimizer, operated, reverted)
    assert torch.equal(optimizer.state[reverted[1].weight]["exp_avg"], moments[id(model[1].weight)])


def test_an_optimiser_made_anew_has_the_same_order():
    model = aged(nn.Sequential(block(), nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3)))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    operated = converted(model).model
    surgeon.carry_optimizer(optimizer, model, operated)
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == [id(p) for p in operated.parameters()]


class Conv(nn.Module):
    """YOLO's block: one activation object for all of them."""

    shared = nn.SiLU()

    def __init__(self, c1, c2):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(c1, c2, 3, padding=1), nn.BatchNorm2d(c2)
        self.act = Conv.shared

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


def test_an_activation_that_all_blocks_share_is_copied_into_each(tmp_path):
    build = lambda: aged(nn.Sequential(Conv(3, 4), Conv(4, 4), nn.Sequential(nn.Conv2d(4, 4, 3), Conv.shared)))
    model = build()
    conversion = converted(model)
    assert [site.absorbs for site in conversion.plan.sites] == [
        {"bn": "0.bn", "act": "0.act"},
        {"bn": "1.bn", "act": "1.act"},
        {},
    ]
    assert conversion.equivalence.bit_equal
    result = conversion.model
    assert result[0].conv.act is not result[1].conv.act
    assert isinstance(result[0].act, nn.Identity)
    assert isinstance(result[2][1], nn.SiLU)  # what others use stays
    surgeon.save(conversion, tmp_path / "out")
    restored = surgeon.restore(build(), tmp_path / "out")
    assert torch.equal(restored.eval()(X), model.eval()(X))
    reverted = surgeon.revert(restored)
    assert torch.equal(reverted.eval()(X), model(X))
    assert isinstance(reverted[0].act, nn.SiLU)
