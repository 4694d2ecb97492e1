"""Optimiser groups: who is in which, at which rate, and that optimisers, schedules and checkpoints keep them."""

import copy
import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.optim.swa_utils import AveragedModel

import saconv_surgeon as surgeon
from tests.operators import operator  # noqa: F401 - a fixture

X = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Convolutions with and without bias, a norm, PReLU, attention, a linear layer, parameters of its own, one twice."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.PReLU(8)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.again = self.conv
        self.scale = nn.Parameter(torch.full((8, 1, 1), 0.5))
        self.table = nn.Parameter(torch.zeros(1, 144, 8))
        self.temperature = nn.Parameter(torch.tensor(1.0))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, add_bias_kv=True)
        self.after = nn.LayerNorm([144, 8])
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        x = self.act(self.norm(self.stem(x)))
        x = self.again(self.conv(x)) * self.scale
        x = x.flatten(2).transpose(1, 2) + self.table
        x = self.after(self.attention(x, x, x, need_weights=False)[0]) * self.temperature
        return self.head(x.mean(1))


KERNELS = [
    *("table", "stem.weight", "conv.weight", "attention.in_proj_weight", "attention.out_proj.weight", "head.weight"),
]
NORMS = [
    *("scale", "temperature", "norm.weight", "norm.bias", "act.weight", "conv.bias"),
    *("attention.in_proj_bias", "attention.bias_k", "attention.bias_v", "attention.out_proj.bias"),
    *("after.weight", "after.bias", "head.bias"),
]
SACONV = [
    *("weight_diff", "switch.weight", "switch.bias", "pre_context.weight", "pre_context.bias"),
    *("post_context.weight", "post_context.bias"),
]


def converted(model=None, **options):
    return surgeon.convert((model or Net()).eval(), X, **options).model


def chain():
    torch.manual_seed(2)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, bias=False)),
        *(nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)),
    )


def by_name(groups):
    return {group["name"]: group for group in groups}


def names(groups):
    return {group["name"]: sorted(group["param_names"]) for group in groups}


def held(groups):
    return [id(parameter) for group in groups for parameter in group["params"]]


# ------------------------------------------------------------------ who is in which group


def test_an_unconverted_model_has_two_groups():
    model = Net()
    groups = surgeon.parameter_groups(model, lr=0.1, weight_decay=0.01)
    assert names(groups) == {"kernels": sorted(KERNELS), "norms": sorted(NORMS)}
    assert [(g["lr"], g["weight_decay"]) for g in groups] == [(0.1, 0.01), (0.1, 0.0)]
    own = dict(model.named_parameters())
    for group in groups:
        assert [id(p) for p in group["params"]] == [id(own[name]) for name in group["param_names"]]


def test_new_parts_have_a_group_at_three_times_the_rate():
    model = converted()
    groups = by_name(surgeon.parameter_groups(model, lr=0.1, weight_decay=0.01))
    assert list(groups) == ["kernels", "norms", "new parts"]
    assert sorted(groups["kernels"]["param_names"]) == sorted(KERNELS)
    assert sorted(groups["norms"]["param_names"]) == sorted(NORMS)
    assert sorted(groups["new parts"]["param_names"]) == sorted(f"{a}.{b}" for a in ("stem", "conv") for b in SACONV)
    assert groups["new parts"]["lr"] == pytest.approx(0.3)
    assert groups["new parts"]["weight_decay"] == 0
    assert sorted(held(groups.values())) == sorted({id(p) for p in model.parameters()})


def test_rates_and_decays_that_are_asked_for():
    groups = by_name(surgeon.parameter_groups(converted(), lr=2, new_lr=Fraction(1, 4), new_weight_decay=1e-3))
    assert [group["lr"] for group in groups.values()] == [2.0, 2.0, 0.5]
    assert "weight_decay" not in groups["kernels"]  # the optimiser's own
    assert (groups["norms"]["weight_decay"], groups["new parts"]["weight_decay"]) == (0, 1e-3)
    optimizer = torch.optim.AdamW(list(groups.values()), weight_decay=0.5)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0, 1e-3]


