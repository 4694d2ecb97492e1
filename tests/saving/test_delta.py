"""Conversions that are saved without what their original has."""

import json

import pytest
import torch
from safetensors import safe_open
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.saving.delta import TAKEN
from saconv_surgeon.surgery.plan_file import DELTA, PLAN, REPORT, WEIGHTS
from tests import nets, oracle
from tests.saving.conversions import Shared, converted

X = nets.X


def chain():
    torch.manual_seed(0)
    return nets.chain()


def partly(model=None, x=X):
    """One layer of two is converted."""
    return surgeon.convert(chain() if model is None else model, x, include=["0"])


def written(folder):
    with safe_open(folder / DELTA, framework="pt") as file:
        return set(file.keys()), json.loads(file.metadata()[TAKEN])


def assert_comes_back(conversion, folder, original):
    before = {key: value.clone() for key, value in original.state_dict().items()}
    restored = surgeon.restore(original, folder)
    found, wanted = restored.state_dict(), conversion.model.state_dict()
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        assert found[key].dtype == value.dtype
        assert torch.equal(found[key].view(torch.uint8) if value.dim() else found[key], _bits(value)), key
    assert all(torch.equal(v, before[k]) for k, v in original.state_dict().items())
    return restored


def _bits(value):
    return value.view(torch.uint8) if value.dim() else value


def test_what_did_not_move_is_not_written(tmp_path):
    conversion = partly()
    notes = surgeon.save(conversion, tmp_path / "out", base="reference")
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == sorted([PLAN, REPORT, DELTA])
    keys, taken = written(tmp_path / "out")
    assert {"0.weight", "2.weight"} <= taken.keys()
    assert "0.weight_diff" in keys
    assert keys | taken.keys() == conversion.model.state_dict().keys()
    assert not keys & taken.keys()
    assert "% of the model; the rest is taken from its original, the Sequential that was converted" in notes[0]
    assert_comes_back(conversion, tmp_path / "out", chain())


def test_what_training_moved_is_written(tmp_path):
    conversion = partly()
    oracle.shake(conversion.model[0])
    with torch.no_grad():
        conversion.model[2].bias[0] += 1
    surgeon.save(conversion, tmp_path / "out", base="reference")
    keys, taken = written(tmp_path / "out")
    assert {"0.weight", "2.bias"} <= keys
    assert "2.weight" in taken
    restored = assert_comes_back(conversion, tmp_path / "out", chain())
    assert torch.equal(restored.eval()(X), conversion.model.eval()(X))


def test_negative_zeros_and_nans_are_values_of_their_own(tmp_path):
    original = chain()
    with torch.no_grad():
        original[2].bias.zero_()
    conversion = partly(original)
    with torch.no_grad():
        conversion.model[2].bias.neg_()
    surgeon.save(conversion, tmp_path / "out", base="reference")
    assert "2.bias" in written(tmp_path / "out")[0]


def test_another_original_is_refused_with_both_fingerprints(tmp_path):
    conversion = partly()
    surgeon.save(conversion, tmp_path / "out", base="reference")
    other = chain()
    with torch.no_grad():
        other[2].weight[0, 0, 0, 0] += 1e-7
    from saconv_surgeon.models.tree.fingerprint import fingerprint

    with pytest.raises(surgeon.ArtefactError, match="holds only what differs from its original") as raised:
        surgeon.restore(other, tmp_path / "out")
    assert fingerprint(other) in str(raised.value)
    assert conversion.plan.base.fingerprint in str(raised.value)


def test_how_the_original_was_built_is_told(tmp_path):
    base = surgeon.records.Base(model="timm:resnet50", pretrained=True)
    surgeon.save(surgeon.convert(chain(), X, include=["0"], base=base), tmp_path / "a", base="reference")
    base = surgeon.records.Base(model="nets.py:chain", weights="w.safetensors")
    surgeon.save(surgeon.convert(chain(), X, include=["0"], base=base), tmp_path / "b", base="reference")
    other = chain().double()
    with pytest.raises(surgeon.ArtefactError, match="was timm:resnet50 with its published weights"):
        surgeon.restore(other, tmp_path / "a")
    with pytest.raises(surgeon.ArtefactError, match=r"was nets.py:chain with the weights of w\.safetensors"):
        surgeon.restore(other, tmp_path / "b")


