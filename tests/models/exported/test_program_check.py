"""Exported programs that would run code: none of it runs."""

import json
import struct
import zipfile

import pytest
import torch
from click.testing import CliRunner

from saconv_surgeon.cli import cli
from tests.models.hostile_files import Evil, as_model, net, rezip, zipped


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
        "torch.ops.aten._reshape_alias.default",
        "torch.ops.aten._index_put_impl_.default",
        "torch.ops.higher_order.while_loop",
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
