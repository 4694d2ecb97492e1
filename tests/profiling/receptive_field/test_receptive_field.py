"""Receptive fields against the recursion r ← r + (k − 1)·d·j of Araujo et al. (Distill, 2019), and by hand."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import saconv_surgeon as surgeon
from saconv_surgeon.records import from_dict, to_dict
from sample_models import tiny_resnet


def recursion(*layers):
    """(kernel, stride, dilation) of each layer → the side of what one output sees."""
    r = j = 1
    for kernel, stride, dilation in layers:
        r += (kernel - 1) * dilation * j
        j *= stride
    return r


def reached(model, side=64, channels=3):
    found = surgeon.receptive_field(model, torch.randn(1, channels, side, side))
    assert found.note is None
    return {stage.stride: (stage.theoretical, stage.is_clipped) for stage in found.stages}


def test_a_chain_by_the_recursion():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 5, stride=2, padding=2),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2),
        nn.GELU(),
        nn.AvgPool2d(2),
    )
    chain = [(5, 2, 1), (3, 2, 1), (3, 1, 2), (2, 2, 1)]
    assert reached(model) == {n: ((r := recursion(*chain[:k]), r), False) for n, k in ((2, 1), (4, 3), (8, 4))}


def test_a_field_that_is_not_square():
    assert reached(nn.Conv2d(3, 4, (1, 5), padding=(0, 2))) == {1: ((1, 5), False)}


def test_negative_weights_and_dead_activations_hide_nothing():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))
    with torch.no_grad():
        model[0].weight.fill_(-1.0)
        model[0].bias.fill_(-100.0)
        model[2].weight.zero_()
    found = surgeon.receptive_field(model, torch.randn(1, 3, 32, 32))
    assert found.stages[0].theoretical == (5, 5)
    assert found.stages[0].effective is None  # such a model sees nothing


def test_a_conversion_reaches_three_times_as_far_and_starts_by_seeing_the_same():
    """A 3×3 kernel of the wide branch spans 7 pixels, one of 5×5 thirteen."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 5, padding=2))
    x = torch.randn(1, 3, 48, 48)
    converted = surgeon.convert(model, x).model
    before, after = (surgeon.receptive_field(each, x) for each in (model, converted))
    assert before.stages[0].theoretical == (recursion((3, 1, 1), (5, 1, 1)),) * 2
    assert after.stages[0].theoretical == (recursion((3, 1, 3), (5, 1, 3)),) * 2
    assert before.stages[0].effective == after.stages[0].effective
    contexts = surgeon.convert(model, x, options={"parts": "contexts"}).model
    assert surgeon.receptive_field(contexts, x).stages[0].theoretical == before.stages[0].theoretical


def test_a_field_larger_than_the_input_is_found_on_a_larger_one():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=16, dilation=16), nn.Conv2d(4, 4, 3, padding=16, dilation=16))
    assert reached(model, side=32) == {1: ((65, 65), False)}


class Gated(nn.Module):
    """Squeeze and excitation: a mean over the whole map."""

    def __init__(self):
        super().__init__()
        self.conv, self.gate = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        y = self.conv(x)
        return y * torch.sigmoid(self.gate(y.mean((2, 3), keepdim=True)))


def test_means_over_whole_maps_are_counted_apart():
    found = surgeon.receptive_field(Gated(), torch.randn(1, 3, 32, 32))
    assert (found.stages[0].theoretical, found.global_means) == ((3, 3), 1)


def test_the_effective_field_by_hand():
    """Nine equal weights: all nine pixels count. With 0.04 beside the one in the middle, only that: 0.04 < 0.0455."""
    model = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    x = torch.randn(1, 1, 16, 16)
    with torch.no_grad():
        model.weight.fill_(1.0)
        assert surgeon.receptive_field(model, x).stages[0].effective == 3.0
        model.weight.fill_(0.04)
        model.weight[0, 0, 1, 1] = 1.0
    stage = surgeon.receptive_field(model, x).stages[0]
    assert stage.effective == 1.0
    assert (max(map(max, stage.picture)), len(stage.picture)) == (1.0, 16)
    assert stage.picture[8][8] == 1.0


@pytest.mark.parametrize("model", [nn.Linear(4, 4), nn.Sequential(nn.Conv1d(3, 3, 3))], ids=["linear", "1d"])
def test_models_without_images_say_why(model):
    x = torch.randn(2, 3, 8) if isinstance(model, nn.Sequential) else torch.randn(2, 4)
    found = surgeon.receptive_field(model, x)
    assert found.stages == ()
    assert "batch of images" in found.note


def test_stages_are_called_after_what_gives_them():
    found = surgeon.receptive_field(tiny_resnet.build(), tiny_resnet.example_inputs())
    assert [(stage.path, stage.stride) for stage in found.stages] == [
        *(("relu", 2), ("layer1", 4), ("layer2", 8), ("layer3", 16)),
    ]
    assert [stage.theoretical[0] for stage in found.stages] == [7, 43, 99, 211]


