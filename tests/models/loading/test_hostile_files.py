"""Files that are cut off, of the wrong kind, or made to do harm: one sentence, exit code 3, and no code of theirs runs."""

import json
import pickle
import struct

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from torch import nn

from saconv_surgeon.cli import cli
from tests.models.hostile_files import Evil, as_model, as_weights, net, refused, state


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


def raw_safetensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


RAW = {
    "huge header": struct.pack("<Q", 2**40) + b"{}",
    "no json": raw_safetensors(b"{'a': 1}"),
    "a list": raw_safetensors([1]),
    "past the end": raw_safetensors({"0.weight": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}),
    "overflowing shape": raw_safetensors({"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 0]}}),
    "overlapping": raw_safetensors(
        {
            "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
        },
        b"\0" * 12,
    ),
    "a hole between": raw_safetensors(
        {
            "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
            "b": {"dtype": "F32", "shape": [1], "data_offsets": [8, 12]},
        },
        b"\0" * 12,
    ),
    "more values than bytes": raw_safetensors(
        {"a": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4]}}, b"\0" * 4
    ),
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