@pytest.mark.parametrize("target", ["aws", "saconv-deform", "spconv"])
def test_other_targets_say_what_is_new(target, operator):  # noqa: F811
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8)).eval()
    model = surgeon.convert(model, torch.randn(2, 4, 8, 8), target=target).model
    new = names(surgeon.parameter_groups(model, lr=0.1, weight_decay=0)).get("new parts")
    of_layer = sorted(f"0.{name}" for name, _ in model[0].named_parameters())
    if target == "aws":
        assert new is None
    elif target == "spconv":  # nothing of the convolution is left, and its norms are new as well
        assert new == of_layer
        assert "0.bn1.weight" in new
    else:
        assert new == sorted(set(of_layer) - {"0.weight", "0.bias"})
        assert {f"0.{name}" for name in SACONV} < set(new)


class Scaled(surgeon.ConvertedLayer):
    """A layer as another package may write it: the convolution, and a gain that is new."""

    def __init__(self, conv):
        super().__init__()
        self.weight, self.gain = conv.weight, nn.Parameter(torch.ones(1, conv.out_channels, 1, 1))

    def forward(self, x):
        return nn.functional.conv2d(x, self.weight) * self.gain

    def is_new(self, name):
        return name == "gain"


def test_layers_of_other_packages_say_what_is_new_themselves():
    model = nn.Sequential(Scaled(nn.Conv2d(3, 4, 3)), nn.Linear(4, 4))
    assert names(surgeon.parameter_groups(model, lr=1.0)) == {
        "kernels": ["0.weight", "1.weight"],
        "norms": ["1.bias"],
        "new parts": ["0.gain"],
    }


def test_an_absorbed_norm_is_still_a_norm():
    conversion = surgeon.convert(chain().eval(), X, absorb=True)
    groups = names(surgeon.parameter_groups(conversion.model, lr=0.1))
    assert groups["norms"] == ["0.bias", "0.bn.bias", "0.bn.weight", "3.bn.bias", "3.bn.weight", "8.bias"]
    assert groups["kernels"] == ["0.weight", "3.weight", "8.weight"]
    assert len(groups["new parts"]) == 2 * len(SACONV)


def test_a_block_built_from_scratch():
    groups = names(surgeon.parameter_groups(surgeon.SAConvBlock(4, 4, 3), lr=0.1))
    assert groups["kernels"] == ["weight"]
    assert groups["norms"] == ["bias", "bn.bias", "bn.weight"]
    assert groups["new parts"] == sorted(SACONV)


def test_frozen_parameters_and_empty_groups_are_left_out():
    model = converted()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("stem.") and name != "stem.weight")
    groups = surgeon.parameter_groups(model, lr=0.1, weight_decay=0.01)
    assert names(groups) == {"new parts": sorted(f"stem.{name}" for name in SACONV)}
    assert surgeon.parameter_groups(model.requires_grad_(False), lr=0.1) == []
    assert surgeon.parameter_groups(nn.ReLU(), lr=0.1) == []


def test_a_shared_parameter_is_in_one_group():
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6), nn.LayerNorm(6), nn.LayerNorm(6))
    model[1].weight = model[0].weight
    model[3].weight = model[2].weight
    model[0].bias = model[2].bias
    groups = surgeon.parameter_groups(model, lr=0.1)
    assert len(held(groups)) == len(set(held(groups))) == len(list(model.parameters()))
    assert names(groups) == {"kernels": ["0.weight"], "norms": ["0.bias", "1.bias", "2.weight", "3.bias"]}
    model = converted(chain())
    model.extra = model[3].switch.weight  # also registered by the user's own module
    assert "extra" in by_name(surgeon.parameter_groups(model, lr=0.1))["new parts"]["param_names"]


