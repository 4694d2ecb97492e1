"""Tensors of every kind are copied, compared and put back: by hand, bytes or parts."""

import json

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.errors import ModelError
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.redrawing import digest_of
from saconv_surgeon.models.running.state import preserved
from saconv_surgeon.models.tree.tensor_values import copy_of, put_back, same_values
from tests.verbs import VERBS

X = torch.randn(2, 3, 8, 8)
BYTES = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]], dtype=torch.uint8)
WITHOUT_EQUAL = [torch.complex32, torch.float4_e2m1fn_x2, torch.bits8, torch.int4, torch.uint4]
PARTS = [torch.arange(6.0).view(2, 3), torch.ones(1, 3)]
pytestmark = pytest.mark.filterwarnings(
    "ignore:The PyTorch API of nested tensors", "ignore:ComplexHalf", "ignore:Sparse"
)


def nested(layout=torch.strided):
    return torch.nested.nested_tensor(PARTS, layout=layout)


class Holds(nn.Module):
    def __init__(self, held):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 1))
        if isinstance(held, nn.Parameter):
            self.held = held
        else:
            self.register_buffer("held", held)

    def forward(self, x):
        return self.net(x)


@pytest.mark.parametrize("dtype", WITHOUT_EQUAL, ids=str)
def test_kinds_of_numbers_that_torch_cannot_compare(dtype):
    t = BYTES.clone().view(dtype)
    value = copy_of(t)
    assert same_values(t, value)
    t.view(torch.uint8)[1, 0] = 9
    assert not same_values(t, value)
    put_back(t, value)
    assert torch.equal(t.view(torch.uint8), BYTES)


@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_nested_buffers_are_put_back(layout):
    model = Holds(nested(layout))
    held = model.held
    with preserved(model):
        for part in held.unbind():
            part.add_(1)
    assert model.held is held
    assert all(map(torch.equal, held.unbind(), PARTS))


def test_the_same_is_of_the_same_kind_and_sizes():
    assert not same_values(torch.ones(2), torch.ones(3))
    assert not same_values(torch.ones(2), torch.ones(2, dtype=torch.float64))
    assert not same_values(nested(), torch.ones(2, 3))
    assert not same_values(nested(), torch.nested.nested_tensor(PARTS[:1]))
    assert same_values(nested(), nested())
    assert same_values(torch.tensor([float("nan"), 1]), torch.tensor([float("nan"), 1]))


HELD = {
    **{str(dtype): lambda dtype=dtype: BYTES.clone().view(dtype) for dtype in WITHOUT_EQUAL},
    "nested": nested,
    "mkldnn": lambda: torch.ones(2, 2).to_mkldnn(),
    "coo parameter": lambda: nn.Parameter(torch.eye(3).to_sparse()),
    "csr parameter": lambda: nn.Parameter(torch.eye(3).to_sparse_csr()),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("kind", HELD)
@pytest.mark.filterwarnings("ignore::saconv_surgeon.NoEffectWarning")
def test_every_verb_takes_a_model_that_holds_one(kind, verb):
    VERBS[verb](Holds(HELD[kind]()), X)


@pytest.mark.parametrize("kind", [k for k in HELD if k not in ("nested", "mkldnn")])
def test_conversions_are_saved_and_restored(kind, tmp_path):
    model = Holds(HELD[kind]())
    surgeon.save(surgeon.convert(model, X), tmp_path / "saved")
    other = Holds(HELD[kind]())
    found = surgeon.restore(other, tmp_path / "saved").held
    assert found.layout is model.held.layout
    assert isinstance(found, nn.Parameter) is isinstance(model.held, nn.Parameter)
    if found.layout is torch.strided:
        assert torch.equal(found.view(torch.uint8), BYTES)
    else:
        assert torch.equal(found.to_dense(), torch.eye(3))


@pytest.mark.parametrize("name", ["saved", "saved.pt", "saved.pt2"])
def test_what_torch_cannot_write_is_said_before(name, tmp_path):
    conversion = surgeon.convert(Holds(torch.ones(2, 2).to_mkldnn()), X)
    with pytest.raises(ModelError, match=r"held is in the layout of MKL-DNN.*put held\.to_dense\(\)"):
        surgeon.save(conversion, tmp_path / name, example_inputs=X)
    assert list(tmp_path.iterdir()) == []


class TakesNested(Holds):
    def forward(self, x):
        return self.net(torch.nested.to_padded_tensor(x, 0.0, (2, 3, 8, 8)))


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.filterwarnings("ignore::saconv_surgeon.NoEffectWarning")
def test_every_verb_takes_strided_nested_inputs(verb):
    given = torch.nested.nested_tensor([torch.randn(3, 8, 5), torch.randn(3, 6, 8)])
    VERBS[verb](TakesNested(None), given)


def test_nested_inputs_have_a_recorded_problem(tmp_path):
    given = torch.nested.nested_tensor([torch.randn(3, 8, 5), torch.randn(3, 6, 8)])
    surgeon.save(surgeon.convert(TakesNested(None), given), tmp_path / "saved")
    recorded = json.loads((tmp_path / "saved" / "report.json").read_text())["inputs"]
    assert recorded["problem"] == "argument 1 is a nested tensor (torch.strided)"


@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_digests_tell_nested_values_apart(layout):
    other = torch.nested.nested_tensor([PARTS[0], 2 * PARTS[1]], layout=layout)
    first, second, third = (digest_of(Inputs.of((t,)).args) for t in (nested(layout), nested(layout), other))
    assert first == second != third


def test_weights_are_compared():
    a, b = Holds(BYTES.clone().view(torch.float4_e2m1fn_x2)), Holds((BYTES + 1).view(torch.float4_e2m1fn_x2))
    b.net.load_state_dict(a.net.state_dict())
    assert [w.name for w in surgeon.diff(a, b, X, timing=None).weights.changed] == ["held"]
    a, b = Holds(nested()), Holds(torch.nested.nested_tensor([PARTS[0], PARTS[1] * float("nan")]))
    b.net.load_state_dict(a.net.state_dict())
    found = surgeon.diff(a, b, X, timing=None).weights
    assert [w.name for w in found.changed] == ["held"]
    assert found.not_finite == ("held[1]: 3 NaN in B",)
