"""Models without weights: built without memory, run on shapes, counted like the real ones."""

import json
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.cli import cli
from saconv_surgeon.models.running.abstract import drop_weights, faked, is_abstract, without_weights
from saconv_surgeon.models.running.inputs import Inputs
from sample_models import tiny_attention, tiny_mobilenet, tiny_resnet, tiny_segmenter, tiny_unet, tiny_yolo
from tests import nets

SAMPLES = (tiny_attention, tiny_mobilenet, tiny_resnet, tiny_segmenter, tiny_unet, tiny_yolo)
COUNTED = ("parameters", "macs", "flops", "activations", "ops", "bytes_moved", "peak_memory_bytes", "buffers")


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda m: m.__name__.rpartition(".")[2])
def test_shapes_alone_give_the_counts_of_the_real_model(sample):
    with without_weights():
        model = sample.build()
    assert is_abstract(model)
    assert all(p.is_meta for p in model.parameters())
    real = surgeon.profile(sample.build(), sample.example_inputs(), timing=None)
    found = surgeon.profile(model, sample.example_inputs())
    for figure in COUNTED:
        assert getattr(found, figure) == getattr(real, figure), figure
    assert [(row.path, row.macs) for row in found.layers] == [(row.path, row.macs) for row in real.layers]
    assert (found.latency, found.fvcore_flops, found.engine, found.device) == (None, None, "FlopCounterMode", "meta")
    assert "on shapes alone" in found.note
    assert found.uncounted_ops == {}


def test_converted_model_without_weights_is_counted():
    model, x = surgeon.convert(nets.chain(), torch.randn(1, 3, 16, 16)).model, torch.randn(1, 3, 16, 16)
    real = surgeon.profile(model, x, timing=None)
    drop_weights(model)
    found = surgeon.profile(model, x)
    assert (found.macs, found.parameters, len(found.layers)) == (real.macs, real.parameters, len(real.layers))


def test_building_leaves_the_world_as_it_was():
    register = nn.Module.register_parameter
    with pytest.raises(RuntimeError, match="stop"), without_weights():
        raise RuntimeError("stop")
    assert nn.Module.register_parameter is register
    assert not nn.Linear(2, 2).weight.is_meta


def test_ties_and_kinds_are_kept():
    with without_weights():
        shared = nn.Parameter(torch.zeros(5, 4, dtype=torch.float16), requires_grad=False)
        a, b = nn.Linear(4, 5), nn.Linear(4, 5)
        a.weight = shared
        b.weight = shared
        c = nn.Linear(4, 5)
        c.weight = a.weight
    assert a.weight is b.weight is c.weight
    assert (a.weight.dtype, a.weight.requires_grad, a.bias.requires_grad) == (torch.float16, False, True)
    model = nn.ModuleList([a, b, c])
    drop_weights(model)
    assert model[0].weight is model[2].weight


def test_user_model_is_not_faked_and_constants_have_values():
    class Grid(nn.Module):
        """Counts by the values of a tensor that depends on nothing, as YOLO does with its strides."""

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.strides = torch.tensor([2.0, 3.0])
            self.seen = None

        def forward(self, x):
            y = self.conv(x)
            self.seen = y
            for stride in self.strides:
                y = y + torch.full((1,), float(stride))
            for step in torch.linspace(0, 1, 3).tolist():
                y = y * step
            return y

    with without_weights():
        model = Grid()
    found = surgeon.profile(model, torch.randn(1, 3, 8, 8))
    assert found.macs == 4 * 6 * 6 * 27
    assert found.flops == 2 * found.macs + 5 * 4 * 6 * 6
    assert model.seen is None
    assert model.training
    assert model.conv.weight.is_meta


def test_nothing_is_computed():
    with without_weights():
        model = nn.Linear(10**5, 10**5, bias=False)  # forty gigabytes, if anybody wrote to them
    assert surgeon.profile(model, torch.randn(3, 10**5)).macs == 3 * 10**10


