"""The story of ``plan`` on small nets: what is chosen is within the budget, replays, and learns from data where it should."""

import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import saconv_surgeon as surgeon
from saconv_surgeon.planning import plan as story
from saconv_surgeon.records import Plan, Timing, from_dict, to_dict
from saconv_surgeon.surgery.plan_file import read_plan

SHORT = Timing(budget_s=0.2, threads=1)


def net(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 8, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 4),
        ).eval()


def data(n=6, samples=4):
    generator = torch.Generator().manual_seed(1)
    for _ in range(n):
        x = torch.randn(samples, 3, 12, 12, generator=generator)
        yield x, torch.randint(0, 4, (samples,), generator=generator)


def loss(output, batch):
    return F.cross_entropy(output, batch[1])


def counted(budgets, model=None, **rest):
    rest = {"data": data(), "loss": loss} | rest
    return surgeon.plan(model or net(), budgets=budgets, timing=None, **rest)


def test_the_choice_is_within_a_counted_budget_and_says_what_was_found():
    planned = counted("parameters<+400")
    (promise,) = planned.promises
    model = surgeon.apply(net(), planned.plan)
    own, new = (sum(p.numel() for p in m.parameters()) for m in (net(), model))
    assert promise.kept
    assert promise.found == new - own <= 400
    assert {layer.path for layer in planned.layers} == {"0", "3"}
    assert planned.plan.base.fingerprint


def test_the_plan_replays_and_keeps_every_prediction(tmp_path):
    planned = counted("parameters<+100k", score="depth")
    assert set(planned.plan.converted_paths) == {"0", "3"}
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(to_dict(planned.plan)))
    assert read_plan(file) == planned.plan == from_dict(Plan, to_dict(planned.plan))
    x = next(iter(data()))[0]
    conversion = surgeon.convert(net(), x, plan=file)
    assert conversion.equivalence.bit_equal
    assert conversion.plan.converted_paths == planned.plan.converted_paths
    assert all(type(conversion.model.get_submodule(p)) is surgeon.SAConv2d for p in ("0", "3"))


def test_the_model_the_random_state_and_gradients_are_left_as_they_were():
    model = net().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    counted("parameters<+400", model)
    assert model.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_timed_budget_is_measured_on_the_folded_model():
    planned = surgeon.plan(net(), data=data(), budgets=["latency<20x"], score="depth", timing=SHORT)
    (promise,) = planned.promises
    assert promise.ratio is not None
    assert promise.found == pytest.approx(promise.ratio.median)
    assert promise.predicted is not None
    assert all(o.price.latency_s is not None for layer in planned.layers for o in layer.offers)
    assert planned.curve[0].layers == 0
    gains = [point.gain for point in planned.curve]
    assert gains == sorted(gains)


def test_saved_scores_are_not_computed_again(tmp_path, monkeypatch):
    file = tmp_path / "scores.json"
    first = surgeon.plan(net(), data=data(), loss=loss, budgets="latency<20x", timing=SHORT, scores=file)
    monkeypatch.setattr(story, "promise", None)
    monkeypatch.setattr(story, "price_candidates", None)
    again = surgeon.plan(net(), data=data(), loss=loss, budgets="latency<20x", timing=None, scores=file)
    assert again.layers[0].offers[0].price == first.layers[0].offers[0].price
    assert again.promises[0].found is None
    assert again.everything == first.everything
    with pytest.raises(surgeon.UsageError, match="another model or other weights"):
        surgeon.plan(net(1), data=data(), loss=loss, budgets="latency<20x", timing=None, scores=file)


def test_an_interruption_keeps_the_scores(tmp_path, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(story, "price_candidates", interrupted)
    file = tmp_path / "scores.json"
    with pytest.raises(KeyboardInterrupt):
        surgeon.plan(net(), data=data(), loss=loss, budgets="latency<20x", timing=SHORT, scores=file)
    assert json.loads(file.read_text())["gains"]["name"] == "promise"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budgets": ()}, "for which budget"),
        ({"budgets": "macs<0.5x"}, "asks for 0.5 times the original"),
        ({"data": None}, "the score 'promise' learns from data"),
        ({"loss": None}, "the score 'promise' needs a loss"),
        ({"data": None, "score": "depth"}, "nothing says what the model is run on"),
        ({"loss": None, "score": "probe"}, "the score 'probe' trains"),
        ({"data": data(1)}, "the data gave one batch"),
        ({"loss": lambda output, batch: output}, "the loss has the shape"),
        ({"loss": lambda output, batch: output.mean() * torch.nan}, "the loss is nan"),
        ({"loss": lambda output, batch: batch[0].mean()}, "does not depend on"),
        ({"budgets": "latency<2x"}, "is about time, and time is not to be measured"),
        (
            {"budgets": "parameters<+3", "score": "depth"},
            "nothing can be converted; the cheapest choice needs parameters",
        ),
        ({"targets": ("saconv", "saconv")}, "listed twice"),
        ({"targets": ("spconv",)}, "do not equal their convolutions"),
    ],
)
def test_what_cannot_be_planned(options, message):
    with pytest.raises(surgeon.UsageError, match=message):
        counted(**{"budgets": "parameters<+400"} | options)


def test_a_model_without_eligible_layers_has_an_empty_plan():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(4 * 144, 4)).eval()
    planned = counted("parameters<+400", model)
    assert planned.layers == ()
    assert planned.plan.converted_paths == ()
    assert planned.notes == ("no convolution of this model can be converted; see the reasons in the plan",)


def test_other_targets_are_candidates_beside_the_parts():
    planned = counted("parameters<+0", targets=("saconv", "aws"), score="random")
    names = {o.candidate.name for layer in planned.layers for o in layer.offers}
    assert names == {"contexts", "branches", "all", "aws"}
    assert {offer.candidate.name for offer in planned.chosen.values()} <= {"aws"}