def test_the_model_is_left_as_it_was_and_the_record_survives_json():
    model, x = tiny_resnet.build().train(), tiny_resnet.example_inputs()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    random = torch.get_rng_state()
    found = surgeon.receptive_field(model, x)
    assert model.training
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(random, torch.get_rng_state())
    assert all(not m._forward_hooks for m in model.modules())
    assert from_dict(type(found), to_dict(found)) == found
    assert surgeon.receptive_field(model, x) == found
    assert F.conv2d(torch.ones(1, 1, 3, 3), torch.full((1, 1, 3, 3), 2.0)).item() == 18.0  # the mode is gone


def conv(ins, outs, kernel=3, **settings):
    return nn.Conv2d(ins, outs, kernel, padding=kernel // 2, **settings)


class ByHand(nn.Module):
    """``call`` of some layers."""

    def __init__(self, call, *layers):
        super().__init__()
        self.call, self.layers = call, nn.ModuleList(layers)

    def forward(self, x):
        return self.call(x, *self.layers)


def layer_norm(x):
    mean = x.mean(1, keepdim=True)
    return (x - mean) / torch.sqrt((x - mean).pow(2).mean(1, keepdim=True) + 1e-6)


def gated(x, gate, near, far):
    z = torch.sigmoid(gate(x))
    return z * near(x) + (1 - z) * far(x)


def unpooled(x, first, second, last):
    y, where = F.max_pool2d(first(x), 2, return_indices=True)
    return last(F.max_unpool2d(second(y), where, 2))


@pytest.mark.parametrize(
    ("model", "last"),
    [
        (ByHand(lambda x, a, b: b(layer_norm(a(x))), nn.Conv2d(3, 6, 4, 4), conv(6, 6, 7, groups=6)), 28),
        (nn.Sequential(conv(3, 8), nn.Softmax(1), conv(8, 8)), 5),
        (ByHand(lambda x, a, b: a(x) - b(x), conv(3, 8), conv(3, 8)), 3),
        (ByHand(gated, conv(3, 1, 1), conv(3, 8, 3), conv(3, 8, 9)), 9),
        (nn.Sequential(nn.MaxPool2d(3, 1, 1, dilation=3)), 7),
        (nn.Sequential(conv(3, 8), nn.AdaptiveMaxPool2d(16), conv(8, 8, 1)), 6),
        (ByHand(lambda x, a, b: b(a(x).mean(1).unsqueeze(1)), conv(3, 8), conv(1, 8)), 5),
        (nn.Sequential(*(conv(4 if i else 3, 4) for i in range(20))).half(), 41),
        (nn.Sequential(*(conv(2 if i else 3, 2) for i in range(120))), 241),
    ],
    ids=["layer norm", "softmax", "difference", "gate", "dilated", "adaptive", "channel mean", "half", "deep"],
)
def test_nothing_cancels_and_nothing_vanishes(model, last):
    x = torch.randn(
        1, 3, 64, 64, dtype=next(iter(p.dtype for p in model.parameters()), torch.float32), requires_grad=True
    )
    found = surgeon.receptive_field(model, x)
    assert found.note is None
    assert (found.stages[-1].theoretical, found.stages[-1].is_clipped) == ((last, last), False)
    assert found.global_means == 0


def test_unpooling_reaches_beyond_its_cells():
    found = surgeon.receptive_field(ByHand(unpooled, conv(3, 4), conv(4, 4), conv(4, 4)), torch.randn(1, 3, 64, 64))
    assert found.stages[0].stride == 1
    assert found.stages[0].theoretical >= (8, 8)


@pytest.mark.parametrize(
    "reduce",
    [lambda y: y.amax((2, 3), keepdim=True), lambda y: F.adaptive_max_pool2d(y, 1), lambda y: y.sum((2, 3), True)],
)
def test_any_reduction_of_a_whole_map_is_counted_apart(reduce):
    model = ByHand(lambda x, a, b: b(a(x) * torch.sigmoid(reduce(a(x)))), conv(3, 8), conv(8, 8))
    found = surgeon.receptive_field(model, torch.randn(1, 3, 64, 64))
    assert (found.stages[0].theoretical, found.global_means) == ((5, 5), 1)


class Two(nn.Module):
    """Two images, the smaller one first, or as large."""

    def __init__(self):
        super().__init__()
        self.conv = conv(6, 4)

    def forward(self, small, large):
        return self.conv(torch.cat([F.interpolate(small, large.shape[-2:]), large], 1))


def test_no_gradient_and_several_images_are_told():
    found = surgeon.receptive_field(ByHand(lambda x, a: a(x), conv(3, 4)), torch.randn(1, 3, 1, 1))
    assert "no map" in found.note
    for side in (8, 32):
        found = surgeon.receptive_field(Two(), (torch.randn(2, 3, side, side), torch.randn(2, 3, 32, 32)))
        assert found.note is None
        assert found.stages[0].effective == 3.0