def test_where_everything_moved_the_whole_is_written_and_said(tmp_path):
    conversion = converted(chain())
    with torch.no_grad():
        for parameter in conversion.model.parameters():
            parameter += 0.1
    notes = surgeon.save(conversion, tmp_path / "out", base="reference")
    assert "the whole was written, which needs no original" in notes[0]
    assert (tmp_path / "out" / WEIGHTS).exists()
    assert not (tmp_path / "out" / DELTA).exists()
    other = chain()
    with torch.no_grad():
        other[2].weight += 1
    assert_comes_back(conversion, tmp_path / "out", other)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes_come_back(tmp_path, dtype):
    conversion = partly(chain().to(dtype), X.to(dtype))
    surgeon.save(conversion, tmp_path / "out", base="reference")
    assert_comes_back(conversion, tmp_path / "out", chain().to(dtype))
    with pytest.raises(surgeon.ArtefactError, match="another Sequential"):
        surgeon.restore(chain().to(torch.float32), tmp_path / "out")


def test_a_model_that_was_cast_afterwards_is_written_whole(tmp_path):
    conversion = partly()
    conversion.model.half()
    surgeon.save(conversion, tmp_path / "out", base="reference")
    assert_comes_back(conversion, tmp_path / "out", chain())


class CastsItsState(nn.Module):
    """Hands out another value for its kernel than it holds, and keeps a buffer to itself."""

    def __init__(self):
        super().__init__()
        self.conv, self.other = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self._register_state_dict_hook(self._cast)

    @staticmethod
    def _cast(module, state, prefix, metadata):
        state[f"{prefix}other.weight"] = state[f"{prefix}other.weight"].half().float()

    def forward(self, x):
        return self.other(self.conv(x))


class KeepsAPartToItself(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.frozen = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self._register_state_dict_hook(self._drop)

    @staticmethod
    def _drop(module, state, prefix, metadata):
        for key in [key for key in state if key.startswith(f"{prefix}frozen.")]:
            del state[key]

    def forward(self, x):
        return self.frozen(self.conv(x))


@pytest.mark.parametrize(("make", "layer"), [(Shared, "a"), (CastsItsState, "conv"), (KeepsAPartToItself, "conv")])
def test_models_of_unusual_states(tmp_path, make, layer):
    torch.manual_seed(1)
    original = make().eval()
    conversion = surgeon.convert(original, X, include=[layer])
    oracle.shake(conversion.model.get_submodule(layer))
    surgeon.save(conversion, tmp_path / "out", base="reference")
    torch.manual_seed(1)
    restored = surgeon.restore(make().eval(), tmp_path / "out")
    assert torch.equal(restored(X), conversion.model.eval()(X))


def test_sparse_and_quantised_values_are_always_written(tmp_path):
    original = chain()
    original.register_buffer("few", torch.eye(4).to_sparse())
    conversion = partly(original)
    surgeon.save(conversion, tmp_path / "out", base="reference")
    assert not any(key.startswith("few") for key in written(tmp_path / "out")[1])
    again = chain()
    again.register_buffer("few", torch.eye(4).to_sparse())
    restored = surgeon.restore(again, tmp_path / "out")
    assert torch.equal(restored.few.to_dense(), torch.eye(4))


def test_absorbed_norms(tmp_path):
    torch.manual_seed(3)
    original = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.SiLU(), nn.Conv2d(4, 4, 3)).eval()
    conversion = surgeon.convert(original, X, include=["0"], absorb=True)
    surgeon.save(conversion, tmp_path / "out", base="reference")
    assert_comes_back(conversion, tmp_path / "out", original)


def test_wrapped_originals(tmp_path):
    conversion = partly()
    surgeon.save(conversion, tmp_path / "out", base="reference")
    restored = surgeon.restore(nn.DataParallel(chain()), tmp_path / "out")
    assert torch.equal(restored.eval()(X), conversion.model.eval()(X))


def test_what_was_converted_before_has_no_known_original(tmp_path):
    first = partly()
    surgeon.save(first, tmp_path / "first")
    second = surgeon.convert(first.model, X, earlier=tmp_path / "first")
    with pytest.raises(surgeon.UsageError, match="was made from a model that was converted before; save it whole"):
        surgeon.save(second, tmp_path / "out", base="reference")
    alone = surgeon.convert(first.model, X)  # the converted model is the original here, as it is given
    surgeon.save(alone, tmp_path / "out", base="reference")
    restored = surgeon.restore(first.model, tmp_path / "out")
    assert torch.equal(restored.eval()(X), alone.model.eval()(X))


