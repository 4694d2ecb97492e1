"""Exported files, run again before they appear."""

import importlib

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.errors import ModelError
from saconv_surgeon.saving import export_engines
from tests import oracle
from tests.folding.models import X, outputs, trained
from tests.saving.folded_models import needs_onnx, sizes


def run_onnx(path, *tensors):
    session = importlib.import_module("onnxruntime").InferenceSession(str(path))
    names = [given.name for given in session.get_inputs()]
    return torch.from_numpy(session.run(None, {n: t.numpy() for n, t in zip(names, tensors)})[0])


@pytest.mark.slow
def test_program_takes_other_sizes(model, folding, tmp_path):
    notes = surgeon.save(folding, tmp_path / "fast.pt2", example_inputs=X[:1])
    assert "run again with torch.export on 3 sizes of input" in notes[0]
    assert notes[1].endswith("takes other sizes: input[0] dimensions 0, 2, 3")
    program = torch.export.load(tmp_path / "fast.pt2").module()
    for x in sizes():
        assert oracle.relative_error(program(x), outputs(model, x).double()) < 1e-5


@pytest.mark.slow
def test_onnx_takes_other_sizes(model, folding, tmp_path):
    needs_onnx()
    notes = surgeon.save(folding, tmp_path / "fast.onnx", example_inputs=X[:1])
    assert "run again with ONNX Runtime on 3 sizes of input: within" in notes[0]
    for x in sizes():
        assert oracle.relative_error(run_onnx(tmp_path / "fast.onnx", x), outputs(model, x).double()) < 1e-5
    assert [p.name for p in tmp_path.iterdir()] == ["fast.onnx"]


class Flattening(nn.Module):
    """Takes maps of one size."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 16 * 16, 2)

    def forward(self, x):
        return self.head(self.conv(x).flatten(1))


@pytest.mark.slow
def test_fixed_sizes_are_said_and_reflecting_is_remarked(tmp_path):
    needs_onnx()
    model = trained(Flattening())
    notes = surgeon.save(surgeon.fold(model, X), tmp_path / "fixed.onnx", example_inputs=X)
    assert notes[-1].endswith("takes other sizes: input[0] dimension 0"), notes
    assert any("CoreML" in note for note in notes)
    assert oracle.relative_error(run_onnx(tmp_path / "fixed.onnx", X), outputs(model).double()) < 1e-5


def test_file_that_computes_something_else_does_not_appear(folding, tmp_path, monkeypatch):
    right = export_engines._open_program
    monkeypatch.setattr(
        export_engines, "_open_program", lambda path: lambda given: [1.001 * t for t in right(path)(given)]
    )
    with pytest.raises(ModelError, match="computes something else from the file"):
        surgeon.save(folding, tmp_path / "fast.pt2", example_inputs=X)
    assert list(tmp_path.iterdir()) == []
