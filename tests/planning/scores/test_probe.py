import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from saconv_surgeon.convs.saconv import SAConv2d
from saconv_surgeon.errors import UsageError, UserCodeError
from saconv_surgeon.planning.scores.probe import probe
from saconv_surgeon.planning.scores.short_training import ShortTraining, watching
from saconv_surgeon.records.budgeted_plan import Candidate
from tests.planning.scores.planted import ALL, CONTEXTS, batches_for, of_far, of_mean, parallel, scored


def frozen(**options):
    return parallel(**options).requires_grad_(False)


def test_what_alone_can_lower_the_loss_moves_most():
    model = frozen()
    found = scored(probe, model, batches_for(model, of_far), lr=3e-3)
    assert found.of({"a": "branches"}) > 2 * found.of({"b": "branches"})
    model = frozen()
    found = scored(probe, model, batches_for(model, of_mean), lr=3e-3)
    assert found.of({"a": "contexts"}) > 1.5 * found.of({"b": "contexts"})


def test_figures_are_those_of_the_layer_with_its_parts_taken_out():
    torch.manual_seed(0)
    layer = SAConv2d.from_conv2d(nn.Conv2d(2, 3, 3, padding=1)).double()
    for parameter in layer.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    x = torch.randn(2, 2, 9, 9, dtype=torch.float64)
    with watching({"": layer}) as found, torch.no_grad():
        y = layer(x)
    assert torch.equal(y, layer(x))
    for context in (layer.pre_context, layer.post_context):
        for parameter in context.parameters():
            parameter.data.zero_()
    without = layer(x)
    plain = F.conv2d(x, layer.standardised_weight(), layer.bias, padding=1)
    assert found[""].share("contexts") == pytest.approx(((y - without).norm() / plain.norm()).item(), rel=1e-6)
    assert found[""].share("branches") == pytest.approx(((without - plain).norm() / plain.norm()).item(), rel=1e-6)


def test_gains_of_the_halves_add_up():
    model = parallel()
    found = scored(probe, model, batches_for(model, of_mean), steps=6)
    assert found.name == "probe"
    assert found.of({"a": "all"}) == pytest.approx(found.of({"a": "contexts"}) + found.of({"a": "branches"}))
    assert found.of({"a": "all"}) > 0


def test_rounds_rank_what_was_taken_out_below_what_was_left():
    model = frozen()
    found = scored(probe, model, batches_for(model, of_far), steps=30, rounds=2, lr=3e-3)
    gains = sorted(found.of({path: name}) for path in "ab" for name in ("contexts", "branches"))
    assert found.of({"a": "branches"}) == gains[-1]
    assert gains[0] <= gains[1] <= gains[2]


def test_leaves_the_model_alone():
    model = nn.Sequential(parallel(), nn.BatchNorm2d(2), nn.Dropout()).train()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    state = torch.get_rng_state()
    batches = batches_for(model[0], of_mean)
    torch.set_rng_state(state)
    scored(probe, model, batches, steps=4)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert model.training


def test_the_users_step_is_in_train_mode_and_counts():
    model, seen = parallel(), []

    def step(copied, batch):
        seen.append((copied.training, copied is model))
        return F.mse_loss(copied(batch[0]), batch[1])

    scored(probe, model, batches_for(model, of_mean), step=step, steps=5)
    assert seen == [(True, False)] * 5


def test_progress_ends_with_everything():
    model, seen = parallel(), []
    scored(probe, model, batches_for(model, of_mean), steps=4, on_step=lambda step, done: seen.append(done))
    assert seen == [0.0, 0.25, 0.5, 0.75, 1.0]


class Unreached(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.unused = parallel(), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        self.last = self.unused(x)
        return self.inner(x)


def test_other_targets_and_layers_without_gradient_have_reasons():
    model = Unreached()
    offered = (ALL, CONTEXTS, Candidate("aws", "aws"), Candidate("spconv", "spconv"))
    found = scored(probe, model, batches_for(model.inner, of_mean), offered=offered, steps=3)
    assert found.beside({}, "inner.a", "aws") == 0.0
    assert "does not start from" in found.why_unknown("inner.a", "spconv")
    assert found.beside({}, "unused", "all") is None
    assert "does not depend on it" in found.why_unknown("unused", "all")


def test_only_the_half_that_is_offered_is_trained():
    model = parallel()
    found = scored(probe, model, batches_for(model, of_mean), offered=(CONTEXTS,), steps=3)
    assert found.of({"a": "contexts"}) > 0


def test_bad_losses_and_steps():
    model = parallel()
    batches = batches_for(model, of_mean)
    with pytest.raises(UsageError, match="the loss is nan"):
        scored(probe, model, batches, loss=lambda output, batch: output.sum() * math.nan)
    with pytest.raises(UserCodeError, match="the training step raised KeyError"):
        scored(probe, model, batches, step=lambda copied, batch: {}["x"])
    with pytest.raises(UsageError, match="the loss is a NoneType"):
        scored(probe, model, batches, step=lambda copied, batch: None)


def test_gradients_that_explode_are_said():
    model = nn.Sequential(SAConv2d.from_conv2d(nn.Conv2d(1, 1, 3, padding=1)))
    training = ShortTraining(model, ["0"], None, 3, (0.1, 0.1))
    loss = model(torch.ones(1, 1, 9, 9)).sum() * 1e30 * 1e30
    with pytest.raises(UsageError, match="not finite after 0 steps"):
        training.step(loss)
