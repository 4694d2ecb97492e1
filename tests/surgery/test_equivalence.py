"""The proof must pass what is equal and, above all, fail what is not."""

import itertools

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.surgery.equivalence import prove

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
DRAWS = itertools.count(1)


def chain():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))


def test_untouched_conversion_is_bit_equal():
    found = surgeon.convert(chain(), X).equivalence
    assert found.passed
    assert found.bit_equal
    assert (found.max_abs, found.max_rel, found.trials, found.tensors) == (0.0, 0.0, 3, 1)


@pytest.mark.parametrize("name", ["weight", "bias", "switch.bias", "pre_context.bias", "post_context.bias"])
def test_moved_layer_is_caught_and_named(name):
    model = chain()
    conversion = surgeon.convert(model, X)
    with torch.no_grad():
        parameter = conversion.model.get_parameter(f"2.{name}")
        parameter += 0.1 * torch.randn_like(parameter)
    found = prove(model, conversion.model, Inputs.of(X), paths=conversion.plan.converted_paths)
    if name == "switch.bias":  # the wide branch has the same kernel at the start but looks elsewhere
        assert found.max_rel > 1e-4
    assert not found.passed
    assert not found.bit_equal
    assert found.first_moved == "2"


def test_movement_within_the_tolerance_passes_and_is_reported():
    model = chain()
    conversion = surgeon.convert(model, X)
    with torch.no_grad():
        conversion.model[2].bias[0] += 1e-6
    found = prove(model, conversion.model, Inputs.of(X), paths=["2"])
    assert found.passed
    assert not found.bit_equal
    assert 0 < found.max_rel < 1e-5


def test_only_other_inputs_show_it():
    class Clipped(nn.Module):
        """Blind to its convolution on the example inputs, which are zero."""

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, bias=False)

        def forward(self, x):
            return self.conv(x)

    model, zeros = Clipped(), torch.zeros(1, 3, 8, 8)
    conversion = surgeon.convert(model, zeros)
    with torch.no_grad():
        conversion.model.conv.weight.add_(torch.rand_like(conversion.model.conv.weight))
    assert not prove(model, conversion.model, Inputs.of(zeros), paths=["conv"]).passed


class Noisy(nn.Module):
    """Not deterministic, whatever the seed."""

    def __init__(self, size):
        super().__init__()
        self.conv, self.size = nn.Conv2d(3, 3, 3), size

    def forward(self, x):
        draw = 0.618 * next(DRAWS) % 1  # no seed reaches it, and any few in a row lie far apart
        return self.conv(x) + self.size * draw


def test_model_with_noise_is_judged_against_its_noise():
    model = Noisy(1e-3)
    conversion = surgeon.convert(model, X)
    assert conversion.equivalence.passed
    assert not conversion.equivalence.deterministic
    assert conversion.equivalence.noise_max_rel > 0
    assert conversion.equivalence.first_moved is None
    with torch.no_grad():
        conversion.model.conv.weight.add_(torch.rand_like(conversion.model.conv.weight))
    moved = prove(model, conversion.model, Inputs.of(X), paths=["conv"])
    assert not moved.passed
    assert moved.first_moved == "conv"


def test_noise_cannot_hide_a_layer_that_moved():
    model = Noisy(100.0)  # louder than the signal: the outputs alone would prove nothing
    conversion = surgeon.convert(model, X)
    assert conversion.equivalence.passed
    with torch.no_grad():
        conversion.model.conv.bias.add_(0.01)  # a scaled kernel would be standardised back
    assert not prove(model, conversion.model, Inputs.of(X), paths=["conv"]).passed


def test_seeded_randomness_and_state_are_no_noise():
    class Stateful(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return self.conv(x) * self.calls + torch.rand(())

    found = surgeon.convert(Stateful(), X).equivalence
    assert found.deterministic
    assert found.bit_equal


def test_difference_that_no_layer_explains_is_said():
    class Looks(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3)

        def forward(self, x):
            return self.conv(x) + (type(self.conv) is nn.Conv2d)

    found = surgeon.convert(Looks(), X).equivalence
    assert not found.passed
    assert found.first_moved is None
    assert "something else looks at the layers" in found.problems[-1]


class WithAuxiliaryHead(nn.Module):
    """As segmenters and GoogLeNet are: one head runs in training only, dropout draws, and statistics move."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.head = nn.Conv2d(4, 2, 3)
        self.aux = nn.Conv2d(4, 2, 3, padding=1)

    def forward(self, x):
        x = self.body(x)
        return {"out": self.head(x), **({"aux": self.aux(x)} if self.training else {})}


def test_auxiliary_heads_are_converted_in_training_mode():
    model = WithAuxiliaryHead().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert [s.reason_code for s in surgeon.inspect(model, X)] == [None, None, "never-ran"]
    conversion = surgeon.convert(model, X, mode="train")
    assert conversion.plan.converted_paths == ("body.0", "head", "aux")
    found = conversion.equivalence
    assert (found.bit_equal, found.deterministic, found.mode, found.trials) == (True, True, "train", 4)
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert conversion.to_dict()["equivalence"]["mode"] == "train"


def test_a_moved_auxiliary_head_is_caught_in_training_mode_only():
    model = WithAuxiliaryHead()
    conversion = surgeon.convert(model, X, mode="train")
    with torch.no_grad():
        conversion.model.aux.weight[0, 0].add_(0.1)
    paths = conversion.plan.converted_paths
    assert prove(model, conversion.model, Inputs.of(X), paths=paths).passed
    found = prove(model, conversion.model, Inputs.of(X), paths=paths, mode="train")
    assert not found.passed
    assert found.first_moved == "aux"


def test_the_plan_of_training_mode_is_replayed(tmp_path):
    conversion = surgeon.convert(WithAuxiliaryHead(), X, mode="train")
    surgeon.save(conversion, tmp_path / "out")
    assert isinstance(surgeon.restore(WithAuxiliaryHead(), tmp_path / "out").aux, surgeon.SAConv2d)


class FindsNothing(nn.Module):
    """As a detector with random weights: the boxes whose score is high enough are none."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.head = nn.ModuleDict({"scores": nn.Conv2d(4, 1, 3), "boxes": nn.Conv2d(4, 4, 3)})

    def forward(self, x):
        x = self.body(x)
        scores, boxes = (
            self.head["scores"](x).sigmoid().flatten(),
            self.head["boxes"](x).permute(0, 2, 3, 1).reshape(-1, 4),
        )
        return [{"boxes": boxes[scores > 1], "scores": scores[scores > 1]}]


def test_parts_are_compared_where_outputs_are_empty():
    model = FindsNothing()
    conversion = surgeon.convert(model, X)
    assert conversion.equivalence.bit_equal
    with torch.no_grad():
        conversion.model.head["boxes"].weight[0, 0].add_(0.1)
    found = prove(model, conversion.model, Inputs.of(X), paths=conversion.plan.converted_paths)
    assert not found.passed
    assert found.first_moved == "head.boxes"


def test_parts_that_work_in_place_are_compared_as_they_were():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.MaxPool2d(3), Empty())
    assert surgeon.convert(model, X).equivalence.bit_equal


class Empty(nn.Module):
    def forward(self, x):
        return x[x > x.max()]