def test_parameters_of_other_forms():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.positions = nn.Parameter(torch.zeros(1, 16, 4))
            self.state = nn.Parameter(torch.zeros(4, 4))
            self.state._no_weight_decay = True
            self.relative_position_bias_table = nn.Parameter(torch.zeros(9, 2))
            self.weighted = parametrizations.weight_norm(nn.Conv2d(4, 4, 3))
            self.single = nn.Conv2d(1, 4, 1)
            self.recurrent = nn.LSTM(4, 4)
            self.embedding = nn.Embedding(5, 4)
            self.lazy = nn.LazyLinear(3)
            self.lazy_norm = nn.LazyBatchNorm1d()
            self.listed = nn.ParameterList([torch.zeros(3, 3), torch.zeros(3)])

        def no_weight_decay(self):
            return {"positions"}

    groups = names(surgeon.parameter_groups(Own(), lr=0.1))
    assert groups["kernels"] == sorted(
        [
            *("weighted.parametrizations.weight.original1", "single.weight", "embedding.weight", "lazy.weight"),
            *("recurrent.weight_ih_l0", "recurrent.weight_hh_l0", "listed.0"),
        ]
    )
    assert groups["norms"] == sorted(
        [
            *("positions", "state", "relative_position_bias_table", "weighted.bias", "single.bias", "listed.1"),
            *("weighted.parametrizations.weight.original0", "recurrent.bias_ih_l0", "recurrent.bias_hh_l0"),
            *("lazy.bias", "lazy_norm.weight", "lazy_norm.bias"),
        ]
    )


def test_lazy_parameters_train_once_they_have_a_size():
    model = nn.Sequential(nn.Flatten(), nn.LazyLinear(3))
    optimizer = torch.optim.SGD(surgeon.parameter_groups(model, lr=0.1, weight_decay=0.1))
    model(X).square().mean().backward()
    before = model[1].weight.detach().clone()
    optimizer.step()
    assert not torch.equal(before, model[1].weight)


# ------------------------------------------------------------------ wrappers


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        AveragedModel,
        lambda m: torch.compile(m, backend="eager"),
        lambda m: nn.DataParallel(torch.compile(m, backend="eager")),
    ],
)
def test_wrappers_are_looked_through(wrap):
    model = converted(chain())
    wrapped = wrap(model)
    inner = wrapped.module if isinstance(wrapped, AveragedModel) else model  # an average is a copy
    groups = surgeon.parameter_groups(wrapped, lr=0.1)
    assert names(groups) == names(surgeon.parameter_groups(model, lr=0.1))
    assert held(groups) == held(surgeon.parameter_groups(inner, lr=0.1))


def test_compiled_parts_keep_their_names():
    model = converted(chain())
    model[3] = torch.compile(model[3], backend="eager")
    groups = by_name(surgeon.parameter_groups(model, lr=0.1))
    assert "3._orig_mod.weight_diff" in groups["new parts"]["param_names"]
    assert "3._orig_mod.weight" in groups["kernels"]["param_names"]


DISTRIBUTED = """
import os
import torch
from torch import nn
import saconv_surgeon as surgeon
from tests.surgery.test_parameter_groups import chain, converted

torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
model = converted(chain())
groups = surgeon.parameter_groups(nn.parallel.DistributedDataParallel(model), lr=0.1)
print([group["name"] for group in groups], groups[2]["param_names"][0], flush=True)
os._exit(0)  # taking a process group down can deadlock with its own threads
"""


@pytest.mark.slow
def test_distributed_models_are_looked_through():
    run = subprocess.run([sys.executable, "-c", DISTRIBUTED], capture_output=True, text=True, timeout=120, check=False)
    assert run.stdout == "['kernels', 'norms', 'new parts'] 0.weight_diff\n", run.stderr


# ------------------------------------------------------------------ real optimisers, schedules, checkpoints


