"""The operation on the module tree."""

import copy

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from tests import nets, oracle


def state_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_users_model_is_untouched_and_class_is_kept():
    model = nets.Held()
    kinds, state, flags = [type(m) for m in model.modules()], state_of(model), [m.training for m in model.modules()]
    conversion = surgeon.convert(model, nets.X)
    assert type(conversion.model) is nets.Held
    assert [type(m) for m in model.modules()] == kinds
    assert [m.training for m in model.modules()] == flags
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    ours = {t.data_ptr() for t in conversion.model.state_dict().values()}
    assert ours.isdisjoint(t.data_ptr() for t in model.state_dict().values())


def test_training_flags_are_carried_over():
    model = nets.chain()
    model[3].eval()
    converted = surgeon.convert(model, nets.X).model
    assert [m.training for m in converted] == [m.training for m in model]
    assert converted[0].switch.training


def test_root_that_is_a_convolution():
    conv = nn.Conv2d(3, 5, 3)
    conversion = surgeon.convert(conv, nets.X)
    assert isinstance(conversion.model, surgeon.SAConv2d)
    assert torch.equal(conversion.model(nets.X), conv(nets.X))


def test_shared_module_is_replaced_once_under_all_its_names():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Conv2d(3, 3, 3, padding=1)
            self.list = nn.ModuleList([self.a, self.a])

        def forward(self, x):
            return self.list[1](self.list[0](self.a(x)))

    converted = surgeon.convert(Shared(), nets.X).model
    assert converted.a is converted.list[0] is converted.list[1]
    assert isinstance(converted.a, surgeon.SAConv2d)
    assert set(map(id, surgeon.new_parameters(converted))) == {
        id(p) for name, p in converted.a.named_parameters() if name not in ("weight", "bias")
    }


def test_converting_twice_changes_nothing_the_second_time():
    once = surgeon.convert(nets.chain(), nets.X).model
    with pytest.warns(surgeon.NoEffectWarning):
        twice = surgeon.convert(once, nets.X)
    assert twice.converted == 0
    assert {site.reason_code for site in twice.plan.sites} == {"already-converted"}
    assert [site.path for site in twice.plan.sites] == ["0", "2"]
    assert torch.equal(twice.model.eval()(nets.X), copy.deepcopy(once).eval()(nets.X))


def test_apply_follows_a_plan_on_another_instance():
    conversion = surgeon.convert(nets.chain(), nets.X, include=["2"])
    other = nets.chain().eval()
    applied = surgeon.apply(other, conversion.plan)
    assert isinstance(applied[2], surgeon.SAConv2d)
    assert type(applied[0]) is nn.Conv2d
    assert type(other[2]) is nn.Conv2d
    assert torch.equal(applied(nets.X), other(nets.X))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3)), "'2', which Sequential does not have"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.ReLU()), "'2', but that is a ReLU"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, 2)), r"stride is \(2, 2\), planned \(1, 1\)"),
        (surgeon.apply(nets.chain(), surgeon.convert(nets.chain(), nets.X).plan), "is converted already"),
    ],
)
def test_plan_that_does_not_fit(model, message):
    plan = surgeon.convert(nets.chain(), nets.X).plan
    with pytest.raises(surgeon.ArtefactError, match=message):
        surgeon.apply(model, plan)


def test_layer_knows_its_path_for_messages():
    model = nets.OneConv(padding_mode="circular")
    converted = surgeon.convert(model, nets.X).model
    with pytest.raises(ValueError, match="'conv': a map of 2x16 is too small"):
        converted(nets.X[:, :, :2])


def test_model_that_cannot_be_copied_says_so():
    class Locked(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3)
            self.lock = __import__("threading").Lock()

        def forward(self, x):
            return self.conv(x)

    with pytest.raises(surgeon.ModelError, match="Locked cannot be copied"):
        surgeon.convert(Locked(), nets.X)


def test_gradient_history_in_attributes_is_no_obstacle():
    class Remembers(nets.OneConv):
        def forward(self, x):
            self.last = super().forward(x)
            return self.last

    model = Remembers()
    model(nets.X)
    assert surgeon.convert(model, nets.X).equivalence.bit_equal


def test_lazy_modules_are_asked_to_run_first():
    with pytest.raises(surgeon.ModelError, match="run it once"):
        surgeon.convert(nn.Sequential(nn.LazyConv2d(3, 3)), nets.X)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_are_bit_equal(dtype):
    model = nets.chain().to(dtype)
    found = surgeon.convert(model, nets.X.to(dtype)).equivalence
    assert found.bit_equal
    assert found.dtype == str(dtype).removeprefix("torch.")


def test_optimiser_group_of_new_parameters_trains():
    converted = surgeon.convert(nets.chain(), nets.X).model
    new = list(surgeon.new_parameters(converted))
    assert len(new) == 2 * 7
    optimiser = torch.optim.SGD(new, lr=0.1)
    oracle.shake(converted[0])
    before = [p.detach().clone() for p in new]
    converted(nets.X).square().mean().backward()
    optimiser.step()
    assert sum(not torch.equal(p, b) for p, b in zip(new, before)) >= 13


@pytest.mark.filterwarnings("ignore:Full backward hook")
@pytest.mark.parametrize("kind", ["forward", "forward_pre", "full_backward"])
def test_hooks_on_a_layer_stay_when_it_is_taken_back(kind):
    model = surgeon.convert(nets.chain(), nets.X).model.eval()
    calls = []
    getattr(model[0], f"register_{kind}_hook")(lambda *given: calls.append(len(given)))
    reverted = surgeon.revert(model)
    reverted(nets.X).sum().backward()
    assert len(calls) == 1
    assert type(reverted[0]) is torch.nn.Conv2d


def test_what_a_hook_makes_of_the_output_stays():
    model = surgeon.convert(nets.chain(), nets.X).model.eval()
    model[0].register_forward_hook(lambda module, args, output: output * 2)
    assert torch.equal(surgeon.revert(model)(nets.X), model(nets.X))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda layer: layer.switch.register_forward_hook(lambda *given: None), "forward hooks"),
        (lambda layer: layer.register_state_dict_post_hook(lambda *given: None), "state dict hooks"),
        (lambda layer: setattr(layer, "_conv_forward", layer._conv_forward), "_conv_forward replaced"),
    ],
)
def test_what_would_be_lost_keeps_a_layer_from_being_taken_back(change, why):
    model = surgeon.convert(nets.chain(), nets.X).model
    change(model[0])
    with pytest.raises(
        surgeon.ModelError, match=f"'0': it has {why}, which a plain convolution in its place would lose"
    ):
        surgeon.revert(model)
