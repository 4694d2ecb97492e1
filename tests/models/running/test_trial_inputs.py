"""The inputs of the trials of a proof: as many different ones as it says."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.errors import UsageError, UserCodeError

R = torch.randn(1, 3, 9, 9)
SEEN = []


@pytest.fixture(autouse=True)
def nothing_seen():
    SEEN.clear()


def seen():
    """How many different inputs models saw, apart from the numbers of the report."""
    return len({t.numpy().tobytes() for t in SEEN})


class Net(nn.Module):
    def __init__(self, get=lambda b: b):
        super().__init__()
        self.conv, self.get = nn.Conv2d(3, 4, 3), get

    def forward(self, b):
        x = self.get(b)
        if type(x) is torch.Tensor:
            SEEN.append(x.clone())
        return self.conv(x)


@dataclass
class Batch:
    image: torch.Tensor


class Tokens(nn.Module):
    """Takes ids below 10 and no others."""

    def __init__(self):
        super().__init__()
        self.table, self.conv = nn.Embedding(10, 3), nn.Conv2d(3, 4, 3)

    def forward(self, ids, mask):
        if type(ids) is torch.Tensor:
            SEEN.append(ids.clone())
        x = self.table(ids) * mask.unsqueeze(-1)
        return self.conv(x.transpose(1, 2).unflatten(2, (4, 4)))


IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3]])
KINDS = {
    "float": (Net, R),
    "half": (lambda: Net(lambda b: b.float()), R.half()),
    "uint8": (lambda: Net(lambda b: b.float() / 255), (R * 50).to(torch.uint8)),
    "int16": (lambda: Net(lambda b: b.float() / 255), (R * 50).to(torch.int16)),
    "complex": (lambda: Net(lambda b: b.real.clone()), R + 0j),
    "dataclass": (lambda: Net(lambda b: b.image), (Batch(R),)),
    "tokens": (Tokens, (IDS, torch.ones(1, 16))),
    "tokens and a whole mask": (Tokens, {"ids": IDS, "mask": torch.ones(1, 16, dtype=torch.bool)}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_three_inputs_are_three(kind):
    make, inputs = KINDS[kind]
    found = surgeon.convert(make(), inputs).equivalence
    assert found.bit_equal
    assert (found.trials, found.different_inputs, seen()) == (3, 3, 3)
    SEEN.clear()
    folded = surgeon.fold(surgeon.convert(make(), inputs, trials=1).model, inputs).equivalence
    assert (folded.trials, folded.different_inputs, seen()) == (3, 3, 3)


def test_one_input_is_said_to_be_one():
    """There is one id only, and no other is known to be accepted."""
    found = surgeon.convert(
        Tokens(), (torch.zeros(1, 16, dtype=torch.int64), torch.ones(1, 16, dtype=torch.int64))
    ).equivalence
    assert found.passed
    assert (found.trials, found.different_inputs, seen()) == (3, 1, 1)


def test_what_a_model_refuses_is_not_drawn():
    """Numbers that belong together: shuffled they do not, so they stay, and floating values are drawn."""

    class Checked(Net):
        def forward(self, x, order):
            if order.flatten().tolist() != [2, 0, 1, 5]:
                raise ValueError("another order")
            return super().forward(x)

    found = surgeon.convert(Checked(), (R, torch.tensor([[2, 0], [1, 5]]))).equivalence
    assert (found.different_inputs, seen()) == (3, 3)

    SEEN.clear()

    class Particular(Net):
        def forward(self, x):
            if not torch.equal(x, R):
                raise ValueError("no other image")
            return super().forward(x)

    found = surgeon.convert(Particular(), R).equivalence
    assert found.passed
    assert (found.trials, found.different_inputs, seen()) == (3, 1, 1)


def test_train_mode_counts_inputs_and_not_runs():
    found = surgeon.convert(Net(), R, mode="train").equivalence
    assert (found.trials, found.different_inputs) == (4, 3)


def test_redraw_gets_what_was_given_and_makes_the_trials():
    asked = []

    def make(inputs, trial):
        asked.append((type(inputs).__name__, trial))
        if isinstance(inputs, dict):
            return {"ids": (inputs["ids"] + trial) % 10, "mask": inputs["mask"]}
        return (inputs[0] * 0 + trial,) if isinstance(inputs, tuple) else inputs * 0 + trial

    for inputs, model, form in (
        (R, Net(), "Tensor"),
        ((R,), Net(), "tuple"),
        (KINDS["tokens and a whole mask"][1], Tokens(), "dict"),
    ):
        asked.clear()
        SEEN.clear()
        found = surgeon.convert(model, inputs, redraw=make, trials=4).equivalence
        assert asked == [(form, 1), (form, 2), (form, 3)]
        assert (found.different_inputs, seen()) == (4, 4)
    assert torch.equal(SEEN[0], IDS)


def test_redraw_that_gives_the_same_is_counted_once():
    found = surgeon.convert(Net(), R, redraw=lambda inputs, trial: inputs).equivalence
    assert (found.trials, found.different_inputs) == (3, 1)


def test_redraw_in_place_does_not_touch_the_users():
    given = R.clone()
    surgeon.convert(Net(), given, redraw=lambda inputs, trial: inputs.add_(trial))
    assert torch.equal(given, R)


def test_redraw_for_fold_and_inputs_in_half_precision():
    asked = []

    def make(inputs, trial):
        asked.append(trial)
        return torch.full((1, 3, 9, 9), float(trial))

    converted = surgeon.convert(Net().bfloat16(), R.bfloat16(), redraw=make).model
    found = surgeon.fold(converted, R.bfloat16(), redraw=make).equivalence
    assert found.different_inputs == 3
    assert asked[:2] == [1, 2]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda inputs, trial: (inputs, inputs), r"another structure for trial 1: 2 values, not 1"),
        (lambda inputs, trial: {"x": inputs}, r"inputs\['x'\]: floating \(1, 3, 9, 9\) instead of inputs\[0\]"),
        (lambda inputs, trial: [inputs], r"inputs\[0\]\[0\]: floating"),
        (lambda inputs, trial: inputs.int(), r"int32 \(1, 3, 9, 9\) instead of inputs\[0\]: floating"),
        (lambda inputs, trial: inputs[..., :8], r"floating \(1, 3, 9, 8\) instead of"),
        (lambda inputs, trial: None, r"NoneType instead of"),
    ],
)
def test_another_structure_is_refused(make, message):
    with pytest.raises(UsageError, match=message):
        surgeon.convert(Net(), R, redraw=make)


def test_redraw_that_raises_is_named():
    with pytest.raises(UserCodeError, match="redraw raised ZeroDivisionError for trial 1"):
        surgeon.convert(Net(), R, redraw=lambda inputs, trial: 1 / 0)

    class Strict(Net):
        def forward(self, x):
            if float(x.max()) > 50:
                raise ValueError("too bright")
            return super().forward(x)

    with pytest.raises(
        UserCodeError, match="the model raised ValueError on the inputs that redraw made for trial 1: too bright"
    ):
        surgeon.convert(Strict(), R, redraw=lambda inputs, trial: inputs + 100)


class Scaled(Net):
    def forward(self, x, by, name="a"):
        return super().forward(x * by + len(name))


@pytest.mark.parametrize(
    "make",
    [
        lambda inputs, trial: {**inputs, "by": inputs["by"] + trial},
        lambda inputs, trial: {**inputs, "name": "b" * (trial + 1)},
        lambda inputs, trial: {"name": "c", "by": trial, "x": inputs["x"]},
    ],
    ids=["number", "text", "number, keys in another order"],
)
def test_redraw_of_plain_values_makes_other_inputs(make):
    found = surgeon.convert(Scaled(), {"x": R, "by": 3, "name": "a"}, redraw=make).equivalence
    assert (found.different_inputs, seen(), found.redrawn) == (3, 3, True)


def test_another_order_of_keys_is_the_same_input():
    def make(inputs, trial):
        return dict(reversed(inputs.items()))

    found = surgeon.convert(Scaled(), {"x": R, "by": 3, "name": "a"}, redraw=make).equivalence
    assert (found.different_inputs, seen()) == (1, 1)


def test_redraw_on_the_meta_device_is_refused():
    with pytest.raises(UsageError, match=r"redraw gave tensors on the meta device for trial 1.* on cpu"):
        surgeon.convert(Net(), R, redraw=lambda inputs, trial: inputs.to("meta"))


@pytest.mark.parametrize(("code", "shown"), [(0, "exit status 0"), (None, "exit status 0"), ("enough", "'enough'")])
def test_redraw_that_exits_is_named(code, shown):
    def make(inputs, trial):
        raise SystemExit(code)

    with pytest.raises(UserCodeError, match=rf"redraw ended the process \({shown}\) for trial 1"):
        surgeon.convert(Net(), R, redraw=make)