def train(model, optimizer, steps=2, seed=1):
    model.train()
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        loss = model(torch.randn(4, 3, 12, 12, generator=generator)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


OPTIMISERS = {
    "sgd": lambda g: torch.optim.SGD(g, lr=1e3, momentum=0.9),
    "sgd-foreach": lambda g: torch.optim.SGD(g, momentum=0.9, nesterov=True, foreach=True),
    "sgd-fused": lambda g: torch.optim.SGD(g, fused=True),
    "adamw": lambda g: torch.optim.AdamW(g, lr=1e3),
    "adamw-foreach": lambda g: torch.optim.AdamW(g, foreach=True),
    "adamw-fused": lambda g: torch.optim.AdamW(g, fused=True),
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
}


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_optimisers_train_every_group_and_keep_what_it_says(kind):
    model = converted(chain())
    optimizer = OPTIMISERS[kind](surgeon.parameter_groups(model, lr=1e-3, weight_decay=1e-2))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    train(model, optimizer, 3)
    still = {name for name, p in model.named_parameters() if torch.equal(p, before[name])}
    assert still <= {"0.bias"}  # a shift before a batch norm has no gradient
    assert [(g["name"], g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [
        ("kernels", 1e-3, 1e-2),
        ("norms", 1e-3, 0.0),
        ("new parts", pytest.approx(3e-3), 0.0),
    ]


def test_the_first_step_moves_new_parts_three_times_as_far():
    """Adam's first step moves every parameter that has a gradient by its rate."""
    model = converted(chain())
    optimizer = torch.optim.Adam(surgeon.parameter_groups(model, lr=1e-3, weight_decay=0.0), eps=1e-20)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    train(model, optimizer, 1)
    step = {name: float((p.detach() - before[name]).abs().max()) for name, p in model.named_parameters()}
    assert step["8.weight"] == pytest.approx(1e-3, rel=1e-3)
    assert step["4.bias"] == pytest.approx(1e-3, rel=1e-3)
    assert step["3.pre_context.weight"] == pytest.approx(3e-3, rel=1e-3)
    assert step["3.post_context.bias"] == pytest.approx(3e-3, rel=1e-3)


def test_decay_alone_shrinks_kernels_only():
    model = converted(chain())
    optimizer = torch.optim.SGD(surgeon.parameter_groups(model, lr=0.1, weight_decay=0.5))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        factor = 1 - 0.1 * 0.5 if name in ("0.weight", "3.weight", "8.weight") else 1
        torch.testing.assert_close(parameter.detach(), before[name] * factor)


@pytest.mark.parametrize(
    "make_schedule",
    [
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 10, eta_min=0),
        lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + step)),
        lambda o: torch.optim.lr_scheduler.SequentialLR(
            o,
            [torch.optim.lr_scheduler.LinearLR(o, 0.1, total_iters=2), torch.optim.lr_scheduler.StepLR(o, 2)],
            milestones=[2],
        ),
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, [g["lr"] for g in o.param_groups], total_steps=9),
    ],
    ids=["cosine", "lambda", "warm-up", "one-cycle"],
)
@pytest.mark.filterwarnings("ignore:The epoch parameter in")
def test_schedules_keep_the_ratio(make_schedule):
    model = converted(chain())
    optimizer = torch.optim.SGD(surgeon.parameter_groups(model, lr=0.01, weight_decay=0), momentum=0.9)
    schedule = make_schedule(optimizer)
    rates = []
    for _ in range(6):
        train(model, optimizer, 1)
        schedule.step()
        kernels, norms, new = (group["lr"] for group in optimizer.param_groups)
        assert new == pytest.approx(3 * kernels)
        assert norms == kernels
        rates.append(kernels)
    assert len(set(rates)) > 1
    assert [group["name"] for group in optimizer.param_groups] == ["kernels", "norms", "new parts"]


@pytest.mark.parametrize("kind", ["sgd", "adamw", "adamw-fused"])
def test_a_resumed_training_is_the_uninterrupted_one(kind, tmp_path):
    def start():
        model = converted(chain())
        optimizer = OPTIMISERS[kind](surgeon.parameter_groups(model, lr=1e-3, weight_decay=1e-2))
        return model, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)

    def epoch(run, seed):
        train(run[0], run[1], 2, seed)
        run[2].step()

    whole = start()
    epoch(whole, 1)
    epoch(whole, 2)
    first = start()
    epoch(first, 1)
    torch.save([part.state_dict() for part in first], tmp_path / "last.pt")
    second = start()
    for part, state in zip(second, torch.load(tmp_path / "last.pt", weights_only=True), strict=True):
        part.load_state_dict(state)
    epoch(second, 2)
    for (name, left), right in zip(whole[0].state_dict().items(), second[0].state_dict().values(), strict=True):
        assert torch.equal(left, right), name
    assert [g["name"] for g in second[1].param_groups] == ["kernels", "norms", "new parts"]


