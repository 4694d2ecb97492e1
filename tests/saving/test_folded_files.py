"""Folded models as files: what each gives when it is run again, at sizes that it was not made for, and what is refused."""

import importlib
import shutil

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.convs import saconv
from saconv_surgeon.errors import ModelError, NotEquivalentError, UsageError
from saconv_surgeon.saving import export_engines, folded_files
from tests import oracle
from tests.folding.test_fold import Pair, X, outputs, trained


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return trained(Pair())


@pytest.fixture(scope="module")
def folding(model):
    return surgeon.fold(model, X)


def needs_onnx():
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)


def run_onnx(path, *tensors):
    session = importlib.import_module("onnxruntime").InferenceSession(str(path))
    names = [given.name for given in session.get_inputs()]
    return torch.from_numpy(session.run(None, {n: t.numpy() for n, t in zip(names, tensors)})[0])


def sizes():
    return [X, X[:1], torch.randn(3, 3, 40, 23), torch.randn(1, 3, 9, 9)]


def test_pickle(model, folding, tmp_path):
    assert surgeon.save(folding, tmp_path / "fast.pt") == ()
    again = torch.load(tmp_path / "fast.pt", weights_only=False)
    assert torch.equal(again(X), folding.model(X))


def test_program_takes_other_sizes(model, folding, tmp_path):
    notes = surgeon.save(folding, tmp_path / "fast.pt2", example_inputs=X[:1])
    assert "run again with torch.export on 3 sizes of input" in notes[0]
    assert notes[1].endswith("takes other sizes: input[0] dimensions 0, 2, 3")
    program = torch.export.load(tmp_path / "fast.pt2").module()
    for x in sizes():
        assert oracle.relative_error(program(x), outputs(model, x).double()) < 1e-5


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


def test_fixed_sizes_are_said_and_reflecting_is_remarked(tmp_path):
    needs_onnx()
    model = trained(Flattening())
    notes = surgeon.save(surgeon.fold(model, X), tmp_path / "fixed.onnx", example_inputs=X)
    assert notes[-1].endswith("takes other sizes: input[0] dimension 0"), notes
    assert any("CoreML" in note for note in notes)
    assert oracle.relative_error(run_onnx(tmp_path / "fixed.onnx", X), outputs(model).double()) < 1e-5


class Two(Pair):
    """Two inputs, one of them by name; a dict comes out."""

    def forward(self, x, *, mask):
        y = super().forward(x)
        return {"map": y * mask, "mean": y.mean((2, 3))}


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


def test_file_that_computes_something_else_does_not_appear(folding, tmp_path, monkeypatch):
    right = export_engines._open_program
    monkeypatch.setattr(
        export_engines, "_open_program", lambda path: lambda given: [1.001 * t for t in right(path)(given)]
    )
    with pytest.raises(ModelError, match="computes something else from the file"):
        surgeon.save(folding, tmp_path / "fast.pt2", example_inputs=X)
    assert list(tmp_path.iterdir()) == []


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
    right = saconv.kernel_through
    monkeypatch.setattr(saconv, "kernel_through", lambda *arguments: 1.001 * right(*arguments))
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
