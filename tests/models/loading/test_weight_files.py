"""Weights that fit under some name, and what is said of those that do not."""

import argparse
import collections
import datetime
import pathlib

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from saconv_surgeon.errors import ModelError, UntrustedError
from saconv_surgeon.models.loading.weight_files import read_weights
from saconv_surgeon.models.loading.weight_fitting import fit_weights
from tests import nets
from tests.models.loading.states import loaded_equals, state


def test_safetensors(tmp_path):
    wanted = state()
    save_file(wanted, tmp_path / "w.safetensors")
    assert loaded_equals(tmp_path / "w.safetensors", wanted)


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
