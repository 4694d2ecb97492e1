"""The state of a model in a folder: everything comes back, whatever its kind, or is refused before it is too late."""

import pytest
import torch
import torch.ao.nn.quantized as quantised
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.errors import ArtefactError, ModelError
from saconv_surgeon.saving.stored_state import check_storable, stored_state
from tests import oracle
from tests.models.tree.test_tensor_forms import cases, described

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # torch calls sparse and quantised tensors beta
X = torch.randn(1, 3, 9, 9, generator=torch.Generator().manual_seed(1))


class Holder(nn.Module):
    def __init__(self, buffer):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("held", buffer)
        self.register_buffer("passing", torch.ones(2), persistent=False)

    def forward(self, x):
        return self.conv(x)


TENSORS = {name: value for name, value in cases().items() if isinstance(value, torch.Tensor)}


@pytest.mark.parametrize("name", TENSORS)
def test_buffers_come_back(tmp_path, name):
    value = TENSORS[name]
    conversion = surgeon.convert(Holder(value), X)
    oracle.shake(conversion.model.conv)
    surgeon.save(conversion, tmp_path / "out")
    fresh = value.clone() if name == "coo, empty" or value.is_quantized else torch.zeros_like(value)
    restored = surgeon.restore(Holder(fresh), tmp_path / "out")
    assert described(restored.held) == described(conversion.model.held)
    assert torch.equal(restored(X), conversion.model(X))


class KeepsOut(Holder):
    """A frozen part that stays out of checkpoints."""

    def __init__(self):
        super().__init__(torch.ones(1))
        self.frozen = nn.Conv2d(4, 4, 3)

    def state_dict(self, *args, **kwargs):
        return {k: v for k, v in super().state_dict(*args, **kwargs).items() if not k.startswith("frozen")}

    def forward(self, x):
        return self.frozen(self.conv(x))


class ByHook(KeepsOut):
    """The same by a hook, on the part itself."""

    def __init__(self):
        super().__init__()
        self.frozen.register_state_dict_post_hook(self.drop)

    @staticmethod
    def drop(module, state, prefix, metadata):
        for key in [key for key in state if key.startswith(prefix)]:
            del state[key]

    state_dict = nn.Module.state_dict


class Silent(nn.BatchNorm2d):
    def _save_to_state_dict(self, destination, prefix, keep_vars):
        pass


class BySaving(KeepsOut):
    """The same by a module that saves nothing."""

    def __init__(self):
        super().__init__()
        self.frozen = Silent(4)

    state_dict = nn.Module.state_dict


class Renames(Holder):
    """Hands its weights out under other names, and does not take them back."""

    def state_dict(self, *args, **kwargs):
        return {f"model.{k}": v for k, v in super().state_dict(*args, **kwargs).items()}


class Casts(Holder):
    """Hands its weights out in half precision."""

    def state_dict(self, *args, **kwargs):
        return {k: v.half() for k, v in super().state_dict(*args, **kwargs).items()}


@pytest.mark.parametrize(
    "make", [KeepsOut, ByHook, BySaving, lambda: Renames(torch.ones(1)), lambda: Casts(torch.ones(1))]
)
def test_parts_that_the_state_dict_leaves_out_come_back(tmp_path, make):
    model = make()
    for parameter in model.parameters():
        nn.init.normal_(parameter)  # as a training leaves them: another model of the class has other values
    conversion = surgeon.convert(model.eval(), X)
    oracle.shake(conversion.model.conv)
    surgeon.save(conversion, tmp_path / "out")
    restored = surgeon.restore(make().eval(), tmp_path / "out")
    assert torch.equal(restored(X), conversion.model(X))
    assert [p.dtype for p in restored.parameters()] == [p.dtype for p in conversion.model.parameters()]


def test_tied_and_overlapping_buffers(tmp_path):
    class Views(Holder):
        def __init__(self):
            super().__init__(torch.arange(6.0))
            self.register_buffer("same", self.held)
            self.register_buffer("part", self.held[2:])

    conversion = surgeon.convert(Views(), X)
    conversion.model.held += 1
    surgeon.save(conversion, tmp_path / "out")
    restored = surgeon.restore(Views(), tmp_path / "out")
    assert restored.held is restored.same
    assert restored.held.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert restored.part.tolist() == [3.0, 4.0, 5.0, 6.0]


class Quantised(nn.Module):
    """A packed kernel between two float ones, and a packed linear layer behind."""

    def __init__(self):
        super().__init__()
        self.a, self.q, self.b = nn.Conv2d(3, 8, 3, padding=1), quantised.Conv2d(8, 8, 3), nn.Conv2d(8, 4, 3)
        self.q.set_weight_bias(torch.quantize_per_tensor(torch.randn(8, 8, 3, 3), 0.1, 0, torch.qint8), torch.randn(8))
        self.last = torch.ao.nn.quantized.dynamic.Linear(4, 2)
        self.last.set_weight_bias(torch.quantize_per_tensor(torch.randn(2, 4), 0.1, 0, torch.qint8), torch.randn(2))

    def forward(self, x):
        packed = self.q(torch.quantize_per_tensor(self.a(x), 0.05, 64, torch.quint8))
        return self.last(self.b(packed.dequantize()).mean((2, 3)))


def test_packed_weights_come_back(tmp_path):
    model = Quantised().eval()
    conversion = surgeon.convert(model, X)
    assert [(s.path, s.reason_code) for s in conversion.plan.sites] == [("a", None), ("q", "quantised"), ("b", None)]
    assert torch.equal(conversion.model(X), model(X))
    oracle.shake(conversion.model.a)
    surgeon.save(conversion, tmp_path / "out")
    restored = surgeon.restore(Quantised().eval(), tmp_path / "out")
    assert torch.equal(restored(X), conversion.model(X))
    assert torch.equal(surgeon.revert(surgeon.convert(model, X).model)(X), model(X))


class Odd(Holder):
    def get_extra_state(self):
        return {"when": object()}

    def set_extra_state(self, state):
        pass


def test_what_cannot_be_stored_is_refused(tmp_path):
    with pytest.raises(
        ModelError, match=r"more than plain tensors \(first: _extra_state, a object\); save to a .pt file"
    ):
        check_storable(Odd(torch.ones(1)))
    with pytest.raises(ModelError, match="more than plain tensors"):
        surgeon.save(surgeon.convert(Odd(torch.ones(1)), X), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_notes_that_do_not_fit_are_refused(tmp_path):
    import json

    surgeon.save(surgeon.convert(Holder(torch.eye(4).to_sparse()), X), tmp_path / "out")
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    plan["state"]["forms"]["held"]["indices"] = {"kind": "plain", "tensor": "nothing"}
    (tmp_path / "out" / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(ArtefactError, match="notes on the stored state do not fit"):
        surgeon.restore(Holder(torch.eye(4).to_sparse()), tmp_path / "out")


def test_plain_states_need_no_notes():
    assert stored_state(Holder(torch.ones(1))).notes() == {}