def test_a_rate_that_is_a_tensor():
    rate = torch.tensor(0.01)
    model = converted(chain())
    groups = surgeon.parameter_groups(model, lr=rate, weight_decay=0)
    assert [float(group["lr"]) for group in groups] == pytest.approx([0.01, 0.01, 0.03])
    optimizer = torch.optim.SGD(groups, foreach=False)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    train(model, optimizer, 1)
    schedule.step()
    assert [float(group["lr"]) for group in optimizer.param_groups] == pytest.approx([0.005, 0.005, 0.015])
    assert float(rate) == pytest.approx(0.01)


def test_a_group_of_the_users_own_can_be_added():
    loss = nn.Linear(2, 2)
    groups = surgeon.parameter_groups(converted(chain()), lr=0.1)
    optimizer = torch.optim.AdamW([*groups, {"params": loss.named_parameters(), "name": "loss"}])
    assert [group["name"] for group in optimizer.param_groups] == ["kernels", "norms", "new parts", "loss"]


def test_numbers_of_numpy_become_plain_ones():
    groups = surgeon.parameter_groups(converted(chain()), lr=np.float32(0.5), new_lr=np.int64(2))
    assert [(type(group["lr"]), group["lr"]) for group in groups] == [(float, 0.5), (float, 0.5), (float, 1.0)]


# ------------------------------------------------------------------ carried along


def test_carried_new_parts_join_the_group_of_new_parts():
    """The second of two conversions in a training: the optimiser has a group of new parts already."""
    model = surgeon.convert(chain().eval(), X, include=["0"]).model
    optimizer = torch.optim.AdamW(surgeon.parameter_groups(model, lr=1e-3, weight_decay=1e-2))
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    train(model, optimizer)
    moments = {name: optimizer.state[p]["exp_avg"].clone() for name, p in model.named_parameters()}
    operated = surgeon.convert(model, X).model
    surgeon.carry_optimizer(optimizer, model, operated)
    wanted = surgeon.parameter_groups(operated, lr=1e-3, weight_decay=1e-2)
    for group, fresh in zip(optimizer.param_groups, wanted, strict=True):
        assert group["param_names"] == fresh["param_names"]
        assert [id(p) for p in group["params"]] == [id(p) for p in fresh["params"]]
    for name, parameter in operated.named_parameters():
        assert (parameter in optimizer.state) == (name in moments)
        if name in moments:
            assert torch.equal(optimizer.state[parameter]["exp_avg"], moments[name])
    train(operated, optimizer)
    schedule.step()
    torch.optim.AdamW(wanted).load_state_dict(optimizer.state_dict())


def test_an_empty_group_of_new_parts_waits_for_them():
    """So may whoever converts in the middle of a training prepare the optimiser."""
    model = chain()
    groups = surgeon.parameter_groups(model, lr=0.01, weight_decay=0)
    groups.append({"params": [], "param_names": [], "name": "new parts", "lr": 0.03, "weight_decay": 0.0})
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    train(model, optimizer)
    operated = surgeon.convert(model, X).model
    surgeon.carry_optimizer(optimizer, model, operated)
    assert names(optimizer.param_groups) == names(surgeon.parameter_groups(operated, lr=1.0))
    train(operated, optimizer)


def test_carried_back_the_group_of_new_parts_is_empty():
    converted_ = converted(chain())
    optimizer = torch.optim.AdamW(surgeon.parameter_groups(converted_, lr=1e-3, weight_decay=0))
    reverted = surgeon.revert(converted_)
    surgeon.carry_optimizer(optimizer, converted_, reverted)
    assert by_name(optimizer.param_groups)["new parts"]["params"] == []
    assert names(optimizer.param_groups)["new parts"] == []
    train(reverted, optimizer)
    again = surgeon.convert(reverted, X).model
    surgeon.carry_optimizer(optimizer, reverted, again)
    assert names(optimizer.param_groups) == names(surgeon.parameter_groups(again, lr=1.0))


