"""Weights that fit under some name, and what is said of those that do not."""

import argparse
import collections
import datetime
import pathlib
import shutil
import sys
import types

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from saconv_surgeon.errors import ModelError, UntrustedError
from saconv_surgeon.models.loading.model_spec import load_model
from saconv_surgeon.models.loading.weight_files import read_weights
from saconv_surgeon.models.loading.weight_fitting import fit_weights
from saconv_surgeon.models.tree.fingerprint import fingerprint
from tests import nets

SPEC = "tests/nets.py:chain"


def state(seed=5):
    torch.manual_seed(seed)
    return nets.chain().state_dict()


def loaded_equals(path, wanted):
    found = load_model(SPEC, weights=path).module.state_dict()
    return all(torch.equal(found[name], wanted[name]) for name in wanted)


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


def test_safetensors(tmp_path):
    wanted = state()
    save_file(wanted, tmp_path / "w.safetensors")
    assert loaded_equals(tmp_path / "w.safetensors", wanted)


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


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_unreadable_files(tmp_path, name):
    with pytest.raises(ModelError, match="does not exist"):
        read_weights(tmp_path / name)
    (tmp_path / name).write_bytes(b"\x00garbage" * 30)
    with pytest.raises(ModelError, match=r"cannot be loaded|not a readable safetensors file"):
        read_weights(tmp_path / name)
    (tmp_path / "folder").mkdir(exist_ok=True)
    with pytest.raises(ModelError, match="is a folder"):
        read_weights(tmp_path / "folder")


def test_pickled_module_is_not_taken_as_weights(tmp_path):
    torch.save(nets.chain(), tmp_path / "w.pt")
    with pytest.raises(UntrustedError):
        read_weights(tmp_path / "w.pt")


def test_file_without_tensors(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match="holds no state dict; it holds 'epoch'"):
        read_weights(tmp_path / "w.pt")


def test_fingerprint_sees_values_and_not_layout():
    torch.manual_seed(0)
    model = nets.chain()
    first = fingerprint(model)
    assert fingerprint(model.to(memory_format=torch.channels_last)) == first
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] += 1e-6
    assert fingerprint(model) != first
    assert fingerprint(nets.chain().bfloat16()) != first


# ------------------------------------------------------------------ how frameworks nest and name what they save

LAYOUTS = {
    "lightning": lambda s: {
        "state_dict": {**{f"model.{k}": v for k, v in s.items()}, "loss.weight": torch.ones(3)},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0)}}}],
        "hyper_parameters": {"lr": 0.1},
    },
    "a module deep inside": lambda s: {f"student.backbone.net.{k}": v for k, v in s.items()},
    "averaged": lambda s: {"n_averaged": torch.tensor(3), **{f"module.{k}": v for k, v in s.items()}},
    "compiled part": lambda s: {
        k.replace("0.", "0._orig_mod.", 1) if k.startswith("0.") else k: v for k, v in s.items()
    },
    "compiled and parallel": lambda s: {f"_orig_mod.module.{k}": v for k, v in s.items()},
    "mmengine": lambda s: {
        "meta": {"epoch": 1},
        "state_dict": {f"backbone.{k}": v for k, v in s.items()},
        "optimizer": {"state": {}, "param_groups": []},
    },
    "timm": lambda s: {"epoch": 2, "arch": "x", "state_dict": {k: v + 1 for k, v in s.items()}, "state_dict_ema": s},
    "the average first": lambda s: {"model": {k: v + 1 for k, v in s.items()}, "model_ema": s},
    "basicsr": lambda s: {"params": {k: v + 1 for k, v in s.items()}, "params_ema": s},
    "with settings": lambda s: {
        "state_dict": s,
        "hyper_parameters": argparse.Namespace(lr=0.1, root=pathlib.Path("x")),
    },
    "with statistics": lambda s: {
        "state_dict": s,
        "message_hub": {
            "loss": np.arange(3.0),
            "last": np.float64(3),
            "seen": collections.deque([1, 2], maxlen=5),
            "counts": collections.defaultdict(int, {"a": 1}),
            "when": datetime.datetime(2020, 1, 1),
        },
    },
    "of old": lambda s: {k: v for k, v in s.items() if not k.endswith("num_batches_tracked")},
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_layouts(tmp_path, layout):
    source = nets.chain()
    for value in source.state_dict().values():
        if value.is_floating_point():
            value.normal_()
    torch.save(layout(source.state_dict()), tmp_path / "w.pth")
    model = nets.chain()
    fit_weights(model, read_weights(tmp_path / "w.pth"), "w.pth")
    for name, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_weights_for_a_model_with_a_compiled_part():
    model = nets.chain()
    model[0] = torch.compile(model[0], backend="eager")
    wanted = state()
    fit_weights(model, wanted, "w.pt")
    assert torch.equal(model[0]._orig_mod.weight, wanted["0.weight"])


class CfgNode(dict):
    """As yacs and others have it: a dict with attributes."""


def test_settings_that_are_dicts(tmp_path, monkeypatch):
    node = CfgNode(lr=0.1, inner=CfgNode(a=[1]))
    node.frozen = True
    monkeypatch.setattr(CfgNode, "__module__", "yacs.config")
    module = types.ModuleType("yacs.config")
    module.CfgNode = CfgNode
    monkeypatch.setitem(sys.modules, "yacs", types.ModuleType("yacs"))
    monkeypatch.setitem(sys.modules, "yacs.config", module)
    torch.save({"state_dict": state(), "cfg": node}, tmp_path / "w.pth")
    monkeypatch.delitem(sys.modules, "yacs.config")
    assert read_weights(tmp_path / "w.pth").keys() == state().keys()


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


@pytest.mark.parametrize(
    "reduced",
    [
        (collections.OrderedDict, (argparse.Namespace(),)),
        (torch.Size, (argparse.Namespace(),)),
        (torch._utils._rebuild_parameter, (argparse.Namespace(), False, collections.OrderedDict())),
    ],
)
def test_settings_where_they_will_not_do(tmp_path, reduced):
    class Odd:
        def __reduce__(self):
            return reduced

    torch.save({"state_dict": state(), "x": Odd()}, tmp_path / "w.pth")
    with pytest.raises((UntrustedError, ModelError)):
        read_weights(tmp_path / "w.pth")


def test_settings_are_passed_over_but_code_is_not(tmp_path):
    """Nothing that is not expected beside weights is read, however harmless its place."""
    torch.save({"state_dict": state(), "hooks": [shutil.rmtree]}, tmp_path / "w.pth")
    with pytest.raises(UntrustedError, match=r"shutil.rmtree"):
        read_weights(tmp_path / "w.pth")
    torch.save({"settings": argparse.Namespace(lr=0.1)}, tmp_path / "none.pth")
    with pytest.raises(ModelError, match="no state dict"):
        read_weights(tmp_path / "none.pth")
