"""Conversions that cannot preserve the function: where they start, on which data, and how much of the outputs they give."""

import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import saconv_surgeon as surgeon
from benchmarks.images import figures
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.records import Plan, from_dict, to_dict
from saconv_surgeon.surgery.inexact.explained_share import Share, explain
from saconv_surgeon.surgery.inexact.initialization import BATCHES, batches_of
from sample_models import tiny_resnet, tiny_segmenter
from tests import nets

X = torch.randn(4, 8, 12, 12, generator=torch.Generator().manual_seed(1))


def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, stride=2)
        ).eval()


def to_spconv(model=None, x=X, **rest):
    return surgeon.convert(model or net(), x, target="spconv", **rest)


# ------------------------------------------------------------------ the figures


def test_share_by_hand():
    """Two channels with their own means; three batches make the same sums as one."""
    a = torch.tensor([[[1.0, 2.0, 3.0, 6.0], [10.0, 10.0, 12.0, 12.0]]])
    b = torch.tensor([[[1.0, 2.0, 3.0, 4.0], [10.0, 11.0, 12.0, 12.0]]])
    spread = (4 + 1 + 0 + 9) + (1 + 1 + 1 + 1)
    whole = Share()
    whole.add(a, b)
    assert whole.r2 == pytest.approx(1 - (4 + 1) / spread)
    product = 1 + 4 + 9 + 24 + 100 + 110 + 144 + 144
    norms = (1 + 4 + 9 + 36 + 100 + 100 + 144 + 144) * (1 + 4 + 9 + 16 + 100 + 121 + 144 + 144)
    assert whole.cosine == pytest.approx(product / math.sqrt(norms))
    parts = Share()
    for i in range(4):
        parts.add(a[..., i : i + 1], b[..., i : i + 1])
    assert parts.r2 == pytest.approx(whole.r2)


def test_share_of_logits_is_over_the_samples():
    """A classifier that always says the same is not explained by saying the same."""
    a = torch.tensor([[1.0, 5.0], [3.0, 7.0]])
    share = Share()
    share.add(a, a.mean(0, keepdim=True).expand(2, 2))
    assert share.r2 == pytest.approx(0.0)


def test_share_of_what_does_not_vary_is_unknown():
    share = Share()
    assert (share.r2, share.cosine) == (None, None)
    share.add(torch.ones(1, 2, 3), torch.ones(1, 2, 3))
    assert share.r2 is None
    assert share.cosine == pytest.approx(1.0)


class Head(nn.Module):
    def __init__(self, flip=False, wreck=None):
        super().__init__()
        self.conv, self.flip, self.wreck = nn.Conv2d(3, 3, 1), flip, wreck

    def forward(self, x):
        y = x.mean((2, 3))
        y = y.flip(1) if self.flip else y
        return {"scores": y if self.wreck is None else self.wreck(y), "n": 3, "ids": y.argmax(1)}


def test_top1_counts_places_of_the_largest():
    x = torch.zeros(4, 3, 2, 2)
    for i, best in enumerate((0, 1, 2, 1)):
        x[i, best] = 1.0
    found = explain(Head(), Head(flip=True), [Inputs.of(x)], (), init="project", source="here")
    assert found.top1 == 0.5  # flipping three classes leaves the middle one where it is
    assert found.samples == 4
    assert found.problems == ()


@pytest.mark.parametrize(
    ("wreck", "problem"),
    [
        (lambda y: y / 0, "output['scores'] is not finite any more"),
        (lambda y: y[:, :2], "output['scores'] has another shape"),
        (lambda y: (y, y), "the structure of the output changed"),
    ],
)
def test_outputs_that_cannot_be_used_are_problems(wreck, problem):
    found = explain(Head(), Head(wreck=wreck), [Inputs.of(torch.randn(2, 3, 2, 2))], (), init="project", source="here")
    assert problem in found.problems[0]


def test_layers_alone_and_in_place():
    """Break one layer: alone it shows there only, in place in all that follow."""
    original, conversion = net(), to_spconv()
    layer = conversion.model[0]
    with torch.no_grad():
        layer.bn1.weight.zero_()
        layer.bn2.weight.zero_()
    found = explain(original, conversion.model, [Inputs.of(X)], ("0", "3"), init="project", source="here").layers
    assert found[0].r2 == found[0].r2_alone
    assert found[0].r2 <= 0
    assert found[1].r2_alone == pytest.approx(conversion.explained.layers[1].r2_alone, abs=0.2)
    assert found[1].r2 < found[1].r2_alone


# ------------------------------------------------------------------ starts


