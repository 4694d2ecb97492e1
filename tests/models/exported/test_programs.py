"""Exported programs: read without the model's source, operated on, exported again."""

import copy
import importlib
import json
import subprocess
import sys
import textwrap

import pytest
import torch
from click.testing import CliRunner
from torch import nn
from torch.export import Dim

import saconv_surgeon as surgeon
from saconv_surgeon.cli import cli
from saconv_surgeon.errors import ModelError
from saconv_surgeon.models.exported.read_program import Program, program_of, read_program
from saconv_surgeon.models.exported.write_program import narrowed, write_program
from saconv_surgeon.models.running.inputs import Inputs
from tests import oracle

SOURCE = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(8, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.c2 = nn.Conv2d(8, 8, 3, padding="same", groups=2, bias=False)

    def forward(self, x):
        return x + self.c2(torch.relu(self.bn(self.c1(x))))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.block = Block()
        self.wide = nn.Conv2d(8, 8, (3, 5), padding=(2, 4), dilation=2, padding_mode="reflect")
        self.kernel = nn.Parameter(torch.randn(2, 8, 3, 3))
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x, scale=None):
        x = self.block(self.block(self.stem(x)))
        x = self.wide(x) if scale is None else self.wide(x) * scale
        return {"map": self.out(x), "direct": torch.nn.functional.conv2d(x, self.kernel), "pooled": x.mean((2, 3))}
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A program whose sizes are dynamic, inputs and outputs of its model, and no source any more."""
    place = tmp_path_factory.mktemp("program")
    (place / "vanished_net.py").write_text(textwrap.dedent(SOURCE))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(place)
        vanished_net = importlib.import_module("vanished_net")
    torch.manual_seed(0)
    model = vanished_net.Net().eval()
    x = torch.randn(2, 3, 32, 32)
    sizes = {"x": {0: Dim("batch", min=1, max=16), 2: Dim.AUTO, 3: Dim.AUTO}, "scale": None}
    exported = torch.export.export(model, (x, torch.tensor(2.0)), dynamic_shapes=sizes)
    torch.export.save(exported, place / "net.pt2")
    inputs = [(torch.randn(*shape), torch.tensor(3.0)) for shape in ((1, 3, 64, 48), (3, 3, 40, 21), (16, 3, 32, 32))]
    with torch.no_grad():
        outputs = [model(*given) for given in inputs]
    del sys.modules["vanished_net"]
    (place / "vanished_net.py").unlink()
    return place / "net.pt2", inputs, outputs


@pytest.fixture(scope="module")
def converted(saved):
    """The program after a conversion on the command line."""
    file = saved[0].with_name("out.pt2")
    result = run("convert", saved[0], "-o", file, "--no-latency")
    assert result.exit_code == 0, result.output
    assert "bit-identical" in result.stdout
    return file


def run(*args):
    result = CliRunner().invoke(cli, [*map(str, args)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_without_its_source_it_converts_and_runs(saved, converted):
    _, inputs, outputs = saved
    again = torch.export.load(converted).module()
    with torch.no_grad():
        for given, wanted in zip(inputs, outputs):
            found = again(*given)
            assert found.keys() == wanted.keys()
            assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_every_convolution_of_the_program_has_a_row(saved):
    opened = read_program(saved[0])
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


def test_ranges_are_kept(saved, converted):
    before = read_program(saved[0])
    assert before.ranges["input[0] dimension 0"] == (1, 16)
    after = read_program(converted)
    assert after.ranges["input[0] dimension 0"] == (1, 16)
    for side in (2, 3):
        low, high = after.ranges[f"input[0] dimension {side}"]
        assert low <= before.ranges[f"input[0] dimension {side}"][0] + 1
        assert high is None


def test_a_converted_program_shows_its_layers_again(converted):
    opened = read_program(converted)
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


# ------------------------------------------------------------------ programs without a module hierarchy


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


@pytest.mark.parametrize("how", ["trace", "script"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
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


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_programs_in_memory(saved, tmp_path):
    """The program itself is a model; what torch makes of it, without convolutions, is refused with the way out."""
    path, inputs, outputs = saved
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


# ------------------------------------------------------------------ containers that a library defines

REGISTERED = """
import dataclasses
import torch
from torch.utils import _pytree

@dataclasses.dataclass
class Output:
    map: torch.Tensor

_pytree.register_dataclass(Output, serialized_type_name="{name}")
"""


@pytest.fixture
def with_containers(tmp_path, monkeypatch):
    """A program that returns a class of its own, which this process does not know."""

    def make(name):
        (tmp_path / "makes_it.py").write_text(
            REGISTERED.format(name=name)
            + "net = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.ReLU()).eval()\n"
            + "class Net(torch.nn.Module):\n"
            + "    def __init__(self):\n        super().__init__()\n        self.net = net\n"
            + "    def forward(self, x):\n        return Output(self.net(x))\n"
            + f"torch.export.save(torch.export.export(Net(), (torch.ones(1, 2, 9, 9),)), {str(tmp_path / 'net.pt2')!r})\n"
        )
        subprocess.run([sys.executable, str(tmp_path / "makes_it.py")], check=True)
        return tmp_path / "net.pt2"

    monkeypatch.syspath_prepend(tmp_path)
    return make


def test_containers_that_nobody_knows(with_containers):
    path = with_containers("somewhere.outputs.Output")
    with pytest.raises(ModelError, match=r"containers of somewhere, which torch knows only if that can be imported"):
        read_program(path)


def test_containers_of_an_installed_library(with_containers, tmp_path, monkeypatch):
    """The module that defines them is imported; nothing but a library's own modules of that kind is."""
    path = with_containers("transformers.models.pretend.modeling_pretend.Output")
    real = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "transformers"}
    place = tmp_path / "transformers" / "models" / "pretend"
    place.mkdir(parents=True)
    for folder in (place, place.parent, place.parent.parent):
        (folder / "__init__.py").write_text("")
    name = "transformers.models.pretend.modeling_pretend.Output"
    (place / "modeling_pretend.py").write_text(REGISTERED.format(name=name))
    try:
        forget("transformers")
        module = read_program(path).module
    finally:
        forget("transformers")
        sys.modules.update(real)
    conversion = surgeon.convert(module, torch.ones(1, 2, 9, 9))
    assert (conversion.converted, conversion.equivalence.bit_equal) == (1, True)
    assert type(conversion.model(torch.ones(1, 2, 9, 9))).__name__ == "Output"


def forget(package):
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        del sys.modules[name]


# ------------------------------------------------------------------ what is made of a program


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


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_program_that_does_not_run(tmp_path):
    torch.export.save(torch.export.export(nn.Conv2d(2, 4, 3).eval(), (torch.ones(1, 2, 9, 9),)), tmp_path / "net.pt2")
    result = run("inspect", tmp_path / "net.pt2", "--input", "1x5x9x9")
    assert result.exit_code == 3
    assert "cannot be run on 1×5×9×9" in result.stderr
    assert "Traceback" not in result.stderr
