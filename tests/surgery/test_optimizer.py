"""Converted models in a user's own training: resumed, averaged, compiled, taken back."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import saconv_surgeon as surgeon


def make():
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )


X = torch.randn(4, 3, 9, 9, generator=torch.Generator().manual_seed(0))


def convert(model, **options):
    return surgeon.convert(model.eval(), X, **options)


@pytest.fixture
def saved(tmp_path):
    surgeon.save(convert(make()), tmp_path / "out")
    return tmp_path / "out"


class Loop:
    """A training loop as users write them: mixed precision, an average of the weights, a schedule, checkpoints."""

    def __init__(self, model, *, backend=None, optimizer=torch.optim.AdamW):
        self.model = model.train()
        self.step = torch.compile(self.model, backend=backend) if backend else self.model
        new = {id(p) for p in surgeon.new_parameters(model)}
        groups = [
            {"params": [p for p in model.parameters() if id(p) not in new]},
            {"params": [p for p in model.parameters() if id(p) in new], "lr": 5e-3},
        ]
        self.optimizer = optimizer(groups, lr=1e-2)
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, 1, gamma=0.5)
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
        self.losses = []

    def epoch(self, number):
        generator = torch.Generator().manual_seed(number)
        for _ in range(3):
            x, y = torch.randn(8, 3, 9, 9, generator=generator), torch.randint(5, (8,), generator=generator)
            with torch.autocast("cpu", torch.bfloat16):
                loss = nn.functional.cross_entropy(self.step(x), y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.average.update_parameters(self.model)
            self.losses.append(float(loss.detach()))
        self.schedule.step()

    def checkpoint(self, path):
        parts = ("model", "optimizer", "schedule", "average")
        torch.save({part: getattr(self, part).state_dict() for part in parts}, path)

    def resume(self, path):
        for part, state in torch.load(path, weights_only=True).items():
            getattr(self, part).load_state_dict(state)


@pytest.mark.parametrize("backend", [None, "eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore")
def test_a_resumed_training_is_the_uninterrupted_one(saved, tmp_path, backend):
    whole = Loop(surgeon.restore(make(), saved), backend=backend)
    whole.epoch(0)
    whole.epoch(1)
    first = Loop(surgeon.restore(make(), saved), backend=backend)
    first.epoch(0)
    first.checkpoint(tmp_path / "last.pt")
    torch.compiler.reset()
    second = Loop(surgeon.restore(make(), saved), backend=backend)
    second.resume(tmp_path / "last.pt")
    second.epoch(1)
    assert first.losses + second.losses == whole.losses
    for a, b in ((whole.model, second.model), (whole.average, second.average)):
        for (name, left), right in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
            assert torch.equal(left, right), name
    moved = [p for p in surgeon.new_parameters(second.model) if bool((p.detach() - p.detach().round()).abs().sum())]
    assert len(moved) > 4


def test_a_trained_conversion_is_restored_from_its_state_dict(saved):
    loop = Loop(surgeon.restore(make(), saved))
    loop.epoch(0)
    fresh = surgeon.restore(make(), saved)
    fresh.load_state_dict(loop.model.state_dict())
    assert torch.equal(fresh.eval()(X), loop.model.eval()(X))


# ------------------------------------------------------------------ an optimiser that comes along


def trained(model, optimizer, steps=3):
    model.train()
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        loss = model(torch.randn(4, 3, 9, 9, generator=generator)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_training_goes_on_as_if_nothing_had_happened(kind):
    """With the new parameters held still, a converted model trains exactly as the original does."""
    make_optimizer = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-2),
        "adam": lambda p: torch.optim.AdamW(p, lr=0.02),
    }[kind]
    plain = make()
    optimizer = make_optimizer(plain.parameters())
    trained(plain, optimizer)
    aws_free = {"3.weight", "0.weight"}  # standardised kernels have other gradients; everything else must agree
    operated = convert(plain, include=["3"]).model
    twin, twin_optimizer = copy.deepcopy((plain, optimizer))
    surgeon.carry_optimizer(twin_optimizer, twin, operated)
    for parameter in surgeon.new_parameters(operated):
        parameter.requires_grad_(False)
    trained(plain, optimizer, 1)
    trained(operated, twin_optimizer, 1)
    after = dict(operated.named_parameters())
    for name, parameter in plain.named_parameters():
        if name not in aws_free:
            torch.testing.assert_close(after[name], parameter, rtol=1e-5, atol=1e-6)


def test_the_order_is_that_of_an_optimiser_made_anew():
    model = make()
    optimizer = torch.optim.Adam(model.parameters())
    trained(model, optimizer)
    moments = {name: optimizer.state[p]["exp_avg"].clone() for name, p in model.named_parameters()}
    operated = convert(model).model
    surgeon.carry_optimizer(optimizer, model, operated)
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert held == [id(p) for p in operated.parameters()]
    for name, parameter in operated.named_parameters():
        assert (parameter in optimizer.state) == (name in moments)
        if name in moments:
            assert torch.equal(optimizer.state[parameter]["exp_avg"], moments[name])
    trained(operated, optimizer)
    anew = torch.optim.Adam(operated.parameters())
    anew.load_state_dict(optimizer.state_dict())
    assert {len(anew.state[p]) for p in operated.parameters()} == {3}


def test_groups_settings_and_schedules_stay():
    model = make()
    decayed = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.SGD([{"params": others}, {"params": decayed, "weight_decay": 0.1}], lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    operated = convert(model).model
    surgeon.carry_optimizer(optimizer, model, operated)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0, 0.1]
    assert [len(group["params"]) for group in optimizer.param_groups] == [len(others), len(decayed) + 2 * 7]
    trained(operated, optimizer)
    schedule.step()


def test_and_back_again():
    model = make()
    optimizer = torch.optim.Adam(model.parameters())
    trained(model, optimizer)
    before = copy.deepcopy(optimizer.state_dict())
    operated = convert(model).model
    surgeon.carry_optimizer(optimizer, model, operated)
    reverted = surgeon.revert(operated)
    surgeon.carry_optimizer(optimizer, operated, reverted)
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    for key, state in before["state"].items():
        assert all(torch.equal(value, after["state"][key][name]) for name, value in state.items())


def test_someone_elses_optimiser_is_refused_unchanged():
    model, other = make(), make()
    optimizer = torch.optim.SGD([*model.parameters(), *other.parameters()], lr=1)
    held = list(optimizer.param_groups[0]["params"])
    with pytest.raises(surgeon.UsageError, match=r"9 of the optimiser's 18 parameters do not belong"):
        surgeon.carry_optimizer(optimizer, model, convert(model).model)
    assert all(a is b for a, b in zip(held, optimizer.param_groups[0]["params"], strict=True))


def test_names_in_the_optimiser_follow():
    model = make()
    operated = convert(model).model
    optimizer = torch.optim.AdamW(model.named_parameters())
    surgeon.carry_optimizer(optimizer, model, operated)
    wanted = torch.optim.AdamW(operated.named_parameters()).param_groups[0]["param_names"]
    assert optimizer.param_groups[0]["param_names"] == wanted


def test_an_optimiser_that_keeps_its_parameters_is_refused():
    model = make()
    optimizer = torch.optim.LBFGS(model.parameters())
    with pytest.raises(surgeon.UsageError, match="LBFGS keeps its parameters"):
        surgeon.carry_optimizer(optimizer, model, convert(model).model)
    assert optimizer.param_groups[0]["params"] == optimizer._params


def test_a_model_without_weights_is_not_restored(saved):
    with torch.device("meta"):
        model = make()
    with pytest.raises(surgeon.errors.ArtefactError, match="is on the meta device"):
        surgeon.restore(model, saved)


# ------------------------------------------------------------------ back to plain convolutions


def test_an_untrained_conversion_goes_back_to_the_bit():
    model = make().eval()
    model[0].weight.requires_grad_(False)
    model[3].note = "mine"
    converted = convert(model).model
    state = copy.deepcopy(converted.state_dict())
    reverted = surgeon.revert(converted)
    assert [type(m) for m in reverted.modules()] == [type(m) for m in model.modules()]
    assert list(reverted.state_dict()) == list(model.state_dict())
    for name, value in model.state_dict().items():
        assert torch.equal(reverted.state_dict()[name], value)
    assert [p.requires_grad for p in reverted.parameters()] == [p.requires_grad for p in model.parameters()]
    assert vars(reverted[3])["note"] == "mine"
    assert set(vars(reverted[3])) == set(vars(model[3]))
    assert torch.equal(reverted(X), model(X))
    assert all(torch.equal(value, converted.state_dict()[name]) for name, value in state.items())
    shared = {p.data_ptr() for p in reverted.parameters()} & {p.data_ptr() for p in converted.parameters()}
    assert not shared


def test_what_was_trained_beside_the_layers_is_kept():
    converted = convert(make()).model
    with torch.no_grad():
        converted[8].weight.add_(1.0)
    assert torch.equal(surgeon.revert(converted)[8].weight, converted[8].weight)


@pytest.mark.parametrize(
    "name",
    ["weight", "weight_gamma", "weight_beta", "weight_diff", "switch.bias", "switch.weight", "post_context.bias"],
)
def test_a_layer_that_moved_cannot_go_back(name):
    converted = convert(make()).model
    with torch.no_grad():
        converted.get_submodule("3").state_dict()[name].view(-1)[0].add_(0.5)
    with pytest.raises(surgeon.ModelError, match=r"1 of 2 converted layers have been trained .*'3'"):
        surgeon.revert(converted)


def test_a_layer_by_itself_and_a_shared_one():
    conv = nn.Conv2d(3, 3, 3, padding="same", padding_mode="reflect").eval()
    assert type(surgeon.revert(convert(conv).model)) is nn.Conv2d
    twice = nn.ModuleList([conv, conv])
    twice.forward = lambda x: twice[1](twice[0](x))
    model = nn.Sequential(conv, nn.ReLU(), conv).eval()
    reverted = surgeon.revert(convert(model).model)
    assert reverted[0] is reverted[2]
    assert torch.equal(reverted(X), model(X))


# ------------------------------------------------------------------ wrappers


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        AveragedModel,
        lambda m: torch.compile(m, backend="eager"),
        lambda m: nn.DataParallel(torch.compile(m)),
    ],
)
def test_wrappers_come_off(wrap, saved):
    model = make().eval()
    wrapped = wrap(model)
    conversion = surgeon.convert(wrapped, X)
    assert type(conversion.model) is nn.Sequential
    assert conversion.equivalence.bit_equal
    assert [s.path for s in conversion.plan.sites] == ["0", "3"]
    assert torch.equal(surgeon.apply(wrapped, conversion.plan)(X), conversion.model(X))
    assert torch.equal(surgeon.restore(wrapped, saved).eval()(X), model(X))
    assert surgeon.profile(wrapped, X, timing=None).macs == surgeon.profile(model, X, timing=None).macs


@pytest.mark.filterwarnings("ignore")
def test_compiled_parts_inside_stay_compiled_and_are_seen():
    model = make().eval()
    model[3] = torch.compile(model[3], backend="eager")
    model.compile(backend="eager")
    conversion = surgeon.convert(model, X)
    assert [s.path for s in conversion.plan.sites if s.converts] == ["0", "3._orig_mod"]
    assert conversion.equivalence.bit_equal
    assert torch.equal(conversion.model(X), make().eval()(X))


DISTRIBUTED = """
import os
import torch
from torch import nn
import saconv_surgeon as surgeon
from tests.surgery.test_optimizer import X, make

torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
model = make().eval()
conversion = surgeon.convert(nn.parallel.DistributedDataParallel(model), X)
assert [s.path for s in conversion.plan.sites] == ["0", "3"]
assert type(conversion.model) is nn.Sequential
wrapped = nn.parallel.DistributedDataParallel(conversion.model)
wrapped.train()(X).square().mean().backward()
assert all(p.grad is not None for p in surgeon.new_parameters(wrapped))
surgeon.carry_optimizer(torch.optim.SGD(model.parameters(), lr=1.0), model, wrapped)
print("done", flush=True)
os._exit(0)  # taking a process group down can deadlock with its own threads
"""


@pytest.mark.slow
def test_distributed_training_is_unwrapped():
    """In a process of its own, which a process group outlives."""
    run = subprocess.run([sys.executable, "-c", DISTRIBUTED], capture_output=True, text=True, timeout=120, check=False)
    assert run.stdout == "done\n", run.stderr


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_a_target_without_the_kernel_starts_its_parameters_afresh(kind):
    """Of SPConv's layers nothing is known; their parameters join the group that their kernel was in, in the model's order."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    groups = [
        {"params": [model[2].weight], "lr": 0.5},
        {"params": [p for p in model.parameters() if p is not model[2].weight]},
    ]
    make_optimizer = torch.optim.SGD if kind == "sgd" else torch.optim.Adam
    optimizer = make_optimizer(groups, lr=0.1)
    trained(model, optimizer)
    operated = surgeon.convert(model, torch.randn(2, 3, 9, 9), target="spconv").model
    surgeon.carry_optimizer(optimizer, model, operated)
    (first, second) = ([id(p) for p in group["params"]] for group in optimizer.param_groups)
    new = {id(p) for p in surgeon.new_parameters(operated)}
    assert new == {id(p) for p in operated[2].parameters()}
    assert {*first, *second} == {id(p) for p in operated.parameters()}
    assert set(first) == new
    assert not any(p in optimizer.state for p in operated[2].parameters())
    trained(operated, optimizer)
    whole = make_optimizer(model.parameters(), lr=0.1)
    surgeon.carry_optimizer(whole, model, operated)
    assert [id(p) for p in whole.param_groups[0]["params"]] == [id(p) for p in operated.parameters()]


def test_kernel_and_bias_in_different_groups_and_neither_left():
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3))
    optimizer = torch.optim.SGD(
        [{"params": [model[1].bias, model[0].weight]}, {"params": [model[1].weight, model[0].bias]}], lr=0.1
    )
    operated = surgeon.convert(model, torch.randn(2, 4, 9, 9), target="spconv", include=["1"]).model
    surgeon.carry_optimizer(optimizer, model, operated)
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in operated.parameters())


@pytest.mark.parametrize("parts", ["contexts", "branches"])
def test_layers_without_some_parts_keep_the_optimisers_state(parts):
    model = make()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model(X).sum().backward()
    optimiser.step()
    kept = {name: optimiser.state[p]["exp_avg"].clone() for name, p in model.named_parameters()}
    converted = convert(model, options={"parts": parts}).model.train()
    surgeon.carry_optimizer(optimiser, model, converted)
    held = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    assert list(map(id, held)) == list(map(id, converted.parameters()))
    named = dict(converted.named_parameters())
    assert all(torch.equal(optimiser.state[named[name]]["exp_avg"], value) for name, value in kept.items())
    optimiser.zero_grad()
    converted(X).sum().backward()
    optimiser.step()
    assert all(p.grad is not None for p in converted.parameters())
