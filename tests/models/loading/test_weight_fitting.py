"""Weights under other names, and weights that do not fit."""

import pytest
import torch

from saconv_surgeon.errors import ModelError
from saconv_surgeon.models.loading.weight_files import read_weights
from saconv_surgeon.models.loading.weight_fitting import fit_weights
from saconv_surgeon.models.tree.fingerprint import fingerprint
from tests import nets
from tests.models.loading.states import loaded_equals, state


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {f"_orig_mod.{k}": v for k, v in s.items()},
        lambda s: {f"module._orig_mod.{k}": v for k, v in s.items()},
        lambda s: {f"model.{k}": v for k, v in s.items()},
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"epoch": 3, "model": {f"module.{k}": v for k, v in s.items()}, "optimizer": {"lr": 0.1}},
        lambda s: {"ema": {"module": s}},
    ],
)
def test_prefixes_and_nestings(tmp_path, wrap):
    wanted = state()
    torch.save(wrap(wanted), tmp_path / "w.pth")
    assert loaded_equals(tmp_path / "w.pth", wanted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("0.bias"), r"of 9 tensors, 1 missing in the file \(first: 0.bias\)"),
        (lambda s: s.update(extra=torch.zeros(1)), r"1 unknown to the model \(first: extra\)"),
        (
            lambda s: s.update({"0.weight": torch.zeros(1, 3, 3, 3)}),
            r"1 of another shape \(first: 0.weight, file float32 \(1, 3, 3, 3\), model float32 \(4, 3, 3, 3\)\)",
        ),
    ],
)
def test_weights_that_do_not_fit_change_nothing(change, message):
    weights, model = state(), nets.chain()
    before = fingerprint(model)
    change(weights)
    with pytest.raises(ModelError, match=message):
        fit_weights(model, weights, "w.pt")
    assert fingerprint(model) == before


def test_weights_for_a_model_with_a_compiled_part():
    model = nets.chain()
    model[0] = torch.compile(model[0], backend="eager")
    wanted = state()
    fit_weights(model, wanted, "w.pt")
    assert torch.equal(model[0]._orig_mod.weight, wanted["0.weight"])


@pytest.mark.parametrize(
    "change",
    [
        lambda s: {**s, 3: torch.ones(1)},
        lambda s: {**s, "0.weight": s["0.weight"].to_sparse()},
        lambda s: {**s, "0.weight": s["0.weight"].to("meta")},
        lambda s: {**s, "0.weight": torch.quantize_per_tensor(s["0.weight"], 0.1, 0, torch.qint8)},
        lambda s: {**s, "0.weight": s["0.weight"].to(torch.complex64)},
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_strange_tensors_and_names(tmp_path, change):
    torch.save(change(state()), tmp_path / "w.pth")
    model = nets.chain()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    try:
        fit_weights(model, read_weights(tmp_path / "w.pth"), "w.pth")
    except ModelError as error:
        assert "of another kind" in str(error)
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    else:
        assert all(
            torch.equal(v, state()[k]) for k, v in model.state_dict().items()
        )  # the name that is none is no weight
