"""Exported programs, written: sizes that stay free, models that cannot be exported."""

import pytest
import torch
from torch import nn
from torch.export import Dim

import saconv_surgeon as surgeon
from saconv_surgeon.models.exported.read_program import Program, read_program
from saconv_surgeon.models.exported.write_program import narrowed, write_program
from saconv_surgeon.models.running.inputs import Inputs
from tests import oracle
from tests.models.exported.commands import run


def test_ranges_are_kept(program, converted_program):
    before = read_program(program[0])
    assert before.ranges["input[0] dimension 0"] == (1, 16)
    after = read_program(converted_program)
    assert after.ranges["input[0] dimension 0"] == (1, 16)
    for side in (2, 3):
        low, high = after.ranges[f"input[0] dimension {side}"]
        assert low <= before.ranges[f"input[0] dimension {side}"][0] + 1
        assert high is None


@pytest.mark.slow
def test_a_shaken_model_is_exported_as_it_is(tmp_path):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 4, stride=3, padding=1)).eval()
    converted = surgeon.convert(model, torch.randn(1, 3, 17, 13)).model
    for layer in (converted[0], converted[2]):
        oracle.shake(layer)
    shapes = (({2: Dim.AUTO, 3: Dim.AUTO},), {})
    ranges = write_program(converted, Inputs.of(torch.randn(1, 3, 17, 13)), tmp_path / "m.pt2", shapes)
    assert len(ranges) == 2
    again = read_program(tmp_path / "m.pt2").module
    for size in ((17, 13), (6, 7), (40, 9)):
        x = torch.randn(1, 3, *size)
        with torch.no_grad():
            torch.testing.assert_close(again(x), converted(x))


def test_a_program_of_fixed_sizes_stays_fixed(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 3)).eval()
    x = torch.randn(1, 3, 9, 9)
    torch.export.save(torch.export.export(model, (x,)), tmp_path / "m.pt2")
    opened = read_program(tmp_path / "m.pt2")
    assert (opened.dynamic_shapes, opened.ranges) == (None, {})
    conversion = surgeon.convert(opened.module, opened.inputs)
    assert surgeon.save(conversion, tmp_path / "o.pt2", example_inputs=opened.inputs, program=opened) == ()
    assert torch.equal(read_program(tmp_path / "o.pt2").module(x), model(x))


def test_what_narrows_is_said():
    before = {"a": (1, 16), "b": (2, None), "c": (2, 8), "d": (1, None)}
    after = {"a": (1, 16), "b": (5, 64), "d": (2, None)}
    assert narrowed(before, after) == [
        "b accepts 5 to 64 now; it was 2 and more",
        "c is fixed now; it was 2 to 8",
        "d accepts 2 and more now; it was 1 and more",
    ]


def test_models_of_python_become_programs(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 3)).train()
    x = torch.randn(2, 3, 9, 9)
    surgeon.save(surgeon.convert(model, x), tmp_path / "m.pt2", example_inputs=x)
    assert torch.equal(torch.export.load(tmp_path / "m.pt2").module()(x), model(x))
    with pytest.raises(surgeon.UsageError, match="give example_inputs"):
        surgeon.save(surgeon.convert(model, x), tmp_path / "n.pt2")


def test_a_model_that_cannot_be_exported_leaves_nothing(tmp_path):
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.conv(x) if float(x.sum()) > 0 else self.conv(-x)

    x = torch.ones(1, 3, 5, 5)
    with pytest.raises(surgeon.ModelError, match=r"torch.export cannot export Counts .*; save to a folder instead"):
        surgeon.save(surgeon.convert(Counts(), x), tmp_path / "m.pt2", example_inputs=x)
    assert not list(tmp_path.iterdir())


def test_a_program_that_does_not_compute_the_same_is_not_saved(tmp_path, monkeypatch):
    """The file is read and run before it is kept."""

    x = torch.randn(1, 3, 9, 9)
    conversion = surgeon.convert(nn.Sequential(nn.Conv2d(3, 4, 3)), x)
    other = Program(nn.Sequential(nn.Conv2d(3, 4, 3)).eval(), None, None, {})
    monkeypatch.setattr("saconv_surgeon.saving.conversion_files.read_program", lambda *a, **k: other)
    with pytest.raises(surgeon.ModelError, match="does not compute what the model computes"):
        surgeon.save(conversion, tmp_path / "m.pt2", example_inputs=x)
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_dynamic_sizes_of_keyword_arguments(tmp_path):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 4, 3)

        def forward(self, *, image):
            return self.conv(image)

    net, x = Net().eval(), torch.randn(2, 2, 9, 9)
    sizes = {"image": {0: Dim("batch", min=1, max=8)}}
    torch.export.save(torch.export.export(net, (), {"image": x}, dynamic_shapes=sizes), tmp_path / "net.pt2")
    assert run("convert", tmp_path / "net.pt2", "-o", tmp_path / "out.pt2", "--no-latency").exit_code == 0
    more = torch.randn(5, 2, 9, 9)
    assert torch.equal(torch.export.load(tmp_path / "out.pt2").module()(image=more), net(image=more))
