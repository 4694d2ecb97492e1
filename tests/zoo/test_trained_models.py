"""Trained weights: converted, proved, folded back, folded after a training, and told apart."""

import copy

import pytest
import torch

import saconv_surgeon as surgeon
from saconv_surgeon.models.running.output_leaves import tensors
from tests import oracle
from tests.zoo.catalogue import Entry
from tests.zoo.test_zoo import keep
from tests.zoo.trained_models import MODELS

pytestmark = [pytest.mark.zoo, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@torch.no_grad()
def outputs(model, x):
    return [t.clone() for t in tensors(model.eval()(x))]


def moved(model):
    """As after a training, by little: every part of every layer away from its start."""
    model = copy.deepcopy(model)
    for i, layer in enumerate(m for m in model.modules() if isinstance(m, surgeon.SAConv2d)):
        oracle.shake(layer, seed=i, size=0.01)
    return model


@pytest.mark.parametrize("name", MODELS)
def test_trained_weights_convert_fold_and_diff(name):
    original, x = MODELS[name]()
    original.eval()
    wanted = outputs(original, x)
    assert any(float(t.float().std()) > 0 for t in wanted if t.numel() > 1), "equality would prove nothing"
    state = {key: value.clone() for key, value in original.state_dict().items()}

    conversion = surgeon.convert(original, x, allow_depthwise=True, trials=2)
    assert conversion.equivalence.bit_equal
    assert conversion.converted > 0
    assert all(torch.equal(a, b) for a, b in zip(outputs(conversion.model, x), wanted, strict=True))
    assert all(torch.equal(value, state[key]) for key, value in original.state_dict().items())

    found = surgeon.diff(original, conversion.model, x, timing=None)
    assert set(conversion.plan.converted_paths) <= {change.path for change in found.structure}
    assert found.outputs.bit_equal
    assert not (found.weights.changed or found.weights.only_in_a)
    assert {use.use for use in found.freedom_b} == {"at rest"}

    fresh = surgeon.fold(conversion.model, x)
    assert fresh.equivalence.bit_equal
    assert list(fresh.model.state_dict()) == list(state)
    assert all(torch.equal(value, state[key]) for key, value in fresh.model.state_dict().items())
    assert not any(isinstance(m, surgeon.ConvertedLayer) for m in fresh.model.modules())

    trained = moved(conversion.model)
    assert not all(torch.equal(a, b) for a, b in zip(outputs(trained, x), wanted, strict=True))
    folding = surgeon.fold(trained, x)
    assert folding.equivalence.passed, folding.equivalence
    assert folding.ledger.kept == 0
    told = surgeon.diff(original, trained, x, timing=None)
    assert not told.outputs.bit_equal
    assert "at rest" not in {use.use for use in told.freedom_b}
    ledger = conversion.plan.ledger
    row = {"model": name, "executed": ledger.executed, "converted": ledger.converted, "bit_equal": True}
    keep(row | {"folded_max_rel": folding.equivalence.max_rel}, Entry("weights", "", name), "trained")