def test_conversion_says_that_it_is_not_equal_and_how_much_is_left(tmp_path):
    conversion = to_spconv()
    record = conversion.to_dict()
    assert not conversion.equivalence.passed
    assert conversion.acceptable
    assert record["preserves_function"] is False
    assert record["init"] == conversion.plan.init == "project"
    assert record["explained"]["source"] == "the example inputs and random ones like them"
    assert [layer["path"] for layer in record["explained"]["layers"]] == ["0", "3"]
    assert from_dict(Plan, to_dict(conversion.plan)) == conversion.plan
    surgeon.save(conversion, tmp_path / "out")  # without force
    restored = surgeon.restore(net(), tmp_path / "out")
    assert torch.equal(restored.eval()(X), conversion.model.eval()(X))


def test_calibration_beats_projection_beats_chance_on_images_that_it_has_not_seen():
    model = tiny_resnet.build()
    batches = [figures(8, 96, seed)[0] for seed in range(4)]
    shares = []
    for init in ("random", "project", "calibrate"):
        found = to_spconv(model, batches[0], init=init, data=batches).explained
        shares.append(found.r2)
        assert found.init == init
        assert found.samples == (8 if init == "calibrate" else 32)
    assert found.calibrated_on == 24
    assert found.source == "batches of the data that were left out of the calibration"
    assert shares == sorted(shares)
    assert shares[2] > 0.6


def test_the_original_and_the_example_are_left_alone():
    model, before = net().train(), {k: v.clone() for k, v in net().state_dict().items()}
    x = X.clone()
    to_spconv(model, x, data=[X, X])
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(x, X)
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_calibration_fits_behind_what_was_fitted_before():
    """The second layer is given what the first, which is not its convolution, really gives."""
    conversion = to_spconv(data=[X, X.flip(0)])  # fitted to the first batch, looked at with the second
    model, original = conversion.model.eval(), net()
    behind, before = (surgeon.SPConv2d.from_conv2d(original[3]).eval() for _ in range(2))
    with torch.no_grad():
        behind.fit([model[:3](X)], [original(X)])
        before.fit([original[:3](X)], [original(X)])
    assert torch.equal(model[3].gwc.weight, behind.gwc.weight)
    assert not torch.allclose(model[3].gwc.weight, before.gwc.weight, rtol=0.01)


class Recurrent(nn.Module):
    """One convolution, called three times on its own output."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        for _ in range(3):
            x = torch.tanh(self.conv(x))
        return x


def test_layers_that_are_called_several_times():
    model = Recurrent().eval()
    shares = [to_spconv(model, init=i, data=[X, X.flip(0)]).explained.r2 for i in ("random", "calibrate")]
    assert shares[1] > shares[0]


class Catching(nn.Module):
    """Catches whatever its parts raise."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        try:
            return self.conv(x)
        except Exception:
            return x


def test_a_model_that_catches_everything_does_not_stop_the_calibration():
    found = to_spconv(Catching().eval(), data=[X, X.flip(0)]).explained
    assert found.layers[0].r2 > 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init": "calibrate"}, "init 'calibrate' needs data"),
        ({"init": "best"}, "has no init 'best'; it has: project, calibrate, random"),
        ({"data": []}, "data has no batches"),
        ({"data": [X[:0]]}, "batch 0 of the data is empty"),
        ({"data": 3}, "data cannot be iterated over"),
        ({"data": X}, "data is a Tensor; needed: a list, a generator or a DataLoader"),
        ({"data": [X * math.nan]}, "batch 0 of the data holds values that are not finite"),
    ],
)
def test_starts_that_cannot_be(options, message):
    with pytest.raises(surgeon.UsageError, match=message):
        to_spconv(**options)


def test_data_that_the_model_does_not_take():
    with pytest.raises(surgeon.ModelError, match=r"batch 0 of the data, \(4, 3, 12, 12\) \(RuntimeError"):
        to_spconv(data=[X[:, :3]])


@pytest.mark.parametrize("options", [{"init": "project"}, {"data": [X]}])
def test_targets_that_preserve_the_function_need_no_start(options):
    with pytest.raises(surgeon.UsageError, match="starts as the function of its convolutions"):
        surgeon.convert(net(), X, **options)


# ------------------------------------------------------------------ data


def test_batches_of_a_data_loader_with_labels():
    loader = DataLoader(TensorDataset(X.repeat(8, 1, 1, 1), torch.arange(32)), batch_size=4)
    batches = batches_of(loader, Inputs.of(X), net())
    assert [batch.shapes for batch in batches] == [((4, 8, 12, 12),)] * 8
    found = to_spconv(data=loader).explained
    assert (found.calibrated_on, found.samples) == (24, 8)


def test_endless_data_is_not_read_to_its_end():
    def endless():
        while True:
            yield X, "label"

    assert len(batches_of(endless(), Inputs.of(X), net())) == BATCHES


