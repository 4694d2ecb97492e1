"""What trainers store besides the weights."""

import argparse
import collections
import shutil
import sys
import types

import pytest
import torch

from saconv_surgeon.errors import ModelError, UntrustedError
from saconv_surgeon.models.loading.weight_files import read_weights
from tests.models.loading.states import state


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
