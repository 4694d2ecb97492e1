import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from saconv_surgeon.errors import ModelError, UsageError, UserCodeError
from saconv_surgeon.planning.scores.promise import MOST_ROWS, promise
from saconv_surgeon.records.budgeted_plan import Candidate
from tests.planning.scores.planted import (
    ALL,
    BRANCHES,
    CONTEXTS,
    batches_for,
    inputs_of,
    loss,
    of_far,
    of_mean,
    of_noise,
    parallel,
    scored,
)

SMALL = 0.03
"""What is not there."""


def gains_of(found, *paths):
    return {(path, name): found.beside({}, path, name) for path in paths for name in ("contexts", "branches", "all")}


def test_finds_the_contexts_that_alone_can_say_the_mean():
    model = parallel()
    gains = gains_of(scored(promise, model, batches_for(model, of_mean)), "a", "b")
    assert gains["a", "contexts"] > 0.1
    assert gains["a", "contexts"] > 2 * gains["a", "branches"]
    assert max(gains["b", name] for name in ("contexts", "branches", "all")) < SMALL


def test_finds_the_wide_branch_that_alone_can_say_what_is_far_away():
    model = parallel()
    gains = gains_of(scored(promise, model, batches_for(model, of_far)), "a", "b")
    assert gains["a", "branches"] > 0.2
    assert gains["a", "contexts"] < 0.1
    assert max(gains["b", name] for name in ("contexts", "branches", "all")) < SMALL


def test_labels_of_noise_promise_nothing():
    model = parallel()
    gains = gains_of(scored(promise, model, batches_for(model, of_noise)), "a", "b")
    assert max(gains.values()) < SMALL


def test_the_second_of_two_layers_that_do_the_same_adds_next_to_nothing():
    model = parallel(same=True)
    found = scored(promise, model, batches_for(model, of_far))
    alone = found.of({"a": "branches"})
    assert found.of({"b": "branches"}) == pytest.approx(alone, rel=0.05)
    assert found.beside({"a": "branches"}, "b", "branches") < 0.1 * alone


def test_leaves_model_gradients_modes_and_random_state_alone():
    model = nn.Sequential(parallel(), nn.BatchNorm2d(2), nn.Dropout(0.5)).train()
    model[1].eval()
    model[0].a.weight.grad = torch.ones_like(model[0].a.weight)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    batches = batches_for(model[0], of_mean)
    state = torch.get_rng_state()
    scored(promise, model, batches)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert bool((model[0].a.weight.grad == 1).all())
    assert model[0].b.weight.grad is None
    assert not any(module._forward_hooks for module in model.modules())


def test_is_the_same_each_time():
    model = parallel()
    a, b = (scored(promise, model, batches_for(model, of_mean)) for _ in range(2))
    assert a == b


def test_progress_goes_from_nothing_to_everything():
    model, seen = parallel(), []
    scored(promise, model, batches_for(model, of_mean, batches=4), on_step=lambda step, done: seen.append(done))
    assert seen == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_many_samples_are_grouped():
    model = parallel()
    found = scored(promise, model, batches_for(model, of_mean, batches=4, samples=70))
    assert len(found.effects["a"]["contexts"].lowers) == MOST_ROWS
    assert found.of({"a": "contexts"}) > 0.1


def test_groups_hold_the_gradient_of_their_samples():
    """A batch in one row or in eight: the same sum."""
    model = parallel()
    batches = batches_for(model, of_mean, batches=MOST_ROWS, samples=3)
    found = scored(promise, model, batches)
    assert len(found.effects["a"]["contexts"].lowers) == MOST_ROWS
    assert found.of({"a": "contexts"}) > 0.1


class Twice(nn.Module):
    """One layer, called twice, with a mean of both; a layer that is not reached; a layer behind ``no_grad``."""

    def __init__(self):
        super().__init__()
        self.inner = parallel()
        self.unused = nn.Conv2d(4, 4, 3, padding=1)
        self.hidden = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        self.last = self.unused(x)
        with torch.no_grad():
            self.hidden(x)
        return (self.inner(x) + self.inner(x.flip(-1)).flip(-1)) / 2


def test_a_layer_called_twice_is_scored_and_those_without_gradient_say_why():
    model = Twice()
    found = scored(promise, model, batches_for(model, of_mean))
    assert found.beside({}, "inner.a", "contexts") > 0.1
    for path in ("unused", "hidden"):
        assert found.beside({}, path, "all") is None
        assert "does not depend on it" in found.why_unknown(path, "all")
    assert found.why_unknown("inner.a", "all") is None
    assert "not scored" in found.why_unknown("no such layer", "all")


class Wrapped(nn.Module):
    """A model around ``parallel`` that changes how its layers run."""

    def __init__(self, run):
        super().__init__()
        self.inner, self.run = parallel(), run

    def forward(self, x):
        return self.run(self.inner, x)


def frozen(inner, x):
    inner.requires_grad_(False)
    return inner(x)


def overwritten(inner, x):
    return F.relu_(inner.a(x[:, :2])) + inner.b(x[:, 2:]).mul_(1.0)


def unbatched(inner, x):
    return torch.stack([inner.a(one[:2]) + inner.b(one[2:]) for one in x])