def test_batches_follow_the_example():
    example = Inputs.of(X.double().to(memory_format=torch.channels_last))
    (batch,) = batches_of([X], example, net().double())
    assert batch.tensors[0].dtype == torch.float64
    assert batch.tensors[0].is_contiguous(memory_format=torch.channels_last)


def test_models_of_several_inputs_take_whole_batches():
    model = nets.TwoInputs()
    example = (
        Inputs.of(nets.example(model)[0]) if isinstance(nets.example(model), list) else Inputs.of(nets.example(model))
    )
    (batch,) = batches_of([example.args or dict(example.kwargs)], example, model)
    assert batch.shapes == example.shapes


def test_a_single_batch_is_divided_by_samples():
    found = to_spconv(data=[X]).explained
    assert (found.calibrated_on, found.samples) == (3, 1)
    assert found.source == "samples of the data that were left out of the calibration"


def test_a_single_sample_is_all_there_is():
    found = to_spconv(x=X[:1], data=[X[:1]]).explained
    assert (found.calibrated_on, found.samples) == (1, 1)
    assert found.source == "the data that it was calibrated on"


def test_segmentation_agrees_by_pixel():
    model, x = tiny_segmenter.build(), figures(4, 64)[0]
    example = Inputs.of(tiny_segmenter.example_inputs())
    found = to_spconv(model, example, data=[x, x.flip(0)]).explained
    assert 0 < found.top1 <= 1
    assert found.r2 > 0.3


# ------------------------------------------------------------------ what a review found


class Skips(nn.Module):
    """Keeps maps in an attribute while it runs."""

    def __init__(self):
        super().__init__()
        self.down, self.up, self.skips = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), []

    def forward(self, x):
        self.skips.append(x)
        y = self.up(torch.relu(self.down(x)))
        return y + self.skips.pop(0)


def test_a_run_that_ends_early_leaves_nothing_in_the_users_model():
    model = Skips().eval()
    wanted = model(X)
    to_spconv(model, data=[X, X.flip(0)])
    assert model.skips == []
    assert torch.equal(model(X), wanted)


@pytest.mark.parametrize("init", ["calibrate", "random", "project"])
def test_a_checkpoint_gets_the_weights_that_were_reported(init, tmp_path):
    model, other = net(), net()
    with torch.no_grad():
        other[0].weight.mul_(1.5)
    data = [X, X.flip(0)] if init == "calibrate" else None
    conversion = to_spconv(model, init=init, data=data)
    checkpoint = {"epoch": 3, "ema": model, "model": other}
    notes = surgeon.save(conversion, tmp_path / "out.pt", checkpoint=checkpoint)
    saved = torch.load(tmp_path / "out.pt", weights_only=False)
    assert torch.equal(saved["ema"].eval()(X), conversion.model.eval()(X))
    if init != "random":
        assert not torch.equal(saved["model"].eval()(X), conversion.model(X))
    assert any("'model' has other weights" in note for note in notes) == (init == "calibrate")


def test_random_starts_follow_the_seed_and_leave_the_random_state():
    torch.manual_seed(11)
    before = torch.get_rng_state()
    states = [to_spconv(init="random", seed=seed).model.state_dict() for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(states[0]["0.gwc.weight"], states[1]["0.gwc.weight"])
    assert not torch.equal(states[0]["0.gwc.weight"], states[2]["0.gwc.weight"])
    assert not torch.equal(states[0]["0.pwc.weight"], states[0]["3.pwc.weight"])
    surgeon.SPConv2d.from_conv2d(nn.Conv2d(4, 4, 3, bias=False))


def test_plans_replay_with_their_init():
    plan = to_spconv(init="random").plan
    again = to_spconv(plan=plan)
    assert again.plan.init == again.explained.init == "random"
    with pytest.raises(surgeon.UsageError, match="init 'calibrate' needs data"):
        to_spconv(plan=to_spconv(data=[X, X]).plan)
    from dataclasses import replace

    with pytest.raises(surgeon.UsageError, match="has no init 'foo'"):
        to_spconv(plan=replace(plan, init="foo"))


class Boxes(nn.Module):
    """A detector: as many boxes as it finds, and the classes of all anchors in another unit."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        y = self.conv(x)
        return {"boxes": y[y > 0.5][:, None].expand(-1, 4) * 100, "maps": torch.cat([1000 * x[:, :4], y], 1).flatten(2)}


def test_detectors_are_explained_by_what_can_be_compared():
    found = to_spconv(Boxes().eval(), init="random")
    assert found.explained.problems == ()
    assert found.explained.not_compared == ("output['boxes']",)
    assert found.explained.top1 is None
    assert found.explained.r2 < 0.5  # the pixels that nothing changes do not hide the maps
    assert found.acceptable
