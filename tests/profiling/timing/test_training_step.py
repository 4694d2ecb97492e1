"""What a training step is said to cost, against what autograd keeps by hand."""

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.errors import ModelError
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.profiling.timing.training_step import price_training, saved_bytes
from saconv_surgeon.records import Timing

CPU = torch.device("cpu")
N, C, K, H = 2, 3, 4, 8
X = torch.randn(N, C, H, H)


def saved(model, x=X):
    with torch.enable_grad():
        return saved_bytes(model, Inputs.of(x))


def test_saved_bytes_by_hand():
    """A convolution keeps what it read, ReLU what it wrote, a norm its input and two statistics for each channel."""
    conv, norm = nn.Conv2d(C, K, 3, padding=1), nn.BatchNorm2d(K)
    x, y = N * C * H * H, N * K * H * H
    assert saved(conv) == 4 * x
    assert saved(nn.Sequential(conv, nn.ReLU())) == 4 * (x + y)
    assert saved(nn.Sequential(conv, nn.ReLU(inplace=True))) == 4 * (x + y)
    assert saved(nn.Sequential(conv, norm, nn.ReLU()).train()) == 4 * (x + y + y + 2 * K)
    assert saved(nn.Sequential(conv, nn.ReLU(), nn.ReLU())) == 4 * (x + y + y)


def test_views_keep_their_whole_memory_once():
    class Halves(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x):
            y = x * 2
            return (y[:1] * self.scale).sum() + (y[1:] * self.scale).sum()

    assert saved(Halves()) == 4 * X.numel()


def cost(model, x=X, **settings):
    (found,), ratio = price_training([model], Inputs.of(x), CPU, Timing(budget_s=0.05, training=True, **settings))
    assert ratio is None
    return found


def test_a_step_leaves_nothing_behind():
    model = nn.Sequential(nn.Conv2d(C, K, 3), nn.BatchNorm2d(K), nn.Dropout())
    model[1].eval()
    model[0].weight.grad = torch.full_like(model[0].weight, 7.0)
    state, random = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    found = cost(model)
    assert found.forward_s > 0
    assert found.backward_s > 0
    assert found.step.median_s >= max(found.forward_s, found.backward_s)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert bool((model[0].weight.grad == 7).all())
    assert model[0].bias.grad is None
    assert [m.training for m in model] == [True, False, True]
    assert torch.equal(torch.get_rng_state(), random)


def test_hooks_that_step_do_not_train_the_model_and_inputs_get_no_gradient():
    model, x = nn.Linear(4, 3), torch.randn(2, 4, requires_grad=True)
    steps = []

    def step(parameter):
        steps.append(1)
        with torch.no_grad():
            parameter.sub_(parameter.grad)

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(step)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    with torch.no_grad():
        cost(model, x)
    assert steps
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert x.grad is None


def test_autocast_is_in_the_memory_too():
    model, x = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64)), torch.randn(32, 64)
    plain, half = cost(model, x), cost(model, x, autocast="bfloat16")
    assert plain.saved_bytes == 4 * 32 * (64 + 256)
    assert half.saved_bytes != plain.saved_bytes


def test_the_first_batch_size_counts():
    assert cost(nn.Conv2d(C, K, 3), batches=(5, 7)).step.batch == 5


def test_peak_holds_weights_activations_and_gradients():
    model = nn.Linear(1000, 1000, bias=False)
    found = cost(model, torch.randn(1, 1000))
    weights = 4 * 1000 * 1000
    assert 2 * weights < found.peak_memory_bytes < 2.1 * weights
    assert found.saved_bytes == 4 * 1000


def test_a_view_of_the_input_is_the_input():
    x, linear = torch.randn(2, 3, 20, 20), nn.Linear(1200, 5)
    assert (
        cost(nn.Sequential(nn.Flatten(), linear), x).peak_memory_bytes == cost(linear, x.flatten(1)).peak_memory_bytes
    )


def test_it_runs_in_train_mode_with_gradients_under_the_settings():
    seen = set()

    class Watching(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def forward(self, x):
            y = self.linear(x)
            seen.add((self.training, torch.is_grad_enabled(), y.dtype))
            return {"loss": y, "names": ["a"]}

    found = cost(Watching(), torch.randn(2, 8), autocast="bfloat16")
    assert (True, True, torch.bfloat16) in seen
    assert {(training, grad) for training, grad, _ in seen} == {(True, True)}
    assert found.step.autocast == "bfloat16"


@pytest.mark.parametrize(
    ("model", "x", "message"),
    [
        (nn.Conv2d(C, K, 3).requires_grad_(False), X, "no output depends on a parameter that is trained"),
        (nn.BatchNorm2d(C), torch.randn(1, C, 1, 1), "Expected more than 1 value per channel"),
    ],
    ids=["frozen", "one value"],
)
def test_models_that_cannot_be_trained_say_so(model, x, message):
    with pytest.raises(ModelError, match=f"cannot be trained on these inputs .*{message}.*leave --train out"):
        cost(model, x)
    assert all(p.grad is None for p in model.parameters())


def test_conversion_is_priced_in_training_too():
    model = nn.Sequential(nn.Conv2d(C, 16, 3, padding=1), nn.ReLU())
    conversion = surgeon.price(surgeon.convert(model, X), model, X, timing=Timing(budget_s=0.2, training=True))
    before, after = conversion.before.training, conversion.after.training
    assert after.saved_bytes > 2 * before.saved_bytes
    assert conversion.training_ratio.median > 1
    record = conversion.to_dict()
    assert record["training_ratio"]["median"] == conversion.training_ratio.median
    assert record["after"]["training"]["saved_bytes"] == after.saved_bytes
