"""Folded layers with some parts alone, in files that other engines run. Oracle: the trained model."""

import pytest
import torch

import saconv_surgeon as surgeon
from tests import oracle
from tests.folding.models import Pair, X, outputs, trained
from tests.saving.folded_models import needs_onnx, sizes

PARTS = pytest.mark.parametrize("parts", ["contexts", pytest.param("branches", marks=pytest.mark.slow)])


def of_parts(parts):
    torch.manual_seed(0)
    model = trained(Pair(), options={"parts": parts})
    return model, surgeon.fold(model, X)


@PARTS
def test_onnxruntime(parts, tmp_path):
    needs_onnx()
    import onnxruntime

    model, folding = of_parts(parts)
    surgeon.save(folding, tmp_path / "parts.onnx", example_inputs=X)
    session = onnxruntime.InferenceSession(str(tmp_path / "parts.onnx"), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    for x in sizes():
        (y,) = session.run(None, {name: x.numpy()})
        assert oracle.relative_error(torch.from_numpy(y), outputs(model, x).double()) < 1e-5


@PARTS
def test_exported_program(parts, tmp_path):
    model, folding = of_parts(parts)
    surgeon.save(folding, tmp_path / "parts.pt2", example_inputs=X)
    program = torch.export.load(tmp_path / "parts.pt2").module()
    for x in sizes():
        assert oracle.relative_error(program(x), outputs(model, x).double()) < 1e-5