def test_where_it_makes_no_sense(tmp_path):
    conversion = partly()
    with pytest.raises(surgeon.UsageError, match=r"out\.pt holds a whole model"):
        surgeon.save(conversion, tmp_path / "out.pt", base="reference")
    with pytest.raises(surgeon.UsageError, match='give "whole" or "reference"'):
        surgeon.save(conversion, tmp_path / "out", base="delta")
    oracle.shake(conversion.model[0])
    with pytest.raises(surgeon.UsageError, match="a folded model is saved whole"):
        surgeon.save(surgeon.fold(conversion.model, X), tmp_path / "out.pt", base="reference")
    assert not list(tmp_path.iterdir())


def test_a_delta_and_a_whole_replace_each_other(tmp_path, monkeypatch):
    whole, delta = converted(chain()), partly()
    place = tmp_path / "out"
    for exchanged in (True, False):
        if not exchanged:
            monkeypatch.setattr("saconv_surgeon.saving.replace_folder.exchange", lambda *a: False)
        for conversion, base, name in ((whole, "whole", WEIGHTS), (delta, "reference", DELTA)) * 2:
            surgeon.save(conversion, place, base=base, overwrite=True)
            assert sorted(each.name for each in place.iterdir()) == sorted([PLAN, REPORT, name])
            restored = surgeon.restore(chain(), place)
            assert torch.equal(restored.eval()(X), conversion.model.eval()(X))


def test_a_file_that_was_changed_is_refused(tmp_path):
    surgeon.save(partly(), tmp_path / "out", base="reference")
    surgeon.save(converted(chain()), tmp_path / "other")
    content = (tmp_path / "out" / DELTA).read_bytes()
    (tmp_path / "out" / DELTA).write_bytes(content.replace(b'"0.bias', b'"1.bias'))
    with pytest.raises(surgeon.ArtefactError, match=r"is not the file that plan\.json was written for"):
        surgeon.restore(chain(), tmp_path / "out")
    (tmp_path / "out" / DELTA).unlink()
    with pytest.raises(surgeon.ArtefactError, match=r"delta\.safetensors is missing"):
        surgeon.restore(chain(), tmp_path / "out")


@pytest.mark.parametrize("notes", [None, "x", "[]", '{"0.weight": 3}'])
def test_a_file_that_does_not_say_what_it_leaves_out(tmp_path, notes):
    from safetensors.torch import load_file, save_file

    from saconv_surgeon.saving.conversion_folder import sha256

    folder = tmp_path / "out"
    surgeon.save(partly(), folder, base="reference")
    save_file(load_file(folder / DELTA), folder / DELTA, metadata=None if notes is None else {TAKEN: notes})
    content = json.loads((folder / PLAN).read_text())
    content["files"][DELTA] = sha256(folder / DELTA)
    (folder / PLAN).write_text(json.dumps(content))
    with pytest.raises(surgeon.ArtefactError, match="does not say what it leaves out"):
        surgeon.restore(chain(), folder)


def test_one_tensor_that_the_fingerprint_does_not_see(tmp_path):
    """The sha256 of each tensor is checked, not that of the whole alone."""
    conversion = partly()
    folder = tmp_path / "out"
    surgeon.save(conversion, folder, base="reference")
    other = chain()
    with torch.no_grad():
        other[2].weight += 1
    from saconv_surgeon.models.tree.fingerprint import fingerprint

    content = json.loads((folder / PLAN).read_text())
    content["base"]["fingerprint"] = fingerprint(other)
    (folder / PLAN).write_text(json.dumps(content))
    with pytest.raises(surgeon.ArtefactError, match=r"leaves '2\.weight' to its original"):
        surgeon.restore(other, folder)


def test_the_notes_of_layers_of_an_inexact_target_come_back(tmp_path):
    torch.manual_seed(2)
    original = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3)).eval()
    conversion = surgeon.convert(original, X, target="spconv", include=["2"])
    surgeon.save(conversion, tmp_path / "out", base="reference")
    assert_comes_back(conversion, tmp_path / "out", original)