def test_values_that_decide_stop_it():
    class Decides(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.conv(x) if x.mean() > 0 else x

    with without_weights():
        model = Decides()
    with (
        pytest.raises(Exception, match="_local_scalar_dense"),
        faked(model, Inputs.of(torch.randn(1, 3, 8, 8))) as (m, i),
    ):
        i.run(m)


# ------------------------------------------------------------------ from the command line

FACTORIES = """
import torch
from torch import nn
def huge(width=8192, depth=15):
    return nn.Sequential(*[nn.Linear(width, width, bias=False) for _ in range(depth)])
def example_inputs():
    return torch.randn(1, 8192)
class Looks(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8192, 4)
        self.scale = float(self.linear.weight.abs().max())
    def forward(self, x):
        return self.linear(x) * self.scale
class Lazy(nn.Sequential):
    def __init__(self):
        super().__init__(nn.LazyLinear(4))
def fails():
    raise ValueError("no model today")
class Decides(nn.Linear):
    def __init__(self):
        super().__init__(8192, 4)
    def forward(self, x):
        return super().forward(x) if x.sum() > 0 else x
"""


@pytest.fixture
def factories(tmp_path):
    file = tmp_path / "factories.py"
    file.write_text(FACTORIES)
    return file


def run(*arguments):
    return CliRunner().invoke(cli, list(map(str, arguments)))


MEASURED = """
import resource, runpy, sys
sys.argv = ["saconv-surgeon", "profile", *sys.argv[1:], "--json", "-", "-q"]
try:
    runpy.run_module("saconv_surgeon", run_name="__main__")
except SystemExit as done:
    assert not done.code
sys.stderr.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "option", [["--abstract"], pytest.param(["--device", "meta"], marks=pytest.mark.slow)], ids=["abstract", "meta"]
)
def test_a_billion_parameters_take_no_memory(factories, option):
    process = subprocess.run(
        [sys.executable, "-c", MEASURED, f"{factories}:huge", *option], capture_output=True, text=True, timeout=120
    )
    assert process.returncode == 0, process.stderr
    record = json.loads(process.stdout)
    assert record["parameters"] == record["macs"] == 15 * 8192 * 8192
    assert record["parameter_bytes"] > 4e9
    assert record["latency"] is None
    kilobytes = int(process.stderr.split()[-1])
    assert kilobytes < 1e6, "weights were allocated"


def test_model_that_looks_at_its_weights_is_built_with_them(factories):
    result = run("profile", f"{factories}:Looks", "--abstract")
    assert result.exit_code == 0, result.stderr
    assert "cannot be built without weights: built with them, then counted on shapes alone" in result.stderr
    assert "32.77 k" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((":Decides", "--abstract"), 3, "if it computes with values, profile it without --abstract"),
        ((":huge", "--abstract", "--weights", "w.pt"), 2, "--abstract looks at shapes alone; leave --weights"),
        ((":huge", "--abstract", "--train"), 2, "it does not go together with --abstract"),
        ((":Lazy", "--abstract"), 3, "has lazy modules, whose shapes only a run shows"),
        ((":fails", "--abstract"), 3, "raised ValueError: no model today"),
        ((":huge(width=3)", "--abstract"), 3, "cannot be run on shapes alone, 1×8192"),
        ((":missing", "--abstract"), 3, "has no 'missing'"),
    ],
)
def test_mistakes(factories, arguments, code, message):
    result = run("profile", f"{factories}{arguments[0]}", *arguments[1:])
    assert result.exit_code == code, result.output
    assert message in result.stderr
    if "raised" not in message:  # the user's own fault keeps its traceback
        assert "Traceback" not in result.stderr
    assert "During handling" not in result.stderr


def test_parametrised_and_sparse_and_subclassed_without_weights():
    class Marked(nn.Parameter):
        pass

    class Uses(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
            self.register_buffer("adjacency", torch.eye(4).to_sparse())
            self.scale = nn.Parameter(torch.ones(1))
            self.scale.times = 2

        def forward(self, x):
            return self.conv(x) * self.scale * self.scale.times

    with without_weights():
        model = Uses()
    assert surgeon.profile(model, torch.randn(1, 3, 8, 8)).macs == 4 * 36 * 27


def test_large_tensors_of_any_making_take_no_memory():
    with without_weights():
        parameter = nn.Parameter(torch.zeros(20000, 20000))
        linear = nn.Linear(2, 2)
        linear.weight = parameter
    assert linear.weight.is_meta
    assert parameter.is_meta


def test_library_asks_for_weights_where_it_needs_them():
    with without_weights():
        model = nets.chain()
    x = torch.randn(1, 3, 16, 16)
    conversion = surgeon.convert(nets.chain(), x)
    for call in (
        lambda: surgeon.diff(model, nets.chain(), x),
        lambda: surgeon.convert(model, x),
        lambda: surgeon.price(conversion, model, x),
    ):
        with pytest.raises(surgeon.ModelError, match="on the meta device and has no weights"):
            call()


def test_other_commands_want_a_real_device(factories):
    assert run("inspect", f"{factories}:huge", "--device", "meta").exit_code == 2
