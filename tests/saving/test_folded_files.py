"""Folded models as files: what each gives when it is run again, at sizes that it was not made for, and what is refused."""

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.convs import foldable
from saconv_surgeon.errors import ModelError, NotEquivalentError, UsageError
from saconv_surgeon.saving import export_engines, folded_files
from tests import oracle
from tests.folding.models import X, outputs
from tests.saving.folded_models import needs_onnx


def test_pickle(model, folding, tmp_path):
    assert surgeon.save(folding, tmp_path / "fast.pt") == ()
    again = torch.load(tmp_path / "fast.pt", weights_only=False)
    assert torch.equal(again(X), folding.model(X))


def test_refusals(folding, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="no plan for a folder"):
        surgeon.save(folding, tmp_path / "folder")
    with pytest.raises(UsageError, match="give example_inputs"):
        surgeon.save(folding, tmp_path / "fast.pt2")
    surgeon.save(folding, tmp_path / "fast.pt")
    with pytest.raises(UsageError, match="exists already"):
        surgeon.save(folding, tmp_path / "fast.pt")
    surgeon.save(folding, tmp_path / "fast.pt", overwrite=True)
    (tmp_path / "d.pt").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        surgeon.save(folding, tmp_path / "d.pt")
    with pytest.raises(UsageError, match="not a Linear"):
        surgeon.save(nn.Linear(1, 1), tmp_path / "x.pt")
    monkeypatch.setattr(folded_files, "_is_here", lambda name: name != "onnxscript")
    with pytest.raises(ModelError, match=r"needs onnxscript; pip install 'saconv-surgeon\[onnx\]'"):
        surgeon.save(folding, tmp_path / "fast.onnx", example_inputs=X)
    monkeypatch.undo()
    monkeypatch.setattr(export_engines, "MOST_IN_ONNX", 100)
    needs_onnx()
    with pytest.raises(ModelError, match="at most 2; save to a"):
        surgeon.save(folding, tmp_path / "fast.onnx", example_inputs=X)


def test_unequal_folding_is_saved_by_force_only(model, tmp_path, monkeypatch):
    right = foldable.kernel_through
    monkeypatch.setattr(foldable, "kernel_through", lambda *arguments: 1.001 * right(*arguments))
    folding = surgeon.fold(model, X)
    assert not folding.equivalence.passed
    with pytest.raises(NotEquivalentError):
        surgeon.save(folding, tmp_path / "fast.pt")
    surgeon.save(folding, tmp_path / "fast.pt", force=True)


def test_checkpoint_keeps_everything_else(model, folding, tmp_path):
    checkpoint = {"model": model, "epoch": 3, "optimizer": {"state": {}}}
    surgeon.save(folding, tmp_path / "best.pt", checkpoint=checkpoint)
    again = torch.load(tmp_path / "best.pt", weights_only=False)
    assert again["epoch"] == 3
    assert again["optimizer"] is None
    assert oracle.relative_error(again["model"](X), outputs(model).double()) < 1e-5
