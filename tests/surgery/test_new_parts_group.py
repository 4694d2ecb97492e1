"""A group for new parts in an optimiser that is there already."""

import pytest
import torch

import saconv_surgeon as surgeon
from tests import nets

SCHEDULES = {
    "step": lambda o: torch.optim.lr_scheduler.StepLR(o, 2, 0.5),
    "lambda": lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda epoch: 0.9**epoch),
    "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 10),
    "restarts": lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "one cycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=20),
    "cyclic": lambda o: torch.optim.lr_scheduler.CyclicLR(o, 0.01, 0.1, step_size_up=3),
    "plateau": lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o, patience=0),
    "sequential": lambda o: torch.optim.lr_scheduler.SequentialLR(
        o, [torch.optim.lr_scheduler.LinearLR(o, 0.1), torch.optim.lr_scheduler.ExponentialLR(o, 0.9)], milestones=[2]
    ),
    "chained": lambda o: torch.optim.lr_scheduler.ChainedScheduler(
        [torch.optim.lr_scheduler.ConstantLR(o, 0.5), torch.optim.lr_scheduler.ExponentialLR(o, 0.9)]
    ),
}


def step(model, optimizer):
    optimizer.zero_grad()
    model(nets.X).square().mean().backward()
    optimizer.step()


def turned(scheduler):
    scheduler.step(1.0) if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau) else scheduler.step()


@pytest.mark.parametrize("kind", SCHEDULES)
def test_schedulers_keep_the_ratio_and_go_on_as_without(kind):
    plain = nets.chain().train()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.02, momentum=0.9, weight_decay=0.1)
    scheduler = SCHEDULES[kind](optimizer)
    other = torch.optim.SGD(nets.chain().parameters(), lr=0.02, momentum=0.9)
    wanted = SCHEDULES[kind](other)
    for _ in range(2):
        step(plain, optimizer)
        other.step()
        turned(scheduler)
        turned(wanted)
    model = surgeon.convert(plain, nets.X).model.train()
    surgeon.carry_optimizer(optimizer, plain, model, new_lr=3.0, schedulers=[scheduler])
    assert [group.get("name") for group in optimizer.param_groups] == [None, "new parts"]
    assert optimizer.param_groups[1]["weight_decay"] == 0
    assert optimizer.param_groups[0]["weight_decay"] == 0.1
    for _ in range(4):
        step(model, optimizer)
        other.step()
        turned(scheduler)
        turned(wanted)
        old, new = (group["lr"] for group in optimizer.param_groups)
        assert old == pytest.approx(other.param_groups[0]["lr"])
        assert new == pytest.approx(3 * old)
    optimizer.load_state_dict(optimizer.state_dict())
    scheduler.load_state_dict(scheduler.state_dict())


def test_the_members_are_the_new_parts_and_state_stays():
    plain = nets.chain().train()
    optimizer = torch.optim.AdamW(plain.named_parameters(), lr=torch.tensor(0.01))
    step(plain, optimizer)
    before = {name: optimizer.state[p]["exp_avg"].clone() for name, p in plain.named_parameters()}
    model = surgeon.convert(plain, nets.X).model
    surgeon.carry_optimizer(optimizer, plain, model, new_lr=2.0, new_weight_decay=0.5)
    names = {id(p): name for name, p in model.named_parameters()}
    new = optimizer.param_groups[1]
    assert new["param_names"] == [names[id(p)] for p in new["params"]]
    assert {id(p) for p in new["params"]} == {id(p) for p in surgeon.new_parameters(model)}
    assert (new["lr"].item(), new["weight_decay"]) == (pytest.approx(0.02), 0.5)
    assert new["lr"] is not optimizer.param_groups[0]["lr"]
    for name, p in model.named_parameters():
        if name in before:
            assert torch.equal(optimizer.state[p]["exp_avg"], before[name])


def test_a_group_that_is_there_is_used():
    plain = nets.chain()
    groups = [
        *surgeon.parameter_groups(plain, lr=0.1),
        {"params": [], "param_names": [], "name": "new parts", "lr": 7.0},
    ]
    optimizer = torch.optim.SGD(groups)
    model = surgeon.convert(plain, nets.X).model
    surgeon.carry_optimizer(optimizer, plain, model, new_lr=3.0)
    assert [g["lr"] for g in optimizer.param_groups if g["name"] == "new parts"] == [7.0]


class PerGroup(torch.optim.lr_scheduler.LRScheduler):
    """Keeps something of each group that nobody knows."""

    def __init__(self, optimizer):
        self.speeds = [1.0 for _ in optimizer.param_groups]
        super().__init__(optimizer)

    def get_lr(self):
        return [group["lr"] * speed for group, speed in zip(self.optimizer.param_groups, self.speeds, strict=True)]


def test_a_scheduler_that_cannot_go_on_changes_nothing():
    plain = nets.chain()
    optimizer = torch.optim.SGD([{"params": plain[0].parameters()}, {"params": plain[2].parameters()}], lr=0.1)
    scheduler = PerGroup(optimizer)
    model = surgeon.convert(plain, nets.X).model
    before = [list(group["params"]) for group in optimizer.param_groups]
    with pytest.raises(surgeon.UsageError, match="PerGroup keeps 'speeds' for each group of the optimiser"):
        surgeon.carry_optimizer(optimizer, plain, model, new_lr=3.0, schedulers=[scheduler])
    with pytest.raises(surgeon.UsageError, match="new_lr"):
        surgeon.carry_optimizer(optimizer, plain, model, new_lr=-1.0)
    after = [list(group["params"]) for group in optimizer.param_groups]
    assert all(a is b for old, new in zip(before, after, strict=True) for a, b in zip(old, new, strict=True))
