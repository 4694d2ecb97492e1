"""Exported programs: read without the model's source, converted, exported again."""

import copy

import pytest
import torch
from torch import nn
from torch.torch_version import TorchVersion

import saconv_surgeon as surgeon
from saconv_surgeon.errors import ModelError
from saconv_surgeon.models.exported.read_program import read_program
from tests import oracle
from tests.models.exported.commands import run


def test_without_its_source_it_converts_and_runs(program, converted_program):
    _, inputs, outputs = program
    again = torch.export.load(converted_program).module()
    with torch.no_grad():
        for given, wanted in zip(inputs, outputs):
            if TorchVersion(torch.__version__) < "2.11" and given[0].shape[3] % 2:
                continue  # torch 2.10 exports a guard that admits even widths only
            found = again(*given)
            assert found.keys() == wanted.keys()
            assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("how", ["trace", pytest.param("script", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.slow
def test_torchscript_by_torchs_own_converter(tmp_path, monkeypatch, how):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3, groups=2)
    ).eval()
    x = torch.randn(2, 3, 9, 9)
    torch.jit.save(torch.jit.trace(model, x) if how == "trace" else torch.jit.script(model), "m.pt")
    result = run("convert", "m.pt", "-o", "out.pt2", "--input", "2x3x9x9", "--no-latency")
    assert result.exit_code == 3
    assert "TorchScript archive, which is code" in result.stderr
    result = run("convert", "m.pt", "--trust", "-o", "out.pt2", "--input", "2x3x9x9", "--no-latency")
    assert result.exit_code == 0, result.output
    again = read_program(tmp_path / "out.pt2").module
    assert [n for n, m in again.named_modules() if isinstance(m, surgeon.SAConv2d)] == ["0", "3"]
    assert torch.equal(again(x), model(x))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_programs_in_memory(program, tmp_path):
    """The program itself is a model; what torch makes of it, without convolutions, is refused with the way out."""
    path, inputs, outputs = program
    exported = torch.export.load(path)
    kept = [dict(node.meta) for node in exported.graph.nodes]
    conversion = surgeon.convert(exported, exported.example_inputs[0], include=["stem", "block.*"])
    assert (conversion.converted, conversion.equivalence.bit_equal) == (3, True)
    assert surgeon.price(conversion, exported, exported.example_inputs[0], timing=None).before.macs > 0
    surgeon.save(conversion, tmp_path / "again.pt2", example_inputs=exported.example_inputs[0], program=exported)
    module = torch.export.load(tmp_path / "again.pt2").module()
    for given, wanted in zip(inputs, outputs, strict=True):
        assert all(torch.equal(module(*given)[name], value) for name, value in wanted.items())
    assert [dict(node.meta) for node in exported.graph.nodes] == kept
    for made in (exported.module(), torch.export.unflatten(exported)):
        with pytest.raises(ModelError, match="give the ExportedProgram itself"):
            surgeon.convert(made, exported.example_inputs[0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_torchscript_in_memory():
    model, x = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()).eval(), torch.randn(1, 3, 9, 9)
    conversion = surgeon.convert(torch.jit.trace(model, x), x)
    assert conversion.converted == 1
    assert torch.equal(conversion.model(x), model(x))


@pytest.mark.parametrize("thing", [None, "resnet18", nn.ReLU])
def test_what_is_no_model(thing):
    with pytest.raises(ModelError, match=r"a torch.nn.Module is needed, not a (NoneType|str|type)"):
        surgeon.convert(thing, torch.ones(1))


def shaken(conversion):
    for i, layer in enumerate(m for m in conversion.model.modules() if isinstance(m, surgeon.SAConv2d)):
        oracle.shake(layer, i, 0.05)
    return conversion.model


class Direct(nn.Module):
    """Convolves with the weight of a module, as a graph without modules does."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)
        self.again = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1))

    def forward(self, x):
        x = torch.nn.functional.conv2d(x, self.conv.weight, self.conv.bias, padding=1)
        return self.again(self.again(x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_compilers_and_copies_see_the_surgery():
    """A program after surgery, trained, is compiled, copied, exported and taken back as it is."""
    x = torch.randn(1, 2, 9, 9)
    conversion = surgeon.convert(torch.export.export(Direct().eval(), (x,)), x)
    assert conversion.converted == 2
    model = shaken(conversion)
    for made in (
        torch.compile(model, backend="eager"),
        copy.deepcopy(model),
        torch.export.export(model, (x,)).module(),
    ):
        assert torch.equal(made(x), model(x))
    back = surgeon.convert(torch.export.export(Direct().eval(), (x,)), x)
    plain = surgeon.revert(back.model)
    assert torch.equal(torch.compile(plain, backend="eager")(x), back.model(x))


@pytest.mark.slow
def test_a_deep_program_is_copied():
    """Nodes that lie about outside their graph would be copied one inside the other."""
    net = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), *[nn.Hardtanh() for _ in range(1200)]).eval()
    x = torch.randn(1, 2, 5, 5)
    assert surgeon.convert(torch.export.export(net, (x,)), x, trials=1).converted == 1


def test_what_cannot_be_pickled(tmp_path):
    x = torch.randn(1, 2, 9, 9)
    conversion = surgeon.convert(torch.export.export(Direct().eval(), (x,)), x)
    with pytest.raises(ModelError, match=r"cannot be pickled .*; save to a folder, or to a .pt2 file"):
        surgeon.save(conversion, tmp_path / "net.pt")
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_program_that_does_not_run(tmp_path):
    torch.export.save(torch.export.export(nn.Conv2d(2, 4, 3).eval(), (torch.ones(1, 2, 9, 9),)), tmp_path / "net.pt2")
    result = run("inspect", tmp_path / "net.pt2", "--input", "1x5x9x9")
    assert result.exit_code == 3
    assert "cannot be run on 1×5×9×9" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_scripted_model_in_memory_stays_in_its_mode():
    script = torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))).train()
    [*script.children()][1].eval()
    surgeon.profile(script, torch.randn(1, 3, 16, 16), timing=None)
    assert [module.training for module in script.modules()] == [True, True, False]
