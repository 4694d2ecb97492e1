"""Files that are cut off, of the wrong kind, or made to do harm: one sentence, exit code 3, and no code of theirs runs."""

import io
import json
import os
import pickle
import struct
import zipfile

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from torch import nn

from saconv_surgeon.cli import cli
from saconv_surgeon.models.exported import safe_expressions as exported_sizes

NET = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, bias=False))

def example_inputs():
    return torch.ones(1, 2, 9, 9)
"""


class Evil:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hostile_net.py").write_text(NET)
    return tmp_path


def net():
    scope = {}
    exec(NET, scope)
    return scope["build"]().eval()


def state(**changes):
    return {**net().state_dict(), **changes}


def refused(place, *args, code=3):
    """Runs the command; checks the exit code, that one message was printed and that nothing ran; returns the message."""
    result = CliRunner().invoke(cli, [*args])
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("saconv-surgeon: ")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert not (place / "mark").exists(), "code of the file has run"
    assert not (place / "out").exists()
    return result.stderr


def as_model(place, name):
    return refused(place, "convert", name, "-o", "out", "--no-latency")


def as_weights(place, name):
    return refused(place, "convert", "hostile_net.py:build", "--weights", name, "-o", "out", "--no-latency")


# ------------------------------------------------------------------ what torch.save writes


def rezip(source, target, *, compression=zipfile.ZIP_STORED, replace=None, twice=()):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, (replace or {}).get(name, old.read(name)))
            if name in twice:
                new.writestr(name, old.read(name))


def zip_bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * (96 * 2**20))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt"])
@pytest.mark.parametrize("size", [0, 1, 3, 100, 2000])
def test_cut_off(place, suffix, size):
    torch.save(state(), place / "whole.pt")
    (place / f"cut{suffix}").write_bytes((place / "whole.pt").read_bytes()[:size])
    for check in (as_model, as_weights):
        check(place, f"cut{suffix}")


@pytest.mark.parametrize("content", [b"hello", b"\x80\x02", bytes(range(256)), b"PK\x05\x06" + b"\0" * 18, b"{}"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".pt2", ".safetensors.index.json"])
def test_noise(place, content, suffix):
    (place / f"noise{suffix}").write_bytes(content)
    as_model(place, f"noise{suffix}")
    as_weights(place, f"noise{suffix}")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrap", [lambda evil: evil, lambda evil: {"state_dict": {**state(), "x": evil}}])
@pytest.mark.filterwarnings("ignore")
def test_pickled_code(place, zipped, wrap):
    torch.save(wrap(Evil(place / "mark")), place / "evil.pt", _use_new_zipfile_serialization=zipped)
    for check in (as_model, as_weights):
        message = check(place, "evil.pt")
        assert "--trust" in message or "cannot be loaded" in message
    if zipped:
        assert "mkdir" in as_model(place, "evil.pt")


def test_the_mark_can_be_left(place):
    """With leave, the same file does run: the tests above can fail."""
    torch.save({"state_dict": state(), "x": Evil(place / "mark")}, place / "evil.pt")
    result = CliRunner().invoke(cli, ["inspect", "hostile_net.py:build", "--weights", "evil.pt", "--trust"])
    assert result.exit_code == 0, result.output
    assert (place / "mark").exists()


def test_a_bare_pickle_with_code(place):
    (place / "evil.pt").write_bytes(pickle.dumps(Evil(place / "mark")))
    as_model(place, "evil.pt")
    as_weights(place, "evil.pt")


def test_zip_bombs(place):
    for name in ("bomb.pt", "bomb.pt2"):
        zip_bomb(place / name)
        assert (place / name).stat().st_size < 2**20
        assert "would unpack to" in as_model(place, name)
    assert "would unpack to" in as_weights(place, "bomb.pt")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_entries_twice(place):
    torch.save(state(), place / "whole.pt")
    with zipfile.ZipFile(place / "whole.pt") as archive:
        first = archive.namelist()[0]
    rezip(place / "whole.pt", place / "twice.pt", twice=(first,))
    assert "entries twice" in as_weights(place, "twice.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds no state dict; it holds list"),
        ({}, "it holds nothing"),
        (torch.zeros(3), "it holds Tensor"),
        ({"epoch": 3, "loss": 0.1}, "it holds 'epoch', 'loss'"),
        ({"state_dict": {"a": {"b": {"c": 1}}}}, "holds no state dict"),
    ],
)
def test_the_wrong_thing_inside(place, content, message):
    torch.save(content, place / "w.pt")
    assert message in as_weights(place, "w.pt")
    as_model(place, "w.pt")


def test_containers_that_hold_themselves(place):
    knot = {"state_dict": {}}
    knot["state_dict"]["state_dict"] = knot
    torch.save(knot, place / "knot.pt")
    as_weights(place, "knot.pt")


BROKEN_STATES = {
    "nan": (
        {"0.weight": torch.full((4, 2, 3, 3), float("nan"))},
        "NaN or infinite values in 1 of its parameters, first 0.weight",
    ),
    "inf": ({"3.weight": torch.full((4, 4, 3, 3), float("inf"))}, "first 3.weight (144 values)"),
    "whole numbers": (
        {"0.weight": torch.ones(4, 2, 3, 3, dtype=torch.int64)},
        "1 of another kind (first: 0.weight, file int64",
    ),
    "complex": ({"0.weight": torch.ones(4, 2, 3, 3, dtype=torch.complex64)}, "1 of another kind"),
    "boolean": ({"1.running_mean": torch.ones(4, dtype=torch.bool)}, "1 of another kind"),
    "shape": ({"0.weight": torch.ones(4, 2, 3, 1)}, "1 of another shape"),
    "scalar": ({"0.bias": torch.tensor(1.0)}, "1 of another shape"),
    "one more": ({"4.weight": torch.ones(1)}, "1 unknown to the model"),
}


@pytest.mark.parametrize(("changes", "message"), BROKEN_STATES.values(), ids=BROKEN_STATES.keys())
@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_broken_tensors(place, changes, message, kind):
    if kind == "pt":
        torch.save(state(**changes), place / "w.pt")
    else:
        save_file(state(**changes), place / "w.safetensors")
    assert message in as_weights(place, f"w.{kind}")


def test_a_model_of_nan(place):
    model = net()
    with torch.no_grad():
        model[0].bias[1] = float("nan")
    torch.save(model, place / "nan.pt")
    text = refused(place, "convert", "nan.pt", "--trust", "--input", "1x2x9x9", "-o", "out")
    assert "first 0.bias (1 values)" in text


def test_other_precisions_are_weights_all_the_same(place):
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        torch.save({k: v.to(dtype) if v.is_floating_point() else v for k, v in state().items()}, place / "w.pt")
        result = CliRunner().invoke(cli, ["inspect", "hostile_net.py:build", "--weights", "w.pt"])
        assert result.exit_code == 0, result.output


# ------------------------------------------------------------------ safetensors


def raw_safetensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


RAW = {
    "huge header": struct.pack("<Q", 2**40) + b"{}",
    "no json": raw_safetensors(b"{'a': 1}"),
    "a list": raw_safetensors([1]),
    "past the end": raw_safetensors({"0.weight": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}),
    "overflowing shape": raw_safetensors({"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 0]}}),
    "unknown dtype": raw_safetensors({"a": {"dtype": "F13", "shape": [1], "data_offsets": [0, 4]}}, b"\0" * 4),
    "name twice": raw_safetensors(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        b"\0" * 4,
    ),
    "nested": raw_safetensors(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
}


@pytest.mark.parametrize("content", RAW.values(), ids=RAW.keys())
def test_raw_safetensors(place, content):
    (place / "w.safetensors").write_bytes(content)
    assert "w.safetensors is not a readable safetensors file" in as_weights(place, "w.safetensors")


def shards(place):
    tensors = state()
    names = list(tensors)
    save_file({n: tensors[n] for n in names[:3]}, place / "w-1.safetensors")
    save_file({n: tensors[n] for n in names[3:]}, place / "w-2.safetensors")
    return {n: "w-1.safetensors" if n in names[:3] else "w-2.safetensors" for n in names}


def write_index(place, weight_map):
    (place / "w.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_sharded_weights_load(place):
    write_index(place, shards(place))
    result = CliRunner().invoke(cli, ["inspect", "hostile_net.py:build", "--weights", "w.safetensors.index.json"])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda m: m | {"0.weight": "absent.safetensors"}, "absent.safetensors does not exist"),
        (lambda m: m | {"0.weight": "../w-1.safetensors"}, "does not lie beside it"),
        (lambda m: m | {"0.weight": "w-2.safetensors"}, "lacks 1 tensors"),
        (lambda m: {k: v for k, v in m.items() if k != "0.weight"}, "1 missing in the file (first: 0.weight)"),
        (lambda m: [1], "is not a readable index"),
    ],
)
def test_broken_shards(place, spoil, message):
    write_index(place, spoil(shards(place)))
    assert message in as_weights(place, "w.safetensors.index.json")


# ------------------------------------------------------------------ exported programs


@pytest.fixture(scope="module")
def program_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "net.pt2"
    size = torch.export.Dim("size", min=4, max=64)
    program = torch.export.export(net(), (torch.ones(1, 2, 9, 9),), dynamic_shapes=({2: size},))
    torch.export.save(program, path)
    return path


def edited(program_file, place, ending, change):
    """A copy of the program with one of its JSON parts changed."""
    with zipfile.ZipFile(program_file) as archive:
        name = next(n for n in archive.namelist() if n.endswith(ending))
        content = json.loads(archive.read(name))
    change(content)
    rezip(program_file, place / "evil.pt2", replace={name: json.dumps(content)})
    return "evil.pt2"


def test_the_program_itself_is_accepted(place, program_file):
    result = CliRunner().invoke(cli, ["convert", str(program_file), "-o", "fine.pt2", "--no-latency"])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("size", [10, 500, 3000])
def test_a_program_cut_off(place, program_file, size):
    (place / "cut.pt2").write_bytes(program_file.read_bytes()[:size])
    assert "cut off" in as_model(place, "cut.pt2")


def first_node(content):
    return content["graph_module"]["graph"]["nodes"][0]


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.hub.load",
        "torch.ops.load_library",
        "torch.ops.aten.__class__",
        "torch.ops.aten.from_file.default",
        "_operator.methodcaller",
        "math.__loader__",
        "#anything",
        "builtins.eval",
        "torch.ops.aten.from_file.out",
        "torch.ops.aten.save.default",
        "_operator.pow",
        "_operator.lshift",
    ],
)
def test_calls_of_anything_but_operators(place, program_file, target):
    name = edited(program_file, place, "models/model.json", lambda c: first_node(c).update(target=target))
    assert f"a call of {target!r}" in as_model(place, name)


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').mkdir('mark')",
        "s0.__class__",
        "Symbol(\"__import__('os').mkdir('mark')\")",
        "(lambda: 1)()",
        "[x for x in (1,)]",
        "Max(s0, eval('1'))",
        "exec('1')",
        "s0 if s0 else s1",
        "9**9**9",
        "Pow(Integer(9), Integer(99))",
        "Pow(s0, s1)",
        "((((2**16)**16)**16)**16)**16",
        "LShift(Integer(1), Integer(99999999))",
        "1 << 99999999",
        "factorial(99999)",
        "Sum(s0, (s0, 1, 9))",
        "Function('f')(s0)",
        "s0 + " * 999 + "s0",
        "1e999999999",
        "Float('1e999999999')",
        "Integer('9'*9999999999)",
        "9" * 400,
        "s0 + 'x'",
    ],
)
def test_sizes_that_are_code(place, program_file, expression):
    def change(content):
        sizes = json.dumps(content).replace("Symbol('", "Symbol('")
        assert '"expr_str"' in sizes

        def spoil(value):
            if isinstance(value, dict):
                for key, item in value.items():
                    if key == "expr_str":
                        value[key] = expression
                    else:
                        spoil(item)
            elif isinstance(value, list):
                for item in value:
                    spoil(item)

        spoil(content)

    assert "the size expression" in as_model(place, edited(program_file, place, "models/model.json", change))


def test_pickled_parts(place, program_file):
    def pickled(content):
        next(iter(content["config"].values()))["use_pickle"] = True

    assert "a pickled value" in as_model(place, edited(program_file, place, "model_weights_config.json", pickled))


def test_code_among_the_sample_inputs(place, program_file):
    torch.save(Evil(place / "mark"), place / "inputs.pt")
    with zipfile.ZipFile(program_file) as archive:
        name = next(n for n in archive.namelist() if "sample_inputs" in n)
    rezip(program_file, place / "evil.pt2", replace={name: (place / "inputs.pt").read_bytes()})
    assert "a pickle of more than tensors" in as_model(place, "evil.pt2")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("data/sample_inputs/", "data/SAMPLE_INPUTS/"),
        ("models/model.json", "models/model.jsox"),
        ("extra/a", "models/a"),
    ],
)
def test_parts_under_other_names(place, program_file, old, new):
    """torch finds an entry whatever its case, and reads whatever lies under ``models/``."""
    with zipfile.ZipFile(program_file) as archive, zipfile.ZipFile(place / "evil.pt2", "w") as written:
        for name in archive.namelist():
            written.writestr(name.replace(old, new), archive.read(name))
        written.writestr(f"{name.partition('/')[0]}/{new.replace('extra', 'models')}2", b"{}")
    assert "an entry that torch.export.save does not write" in as_model(place, "evil.pt2")


def zipped(entries):
    """Contents, table and end of an archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as written:
        for name, content in entries.items():
            written.writestr(zipfile.ZipInfo(name), content)
    data = buffer.getvalue()
    end = data.rfind(b"PK\5\6")
    size, start = struct.unpack("<II", data[end + 12 : end + 20])
    return data[:start], data[start : start + size], data[end:]