def test_without_such_a_group_they_join_their_kernels():
    model = chain()
    optimizer = torch.optim.SGD(surgeon.parameter_groups(model, lr=0.01, weight_decay=0.1))
    operated = surgeon.convert(model.eval(), X).model
    surgeon.carry_optimizer(optimizer, model, operated)
    assert names(optimizer.param_groups)["kernels"] == sorted(
        ["0.weight", "3.weight", "8.weight", *(f"{i}.{name}" for i in (0, 3) for name in SACONV)]
    )


def test_a_kernel_that_the_optimiser_does_not_hold_brings_nothing():
    """Two optimisers for two halves: the new parts of a layer go to the one that has its kernel."""
    model = surgeon.convert(chain().eval(), X, include=["0"]).model
    groups = surgeon.parameter_groups(model, lr=0.01)
    mine = [
        {**g, "params": g["params"][: len(g["params"]) - 1], "param_names": g["param_names"][: len(g["params"]) - 1]}
        for g in groups
    ]
    mine[0]["params"], mine[0]["param_names"] = [model[0].weight], ["0.weight"]
    optimizer = torch.optim.SGD(mine)
    operated = surgeon.convert(model, X).model
    surgeon.carry_optimizer(optimizer, model, operated)
    assert not any(
        name.startswith("3.") for g in optimizer.param_groups for name in g["param_names"] if g["name"] != "norms"
    )


def test_a_target_without_the_kernel_moves_to_the_group_of_new_parts():
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)).eval()
    groups = surgeon.parameter_groups(model, lr=0.01)
    groups.append({"params": [], "param_names": [], "name": "new parts", "lr": 0.03})
    optimizer = torch.optim.SGD(groups, weight_decay=0.1)
    operated = surgeon.convert(model, torch.randn(2, 4, 9, 9), target="spconv").model
    surgeon.carry_optimizer(optimizer, model, operated)
    assert names(optimizer.param_groups) == {"kernels": [], **names(surgeon.parameter_groups(operated, lr=0.01))}


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("ratio", [0, -1.0, math.inf, math.nan, "3", None, True, torch.tensor(3.0), [3]])
def test_a_ratio_that_is_none(ratio):
    with pytest.raises(surgeon.UsageError, match=r"new_lr is .*; give a finite number above 0"):
        surgeon.parameter_groups(chain(), lr=0.1, new_lr=ratio)


@pytest.mark.parametrize(
    "rate",
    [-1e-3, math.nan, math.inf, "0.1", None, True, torch.tensor([0.1, 0.2]), torch.tensor(-1.0), torch.tensor(1)],
)
def test_a_rate_that_is_none(rate):
    with pytest.raises(surgeon.UsageError, match=r"lr is .*; give a finite number that is not negative"):
        surgeon.parameter_groups(chain(), lr=rate)


@pytest.mark.parametrize("option", ["weight_decay", "new_weight_decay"])
@pytest.mark.parametrize("decay", [-1e-3, math.nan, math.inf, "0.1", True])
def test_a_decay_that_is_none(option, decay):
    with pytest.raises(surgeon.UsageError, match=rf"^{option} is .*; give a finite number that is not negative"):
        surgeon.parameter_groups(chain(), lr=0.1, **{option: decay})


def test_no_rate_at_the_start_of_a_warm_up():
    assert [group["lr"] for group in surgeon.parameter_groups(converted(chain()), lr=0.0)] == [0, 0, 0]


def test_what_is_not_a_module():
    conversion = surgeon.convert(chain().eval(), X)
    with pytest.raises(surgeon.ModelError, match=r"a torch\.nn\.Module is needed, not a Conversion"):
        surgeon.parameter_groups(conversion, lr=0.1)


def test_the_model_is_left_as_it_was():
    model = converted(chain())
    state, flags = copy.deepcopy(model.state_dict()), [p.requires_grad for p in model.parameters()]
    surgeon.parameter_groups(model, lr=0.1)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == flags
