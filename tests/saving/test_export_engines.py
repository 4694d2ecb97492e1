"""The engines that a folded model is exported for."""

import shutil

import pytest
import torch

import saconv_surgeon as surgeon
from saconv_surgeon.errors import ModelError
from tests import oracle
from tests.folding.models import Pair, X, outputs, trained
from tests.saving.folded_models import needs_onnx, sizes


class Two(Pair):
    """Two inputs, one of them by name; a dict comes out."""

    def forward(self, x, *, mask):
        y = super().forward(x)
        return {"map": y * mask, "mean": y.mean((2, 3))}


@pytest.mark.slow
def test_several_inputs_and_a_dict_of_outputs(tmp_path):
    needs_onnx()
    inputs = surgeon_inputs(X, torch.rand(2, 1, 16, 16))
    model = trained(Two(), inputs)
    folding = surgeon.fold(model, inputs)
    for name in ("two.pt2", "two.onnx"):
        notes = surgeon.save(folding, tmp_path / name, example_inputs=inputs)
        assert "run again" in notes[0]


def surgeon_inputs(x, mask):
    from saconv_surgeon.models.running.inputs import Inputs

    return Inputs((x,), {"mask": mask})


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no compiler")
def test_package_compiled_ahead_of_time(model, folding, tmp_path):
    notes = surgeon.save(folding, tmp_path / "fast.aoti.pt2", example_inputs=X[:1])
    assert "run again with AOTInductor on 3 sizes of input: within" in notes[0]
    loaded = torch._inductor.aoti_load_package(str(tmp_path / "fast.aoti.pt2"))
    for x in sizes():
        assert oracle.relative_error(loaded(x), outputs(model, x).double()) < 1e-5


def test_compiler_that_fails_is_one_message(folding, tmp_path, monkeypatch):
    import torch._inductor

    def broken(*args, **kwargs):
        raise RuntimeError("no working C++ compiler\nand much more")

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", broken)
    with pytest.raises(
        ModelError, match=r"AOTInductor cannot build this model here \(RuntimeError: no working C\+\+ compiler\)"
    ):
        surgeon.save(folding, tmp_path / "fast.aoti.pt2", example_inputs=X)
    assert list(tmp_path.iterdir()) == []