def two_faced(shown, hidden):
    """An archive in which Python finds ``shown`` and torch ``hidden``: one counts from the end, one from the beginning.

    Names of one length and contents of one length altogether are needed.
    """
    contents, table, end = zipped(shown)
    hidden_contents, hidden_table, _ = zipped(hidden)
    assert len(contents) == len(hidden_contents) and len(table) == len(hidden_table)
    start = struct.pack("<I", len(hidden_contents))
    return hidden_contents + hidden_table + contents + table + end[:16] + start + end[20:]


def test_two_tables_of_contents(place, program_file):
    torch.save(Evil(place / "mark"), place / "inputs.pt")
    evil = (place / "inputs.pt").read_bytes()
    with zipfile.ZipFile(program_file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    inputs = next(name for name in entries if "sample_inputs" in name)
    pad = f"{inputs.partition('/')[0]}/extra/pad"
    room = len(evil) + len(entries[inputs])
    shown = {**entries, pad: bytes(room - len(entries[inputs]))}
    hidden = {**entries, inputs: evil, pad: bytes(room - len(evil))}
    (place / "evil.pt2").write_bytes(two_faced(shown, hidden))
    with zipfile.ZipFile(place / "evil.pt2") as archive:
        assert archive.read(inputs) == entries[inputs]  # Python sees nothing wrong
    assert "a pickle of more than tensors" in as_model(place, "evil.pt2")
    hidden = {name.replace("extra/pad", "extra/pat"): content for name, content in shown.items()}
    (place / "evil.pt2").write_bytes(two_faced(shown, hidden))
    assert "depends on who reads it" in as_model(place, "evil.pt2")


@pytest.mark.parametrize(
    "guard",
    [
        "open('mark', 'w')",
        "L['x'].size()[0] == 1) or (eval('1')",
        "L['x'].__class__ == 1",
        "L['x'].share_memory_() == 1",
        "[].append(1)",
        "L['\"']",
        "(lambda: 1)()",
        "math.__loader__",
        "print(1)",
    ],
)
def test_guards_that_are_code(place, program_file, guard):
    name = edited(program_file, place, "models/model.json", lambda c: c.update(guards_code=[guard]))
    assert "the guard" in as_model(place, name)


def test_operators_as_arguments(place, program_file):
    def change(content):
        first_node(content)["inputs"][0]["arg"] = {"as_operator": "torch.os.system"}

    assert "a call of 'torch.os.system'" in as_model(place, edited(program_file, place, "models/model.json", change))


def test_containers_that_hide_what_they_import(place, program_file):
    def change(content):
        spec = '[1, {"type": "x", "context": "{\\"default_factory_modul\\\\u0065\\": \\"os\\"}", "children_spec": []}]'
        content["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = spec

    assert "imports something" in as_model(place, edited(program_file, place, "models/model.json", change))


def renamed_input(content, name):
    """The program with another name for its input, everywhere."""
    values = content["graph_module"]["graph"]["tensor_values"]
    values[name] = values.pop("input")
    text = json.dumps(content).replace('{"name": "input"}', json.dumps({"name": name}))
    content.clear()
    content.update(json.loads(text))


INJECTED = "input=__import__('os').mkdir('mark')"


@pytest.mark.parametrize("name", [INJECTED, "class", "a b", 'x"y'])
def test_names_that_are_code(place, program_file, name):
    """torch writes the names of a graph into source code, and compiles it."""
    message = as_model(place, edited(program_file, place, "models/model.json", lambda c: renamed_input(c, name)))
    assert "the name" in message


def test_paths_that_are_code(place, program_file):
    """Parts of paths that are no identifiers are written in quotes."""

    def change(content):
        text = json.dumps(content).replace('"0.weight"', json.dumps('0"), __import__("os").mkdir("mark'))
        content.clear()
        content.update(json.loads(text))

    assert "the name" in as_model(place, edited(program_file, place, "models/model.json", change))


def test_keywords_that_are_code(place, program_file):
    def change(content):
        arguments = {"type": "builtins.dict", "context": json.dumps([INJECTED]), "children_spec": []}
        nothing = {"type": "builtins.tuple", "context": "null", "children_spec": []}
        spec = [1, {"type": "builtins.tuple", "context": "null", "children_spec": [nothing, arguments]}]
        content["graph_module"]["module_call_graph"][1]["signature"] = {
            "inputs": [],
            "outputs": [],
            "in_spec": json.dumps(spec),
        }

    assert "the name" in as_model(place, edited(program_file, place, "models/model.json", change))


def test_containers_too_deep_to_be_searched(place, program_file):
    def change(content):
        inner = {"type": "collections.defaultdict", "context": '{"default_factory_module": "os"}', "children_spec": []}
        for _ in range(240):
            inner = {"type": "builtins.list", "context": "null", "children_spec": [inner]}
        content["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = json.dumps([1, inner])

    assert "imports something" in as_model(place, edited(program_file, place, "models/model.json", change))


def test_containers_with_functions(place, program_file):
    def change(content):
        spec = json.dumps([1, {"type": "collections.defaultdict", "context": '{"default_factory_module": "os"}'}])
        content["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = spec

    assert "imports something" in as_model(place, edited(program_file, place, "models/model.json", change))


@pytest.mark.parametrize("ending", ["models/model.json", "model_weights_config.json"])
def test_parts_of_the_wrong_type(place, program_file, ending):
    with zipfile.ZipFile(program_file) as archive:
        name = next(n for n in archive.namelist() if n.endswith(ending))
    for content in ("[]", "null", "{}", "7", '"x"', "{"):
        rezip(program_file, place / "wrong.pt2", replace={name: content})
        as_model(place, "wrong.pt2")


def test_the_oldest_layout_is_pickled(place):
    with zipfile.ZipFile(place / "old.pt2", "w") as archive:
        archive.writestr("serialized_exported_program.json", "{}")
        archive.writestr("version", "5.3")
    assert "pickled" in as_model(place, "old.pt2")


@pytest.mark.parametrize(
    "text", ["s77", "2*s0 + 1", "Max(1, (s0 + 1)//2)", "Mul(Integer(3), Symbol('s0', positive=True))", "-int_oo"]
)
def test_sizes_that_are_sizes(text):
    assert exported_sizes.is_arithmetic(text)


# ------------------------------------------------------------------ other formats


@pytest.mark.filterwarnings("ignore")
def test_torchscript_says_the_way(place):
    torch.jit.save(torch.jit.trace(net(), torch.ones(1, 2, 9, 9)), place / "ts.pt")
    assert "TorchScript" in as_model(place, "ts.pt")
    assert "torch.export.export(" in as_model(place, "ts.pt")
    assert "TorchScript" in as_weights(place, "ts.pt")


def test_onnx_says_the_way(place):
    (place / "m.onnx").write_bytes(b"\x08\x07")
    assert "ONNX" in as_model(place, "m.onnx")


def test_a_folder_of_a_conversion_with_a_plan_that_repeats_itself(place):
    result = CliRunner().invoke(cli, ["convert", "hostile_net.py:build", "-o", "conv", "--no-latency"])
    assert result.exit_code == 0, result.output
    plan = place / "conv" / "plan.json"
    plan.write_text(plan.read_text().replace('"target": "saconv",', '"target": "saconv", "target": "aws",'))
    assert "names 'target' twice" in refused(place, "inspect", "conv")


def test_nothing_of_this_needs_the_models_class():
    assert isinstance(net(), nn.Module)


# ------------------------------------------------------------------ saved conversions


@pytest.fixture
def saved(place):
    arguments = ["convert", "hostile_net.py:build", "-o", "saved", "--no-latency", "-q"]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    return place / "saved" / "plan.json"


def renamed(saved, model):
    content = json.loads(saved.read_text())
    content["base"]["model"] = model
    saved.write_text(json.dumps(content))


def inspected(*options):
    return CliRunner().invoke(cli, ["inspect", "saved", *options])


def test_ones_own_conversion_opens(saved):
    assert inspected().exit_code == 0


@pytest.mark.parametrize("model", ["os:mkdir('mark')", "other_net.py:build", "timm:resnet18(checkpoint_path='x')"])
def test_a_plan_that_names_other_code(place, saved, model):
    (place / "other_net.py").write_text(f"import os\nos.mkdir('mark')\n{NET}")
    renamed(saved, model)
    message = refused(place, "inspect", "saved")
    assert "was not converted here" in message
    assert "--base" in message and "--trust" in message


def test_a_conversion_from_another_machine(place, saved, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(place / "elsewhere"))
    assert "was not converted here" in refused(place, "inspect", "saved")
    assert inspected("--trust").exit_code == 0
    assert inspected("--base", "hostile_net.py:build").exit_code == 0


def test_the_same_name_in_another_place(place, saved, monkeypatch):
    """Relative names mean the file that they meant."""
    (place / "below").mkdir()
    (place / "saved").rename(place / "below" / "saved")
    (place / "below" / "hostile_net.py").write_text(f"import os\nos.mkdir('mark')\n{NET}")
    monkeypatch.chdir(place / "below")
    assert "was not converted here" in refused(place, "inspect", "saved")


def test_a_key_that_cannot_be_kept(place, monkeypatch):
    (place / "occupied").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(place / "occupied"))
    arguments = ["convert", "hostile_net.py:build", "-o", "saved", "--no-latency", "-q"]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    assert json.loads((place / "saved" / "plan.json").read_text())["seal"] is None
    assert "was not converted here" in refused(place, "inspect", "saved")


@pytest.mark.parametrize(
    "change",
    [
        {"base": 5},
        {"base": []},
        {"base": "x"},
        {"base": {"model": 5}},
        {"base": {"model": []}},
        {"base": {"model": "x" * 9000}},
        {"seal": "é"},
        {"seal": 5},
    ],
)
def test_plans_with_a_strange_base(place, saved, change):
    content = json.loads(saved.read_text()) | change
    saved.write_text(json.dumps(content))
    result = inspected()
    assert result.exit_code in (2, 3)
    assert "Traceback" not in result.stderr


def test_a_plan_with_one_convolution_twice(place, saved):
    content = json.loads(saved.read_text())
    content["sites"].append(content["sites"][0])
    saved.write_text(json.dumps(content))
    assert "it has '0' twice" in refused(place, "inspect", "saved")


def test_options_that_mean_nothing_to_a_conversion(place, saved):
    assert "has its own weights" in refused(place, "inspect", "saved", "--pretrained", code=2)
    save_file(state(), place / "w.safetensors")  # of the original, not of a training of the conversion
    assert "missing in the file" in refused(place, "inspect", "saved", "--weights", "w.safetensors", code=3)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["a" * 300], 3),
        (["a" * 300 + ".pt"], 3),
        (["a" * 300 + ".py:build"], 3),
        (["hostile_net.py:build({[]: 1})"], 2),
        (["hostile_net.py:build", "--input", "99999999999999999999x2x9x9"], 2),
        (["hostile_net.py:build", "--input", "1x2x99999999x99999999"], 2),
        (["hostile_net.py:build", "--device", "xpu"], 2),
        (["hostile_net.py:build", "--json", "."], 2),
    ],
)
def test_arguments_beyond_reason(place, arguments, code):
    refused(place, "inspect", *arguments, code=code)


@pytest.mark.parametrize("seed", ["-1", str(2**32), str(10**23)])
def test_seeds_that_generators_refuse(place, seed):
    assert CliRunner().invoke(cli, ["inspect", "hostile_net.py:build", "--seed", seed]).exit_code == 2


@pytest.mark.parametrize("name", ["", "x" * 300, "../w.safetensors"])
def test_shards_with_strange_names(place, name):
    (place / "w.safetensors.index.json").write_text(json.dumps({"weight_map": {"0.weight": name}}))
    as_weights(place, "w.safetensors.index.json")


def test_a_report_too_deep_to_be_read(place):
    (place / "deep.json").write_text("[" * 100_000)
    (place / "other.json").write_text("{}")
    refused(place, "diff", "deep.json", "other.json", code=2)