@pytest.mark.parametrize(
    "run",
    [
        frozen,
        overwritten,
        unbatched,
        lambda inner, x: checkpoint(inner, x, use_reentrant=False),
        lambda inner, x: inner(x.contiguous(memory_format=torch.channels_last)),
        lambda inner, x: torch.cat([inner(part) for part in x.split(4)]),
    ],
    ids=["frozen", "overwritten", "unbatched", "checkpointed", "channels_last", "in chunks"],
)
def test_however_a_model_runs_its_layers(run):
    model = Wrapped(run)
    found = scored(promise, model, batches_for(model, of_mean))
    assert found.beside({}, "inner.a", "contexts") > 0.05
    assert found.beside({}, "inner.b", "contexts") < 0.03


class Normed(nn.Conv2d):
    """A convolution with a norm inside, as Detectron2 writes them."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.norm = nn.BatchNorm2d(self.out_channels)
        self.activation = None

    def forward(self, x):
        return self.norm(super().forward(x))


def test_parts_lie_before_a_norm_that_is_inside():
    torch.manual_seed(0)
    inside = Normed(2, 2, 3, padding=1)
    outside = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2))
    outside[0].load_state_dict(inside.state_dict(), strict=False)
    for norm in (inside.norm, outside[1]):
        norm.running_mean.fill_(0.3)
        norm.weight.data.fill_(-2.0)
    batches = [(x[:, :2], wanted) for x, wanted in batches_for(lambda x: outside.eval()(x[:, :2]), of_far)]
    a = scored(promise, nn.Sequential(inside), batches)
    b = scored(promise, nn.Sequential(outside), batches)
    for name in ("contexts", "branches", "all"):
        assert a.of({"0": name}) == pytest.approx(b.of({"0.0": name}), rel=1e-3, abs=1e-5)


def test_other_targets_have_a_gain_or_a_reason():
    model = parallel()
    offered = (ALL, Candidate("aws", "aws"), Candidate("spconv", "spconv"), Candidate("deformable", "saconv-deform"))
    found = scored(promise, model, batches_for(model, of_mean), offered=offered)
    assert found.beside({}, "a", "aws") == 0.0
    assert found.beside({}, "a", "spconv") is None
    assert "does not start from what the convolution computes" in found.why_unknown("a", "spconv")
    assert found.beside({}, "a", "deformable") == found.beside({}, "a", "all")


class Detector(nn.Module):
    """Returns losses in training, and something without a gradient in inference."""

    def __init__(self):
        super().__init__()
        self.body = parallel()

    def forward(self, x):
        y = self.body(x)
        return {"maps": y} if self.training else y.detach().argmax(1)


def test_the_loss_may_be_for_what_the_model_returns_in_training():
    model = Detector().eval()
    batches = batches_for(model.body, of_mean)
    found = scored(promise, model, batches, loss=lambda output, batch: F.mse_loss(output["maps"], batch[1]))
    assert found.beside({}, "body.a", "contexts") > 0.1
    assert not model.training


class TwoHeads(nn.Module):
    """Returns an auxiliary output as well in training."""

    def __init__(self):
        super().__init__()
        self.body = parallel()

    def forward(self, x):
        y = self.body(x)
        return (y, y) if self.training else y


def test_or_for_what_it_returns_in_inference():
    model = TwoHeads()
    found = scored(promise, model, batches_for(model.body, of_mean))
    assert found.beside({}, "body.a", "contexts") > 0.1


def test_a_batch_norm_that_trains_does_not_mix_the_samples():
    """A batch of one value per channel cannot be normed in training; here it is not."""
    model = nn.Sequential(parallel(), nn.BatchNorm2d(2)).train()
    batches = batches_for(model[0], of_mean)
    found = scored(promise, model, batches)
    assert found.beside({}, "0.a", "contexts") > 0.1


def of_loss(change):
    return lambda output, batch: change(loss(output, batch), output)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value, output: output, r"the loss has the shape \(8, 2, 12, 12\); needed: one number"),
        (lambda value, output: value.item(), "the loss is a float; needed: a tensor"),
        (lambda value, output: None, "the loss is a NoneType"),
        (lambda value, output: value * math.nan, "the loss is nan"),
        (lambda value, output: value * math.inf, "the loss is inf"),
        (lambda value, output: value.detach(), "does not depend on any of the layers"),
        (lambda value, output: value * 0, "its gradient at all of them is zero"),
        (lambda value, output: (output > 0).sum(), "which has no gradient"),
    ],
)
def test_a_loss_that_says_nothing_is_refused_in_one_sentence(change, message):
    model = parallel()
    with pytest.raises(UsageError, match=message):
        scored(promise, model, batches_for(model, of_mean), loss=of_loss(change))


def test_a_loss_that_raises_keeps_its_traceback():
    model = parallel()
    with pytest.raises(UserCodeError, match="the loss raised KeyError: 'maps'") as raised:
        scored(promise, model, batches_for(model, of_mean), loss=lambda output, batch: {}["maps"])
    assert isinstance(raised.value.__cause__, KeyError)


def test_a_model_that_cannot_be_run_on_a_batch():
    model = parallel()
    batches = batches_for(model, of_mean)
    batches[3] = (batches[3][0][:, :1], batches[3][1])
    with pytest.raises(ModelError, match="Parallel cannot be run on a batch of the data"):
        scored(promise, model, batches)


@pytest.mark.parametrize("count", [0, 1])
def test_one_batch_cannot_be_halved(count):
    model = parallel()
    batches = batches_for(model, of_mean)
    plan_and_more = batches[:1]
    with pytest.raises(UsageError, match="at least two"):
        from saconv_surgeon.surgery.inspect import make_plan

        plan = make_plan(model, batches[0][0])
        promise(model, plan, {"a": [CONTEXTS, BRANCHES]}, iter(plan_and_more[:count]), loss, inputs_of)
