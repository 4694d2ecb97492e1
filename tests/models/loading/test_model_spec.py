"""MODEL arguments: what is found, and one clear sentence for each thing that is not."""

import sys
import textwrap

import pytest
import torch
from torch import nn

from saconv_surgeon.errors import ModelError, UntrustedError, UsageError, UserCodeError
from saconv_surgeon.models.loading.input_spec import make_inputs, offered_inputs
from saconv_surgeon.models.loading.model_spec import load_model
from tests import nets

SOURCE = """
    import torch
    from torch import nn
    from neighbour import WIDTH

    class Net(nn.Module):
        def __init__(self, depth=1, *, bias=True):
            super().__init__()
            self.convs = nn.Sequential(*(nn.Conv2d(3, WIDTH, 3, padding=1, bias=bias) for _ in range(depth)))
        def forward(self, x):
            return self.convs(x)

    def build(depth=1, bias=True):
        return Net(depth, bias=bias)

    def broken():
        raise RuntimeError("my own fault")

    def wrong_type_inside():
        return len(3)

    def forgot():
        Net()

    def inputs():
        return {"x": torch.zeros(1, 3, 8, 8)}

    class Holder:
        make = staticmethod(build)

    ready = Net()
    number = 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "nets_of_mine.py").write_text(textwrap.dedent(SOURCE))
    (tmp_path / "neighbour.py").write_text("WIDTH = 3\n")
    (tmp_path / "broken_import.py").write_text("import nowhere_to_be_found\n")
    (tmp_path / "syntax.py").write_text("def build(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("nets_of_mine", "neighbour", "broken_import"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("spec", "depth", "bias"),
    [
        ("nets_of_mine.py:build", 1, True),
        ("nets_of_mine.py:build()", 1, True),
        ("nets_of_mine.py:build(2)", 2, True),
        ("nets_of_mine.py:build(depth=3, bias=False)", 3, False),
        ("nets_of_mine.py:build(depth=3, bias=False,)", 3, False),
        ("nets_of_mine.py:Net(bias=False)", 1, False),
        ("nets_of_mine.py:Holder.make(2)", 2, True),
        ("nets_of_mine.py:ready", 1, True),
        ("nets_of_mine:build(2)", 2, True),
    ],
)
def test_factories(folder, spec, depth, bias):
    loaded = load_model(spec)
    assert loaded.name == spec
    assert len(loaded.module.convs) == depth
    assert (loaded.module.convs[0].bias is not None) == bias


def test_file_in_a_package_is_imported_as_part_of_it():
    loaded = load_model("sample_models/tiny_resnet.py:build(depth=1)")
    assert type(loaded.module).__module__ == "sample_models.tiny_resnet"
    assert loaded.example_inputs().shape == (2, 3, 96, 96)


def test_two_files_of_one_name_are_two_modules(folder, tmp_path):
    for name, width in (("a", 3), ("b", 5)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "net.py").write_text(
            f"from torch import nn\ndef build():\n    return nn.Conv2d(3, {width}, 3)\n"
        )
    assert [load_model(f"{name}/net.py:build").module.out_channels for name in "ab"] == [3, 5]
    sys.modules.pop("net", None)


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("absent.py:build", ModelError, "absent.py does not exist"),
        ("nets_of_mine.py:biuld", ModelError, "has no 'biuld'; did you mean 'build'"),
        ("nets_of_mine.py:zzz", ModelError, "has no 'zzz'; it has"),
        (
            "nets_of_mine.py:build(1, 2, 3)",
            ModelError,
            r"cannot be called so: too many positional arguments; its signature is build\(depth=1",
        ),
        ("nets_of_mine.py:build(size=3)", ModelError, "unexpected keyword argument 'size'"),
        ("nets_of_mine.py:build(open('x'))", UsageError, "expected a name, or a call with literal arguments"),
        ("nets_of_mine.py:build)", UsageError, "cannot read"),
        ("nets_of_mine.py:number", ModelError, "is a int; a function that returns a model"),
        ("nets_of_mine.py:forgot", ModelError, "gave a NoneType; a torch.nn.Module is needed"),
        ("nets_of_mine.py:inputs", ModelError, "gave a dict"),
        ("nets_of_mine.py:broken", UserCodeError, "raised RuntimeError: my own fault"),
        ("nets_of_mine.py:wrong_type_inside", UserCodeError, "raised TypeError"),
        ("broken_import.py:build", UserCodeError, "No module named 'nowhere_to_be_found'"),
        ("syntax.py:build", UserCodeError, "SyntaxError"),
        ("no.such.package:build", ModelError, "there is no module 'no' to import"),
        ("resnet18", ModelError, "there is no model 'resnet18'; MODEL is"),
        ("absent.pt", ModelError, "absent.pt does not exist"),
        ("w.safetensors", ModelError, "holds weights only"),
        ("m.pt2", ModelError, "m.pt2 does not exist"),
    ],
)
def test_each_mistake_has_its_sentence(folder, spec, error, message):
    with pytest.raises(error, match=message):
        load_model(spec)


def test_users_exception_is_kept_as_the_cause(folder):
    with pytest.raises(UserCodeError) as raised:
        load_model("nets_of_mine.py:broken")
    assert type(raised.value.__cause__) is RuntimeError


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: {"epoch": 3, "ema": m, "model": None}, lambda m: {"model": m}])
def test_pickled_module_needs_trust(tmp_path, wrap):
    model = nets.OneConv()
    torch.save(wrap(model), tmp_path / "m.pt")
    with pytest.raises(UntrustedError, match=r"tests\.nets\.OneConv") as raised:
        load_model(str(tmp_path / "m.pt"))
    assert "--trust" in str(raised.value)
    loaded = load_model(str(tmp_path / "m.pt"), trust=True).module
    assert torch.equal(loaded(nets.X), model(nets.X))


def test_refused_file_runs_no_code(tmp_path):
    import os

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "proof"),)

    torch.save({"model": Evil()}, tmp_path / "m.pt")
    with pytest.raises(UntrustedError, match=r"posix.mkdir"):
        load_model(str(tmp_path / "m.pt"))
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize("size", [0, 10, 300])
@pytest.mark.parametrize("trust", [False, True])
def test_truncated_and_random_files(tmp_path, size, trust):
    torch.save(nets.OneConv(), tmp_path / "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:size])
    (tmp_path / "noise.pt").write_bytes(bytes(range(256))[:size])
    for name in ("cut.pt", "noise.pt"):
        with pytest.raises(ModelError, match=r"cannot be loaded|is cut off"):
            load_model(str(tmp_path / name), trust=trust)


def test_module_of_a_class_that_cannot_be_imported(tmp_path, folder):
    torch.save(load_model("nets_of_mine.py:build").module, tmp_path / "m.pt")
    del sys.modules["nets_of_mine"]
    (folder / "nets_of_mine.py").unlink()
    with pytest.raises(ModelError, match="needs code that cannot be imported here"):
        load_model(str(tmp_path / "m.pt"), trust=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weight": torch.zeros(2)}, "holds weights only; give the code as MODEL"),
        ({"state_dict": {"weight": torch.zeros(2)}}, "holds weights only"),
        ([1, 2], "holds a list without a model in it"),
    ],
)
def test_files_without_a_model(tmp_path, content, message):
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(ModelError, match=message):
        load_model(str(tmp_path / "m.pt"))


def test_inputs_from_sizes_and_functions(folder):
    inputs = make_inputs(("1x3x8x8", "2x5"), seed=0)
    assert inputs.shapes == ((1, 3, 8, 8), (2, 5))
    assert torch.equal(inputs.args[0], make_inputs(("1x3x8x8", "2x5"), seed=0).args[0])
    assert not torch.equal(inputs.args[0], make_inputs(("1x3x8x8", "2x5"), seed=1).args[0])
    assert make_inputs(("nets_of_mine.py:inputs",), seed=0).kwargs["x"].shape == (1, 3, 8, 8)


@pytest.mark.parametrize("specs", [("1x3xHxW",), ("",), ("1x3x8x8", "nets_of_mine.py:inputs")])
def test_inputs_that_make_no_sense(folder, specs):
    with pytest.raises(UsageError, match="is neither a size such as 1x3x224x224"):
        make_inputs(specs, seed=0)


def test_model_without_inputs_says_how_to_give_them(folder):
    with pytest.raises(UsageError, match="no inputs to run it on; give --input 1x3x224x224"):
        offered_inputs(load_model("nets_of_mine.py:build"))


def test_module_given_directly_is_found_in_modules():
    assert isinstance(load_model("torch.nn:Conv2d(3, 3, kernel_size=3)").module, nn.Conv2d)
