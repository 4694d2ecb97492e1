"""Exported programs show their convolutions and their converted layers as modules."""

import copy
import json

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.models.exported.read_program import program_of, read_program
from tests import oracle


def test_every_convolution_of_the_program_has_a_row(program):
    opened = read_program(program[0])
    sites = {s.path: s for s in surgeon.inspect(opened.module, opened.inputs)}
    assert {p: s.calls for p, s in sites.items() if s.converts} == {"stem": 1, "block.c1": 2, "block.c2": 2}
    reasons = {s.type: s.reason_code for s in sites.values() if not s.converts}
    assert reasons == {"Conv2d": "kernel-1x1", "F.conv2d": "functional"}
    functional = [s for s in sites.values() if s.type == "F.conv2d"]
    assert (
        len(functional) == 2
    )  # the call without a module, and the padded one, whose padding is an operation of its own
    assert sites["block.c2"].arguments.groups == 2
    assert sites["stem"].arguments.stride == (2, 2)


def test_a_converted_program_shows_its_layers_again(converted_program):
    opened = read_program(converted_program)
    layers = {n: m for n, m in opened.module.named_modules() if isinstance(m, surgeon.SAConv2d)}
    assert set(layers) == {"stem", "block.c1", "block.c2"}
    reasons = {s.path: s.reason_code for s in surgeon.inspect(opened.module, opened.inputs)}
    assert reasons["stem"] == reasons["block.c1"] == "already-converted"
    for i, layer in enumerate(layers.values()):
        oracle.shake(layer, i)
    x = torch.randn(1, 3, 24, 20)
    with torch.no_grad():
        found = layers["stem"](x)
    assert oracle.relative_error(found, oracle.saconv(layers["stem"], x)) < 1e-5


def flat(program):
    """The same program as converters from other formats make them: one graph, no trace of modules."""
    for node in program.graph.nodes:
        node.meta.pop("nn_module_stack", None)
    return program


class Flat(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.ModuleList([nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, bias=False)])
        self.tied = nn.Conv2d(4, 4, 3)
        self.kernel = nn.Parameter(torch.randn(4, 4, 3, 3))

    def forward(self, x):
        x = self.body[1](self.body[1](self.body[0](x)))
        x = self.tied(x) + self.tied.weight.mean()
        return nn.functional.conv2d(x, self.kernel)


@pytest.mark.parametrize("decomposed", [False, True])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_convolutions_of_flat_programs(tmp_path, decomposed):
    torch.manual_seed(0)
    model, x = Flat().eval(), torch.randn(2, 3, 15, 15)
    exported = torch.export.export(model, (x,))
    torch.export.save(flat(exported.run_decompositions() if decomposed else exported), tmp_path / "m.pt2")
    opened = read_program(tmp_path / "m.pt2")
    assert torch.equal(opened.module(x), model(x))
    conversion = surgeon.convert(opened.module, x)
    assert conversion.equivalence.bit_equal
    sites = {s.path: (s.decision, s.calls) for s in conversion.plan.sites}
    assert sites.pop("body.0") == ("convert", 1)
    assert sites.pop("body.1") == ("convert", 2)
    assert len(sites) == 2  # one whose weight is used elsewhere, one without a module's name
    surgeon.save(conversion, tmp_path / "o.pt2", example_inputs=x, program=opened)
    assert torch.equal(read_program(tmp_path / "o.pt2").module(x), model(x))


class Update(nn.Module):
    """Called several times; the last call does something else, so that it stays a part of its own."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.ReLU())
        self.head = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.ReLU())

    def forward(self, x, last):
        x = self.head(self.encoder(x))
        return x * 2 if last else x


class Repeated(nn.Module):
    def __init__(self):
        super().__init__()
        self.update = Update()

    def forward(self, x):
        for i in range(3):
            x = self.update(x, i == 2)
        return x


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_module_whose_calls_differ():
    x = torch.randn(1, 2, 9, 9)
    net = Repeated().eval()
    conversion = surgeon.convert(torch.export.export(net, (x,)), x, trials=1)
    assert {s.path: s.calls for s in conversion.plan.sites} == {"update.encoder.0": 3, "update.head.0": 3}
    assert torch.equal(copy.deepcopy(conversion.model)(x), net(x))


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "bogus"},
        {"groups": 0},
        {"in_channels": -1},
        {"in_channels": 10**30},
        {"kernel_size": [3]},
        {"padding_mode": "weird"},
        {"stride": [2, 2]},
        {"dilation": [3, 3]},
    ],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_plan_that_does_not_fit_its_program(tmp_path, change):
    """The layers are then not put back, and the program stays what it computes."""
    net, x = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1)).eval(), torch.randn(1, 2, 9, 9)
    conversion = surgeon.convert(net, x)
    surgeon.save(conversion, tmp_path / "out.pt2", example_inputs=x)
    extra = {"saconv_plan.json": ""}
    program = torch.export.load(tmp_path / "out.pt2", extra_files=extra)
    assert type(program_of(program, plan=extra["saconv_plan.json"]).module.get_submodule("0")) is surgeon.SAConv2d
    plan = json.loads(extra["saconv_plan.json"])
    plan["sites"][0]["arguments"].update(change)
    for text in (json.dumps(plan), "[" * 100_000):
        module = program_of(program, plan=text).module
        assert type(module.get_submodule("0")) is not surgeon.SAConv2d
        assert torch.equal(module(x), net(x))


@pytest.mark.parametrize("parts", ["contexts", "branches"])
def test_layers_without_some_parts_are_shown_again_without_them(tmp_path, parts):
    torch.manual_seed(1)
    model, x = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()).eval(), torch.randn(1, 3, 17, 13)
    torch.export.save(torch.export.export(model, (x,)), tmp_path / "m.pt2")
    opened = read_program(tmp_path / "m.pt2")
    conversion = surgeon.convert(opened.module, opened.inputs, options={"parts": parts})
    (layer,) = (m for m in conversion.model.modules() if isinstance(m, surgeon.SAConv2d))
    oracle.shake(layer)
    surgeon.save(conversion, tmp_path / "o.pt2", example_inputs=opened.inputs, program=opened)
    again = read_program(tmp_path / "o.pt2").module
    (found,) = (m for m in again.modules() if isinstance(m, surgeon.SAConv2d))
    assert found.parts == parts
    with torch.no_grad():
        assert oracle.relative_error(found(x), oracle.saconv(layer, x)) < 1e-5
