"""The commands as a user types them: output, JSON, exit codes, messages."""

import json
import subprocess
import sys
import time

import pytest
import torch

import saconv_surgeon as surgeon
from tests import nets
from tests.cli.running import FAST, MOVED, NETS, RESNET, SHORT, SIZE, run


def test_convert_saves_what_restores(tmp_path):
    result = run("convert", RESNET, "-o", tmp_path / "out", *FAST)
    assert result.exit_code == 0, result.stderr
    assert "✓ same outputs: bit-identical" in result.stdout
    assert "9 convolutions: 9 executed, 0 never ran · 7 converted, 2 refused" in result.stdout
    assert f"saved {tmp_path / 'out'}" in result.stderr
    from sample_models import tiny_resnet

    x, model = tiny_resnet.example_inputs(), tiny_resnet.build(depth=1, width=8)
    assert torch.equal(surgeon.restore(model, tmp_path / "out").eval()(x), model.eval()(x))


def test_json_contract(tmp_path):
    result = run("convert", RESNET, "--dry-run", "--json", "-", *FAST)
    record = json.loads(result.stdout)
    assert record["schema"] == "saconv-surgeon/conversion/1"
    assert (record["target"], record["converted"], record["refused"]) == ("saconv", 7, 2)
    assert record["executed"] == record["converted"] + record["refused"] - record["never_ran"]
    site = record["sites"][0]
    assert {"path", "decision", "reason", "calls", "shapes", "arguments", "executed"} <= set(site)
    assert {"passed", "bit_equal", "max_abs", "max_rel"} <= set(record["equivalence"])
    for side in ("before", "after"):
        profile = record[side]
        assert profile["schema"] == "saconv-surgeon/profile/1"
        for key in ("parameters", "trainable_parameters", "macs", "flops", "fvcore_flops", "activations"):
            assert isinstance(profile[key], int), key
        assert sum(layer["macs"] for layer in profile["layers"]) == profile["macs"]
        assert sum(layer["parameters"] for layer in profile["layers"]) == profile["parameters"]
        assert {"device", "median_s", "p90_s", "iqr_s", "n"} <= set(profile["latency"])
        assert profile["peak_memory_bytes"] > 4 * profile["parameters"]
        assert profile["uncounted_ops"] == {}
    assert set(record["latency_ratio"]) >= {"median", "low", "high", "verdict"}
    assert "same outputs" in result.stderr
    added = sum(site["added_macs"] for site in record["sites"] if site["decision"] == "convert")
    assert record["after"]["macs"] - record["before"]["macs"] == added
    added = sum(site["added_parameters"] for site in record["sites"] if site["decision"] == "convert")
    assert record["after"]["parameters"] - record["before"]["parameters"] == added


def test_profile_and_inspect_and_diff_and_env(tmp_path):
    for command in ("profile", "inspect"):
        result = run(command, RESNET, "--json", tmp_path / f"{command}.json", *(FAST if command == "profile" else []))
        assert result.exit_code == 0, result.stderr
    assert json.loads((tmp_path / "profile.json").read_text())["schema"] == "saconv-surgeon/profile/1"
    found = json.loads((tmp_path / "inspect.json").read_text())
    assert found["schema"] == "saconv-surgeon/inspection/1"
    assert found["ledger"] == {"executed": 9, "never_ran": 0, "converted": 7, "refused": 2}
    assert run("env").exit_code == 0
    assert json.loads(run("env", "--json", "-").stdout)["torch"] == torch.__version__


def test_diff_of_a_model_and_its_conversion(tmp_path):
    run("convert", RESNET, "-o", tmp_path / "out", "--no-latency", "-q")
    result = run("diff", RESNET, tmp_path / "out", "--json", "-", *FAST)
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert record["schema"] == "saconv-surgeon/diff/1"
    assert record["outputs"]["bit_equal"]
    assert record["weights"]["changed"] == []
    changed = [s["path"] for s in record["structure"] if s["change"] == "changed"]
    assert changed == [
        s["path"] for s in json.loads((tmp_path / "out/plan.json").read_text())["sites"] if s["decision"] == "convert"
    ]


def test_diff_of_a_model_with_itself_is_empty():
    result = run("diff", RESNET, RESNET, "--json", "-", "--no-latency")
    record = json.loads(result.stdout)
    assert (record["structure"], record["weights"]["changed"], record["outputs"]["bit_equal"]) == ([], [], True)
    assert "structure: no difference" in result.stderr


def test_diff_with_two_sets_of_weights(tmp_path):
    for i in range(2):
        torch.manual_seed(i)
        torch.save(nets.chain().state_dict(), tmp_path / f"{i}.pt")
    both = ["--weights", tmp_path / "0.pt", "--weights", tmp_path / "1.pt"]
    result = run("diff", f"{NETS}:chain", f"{NETS}:chain", *SIZE, *both, "--no-latency", "--json", "-")
    record = json.loads(result.stdout)
    assert len(record["weights"]["changed"]) == 4
    assert not record["outputs"]["bit_equal"]


@pytest.mark.slow
def test_profile_with_every_setting(tmp_path):
    # even batches: plain torch 2.13 on a CPU writes out of bounds in the bfloat16 channels_last backward of odd ones
    settings = ["--batch", "4,2", "--autocast", "bfloat16", "--threads", "2", "--train", "--channels-last", *SHORT]
    result = run("profile", RESNET, *settings, "--json", "-")
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert [t["batch"] for t in record["latencies"]] == [4, 2]
    assert record["latency"] == record["latencies"][0]
    for key, value in {"autocast": "bfloat16", "threads": 2, "channels_last": True, "compiled": False}.items():
        assert record["latency"][key] == value
    assert record["training"]["step"]["batch"] == 4
    assert record["training"]["saved_bytes"] > 0
    assert record["environment"]["torch"] == torch.__version__
    assert record["cross_check"]["agrees"]
    assert "samples/s" in result.stderr
    assert "training step" in result.stderr


TIME_MAJOR = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.rnn = nn.Conv2d(1, 1, 3, padding=1), nn.GRU(5, 4)
    def forward(self, x):
        assert x.shape[0] == 7
        return self.rnn(self.conv(x.unsqueeze(1)).squeeze(1))[0]
    def get_extra_state(self):
        return {"held": object()}
    def set_extra_state(self, state):
        pass
def build():
    return Net()
def example_inputs():
    return torch.zeros(7, 2, 5)
"""


def test_batches_along_another_axis(tmp_path):
    (tmp_path / "net.py").write_text(TIME_MAJOR)
    spec, timing = f"{tmp_path}/net.py:build", ["--batch", "1,3", *SHORT, "--json", "-"]
    for command in (["profile", spec], ["convert", spec, "--dry-run"], ["diff", spec, spec]):
        result = run(*command, *timing, "--batch-axis", "1")
        assert result.exit_code == 0, result.stderr
        assert "[1, 3]" in str([t["batch"] for t in _latencies(json.loads(result.stdout))])
    result = run("profile", spec, *timing, "--batch-axis", "3")
    assert (result.exit_code, "no input has an axis 3" in result.stderr) == (2, True)


def _latencies(record):
    return (record if "latencies" in record else record.get("after") or record["b"])["latencies"]


def test_a_state_that_a_folder_cannot_hold_is_refused_before_the_conversion(tmp_path):
    (tmp_path / "net.py").write_text(TIME_MAJOR)
    result = run("convert", f"{tmp_path}/net.py:build", "-o", tmp_path / "out", "--json", tmp_path / "r.json")
    assert result.exit_code == 3
    assert "more than plain tensors (first: _extra_state" in result.stderr
    assert not (tmp_path / "r.json").exists()


@pytest.mark.slow
def test_convert_and_diff_sweep_and_train():
    settings = ["--batch", "1,2", "--train", "--budget", "0.2", "--json", "-"]
    for command in (["convert", RESNET, "--dry-run"], ["diff", RESNET, RESNET]):
        result = run(*command, *settings)
        assert result.exit_code == 0, result.stderr
        record = json.loads(result.stdout)
        assert [ratio["batch"] for ratio in record["latency_ratios"]] == [1, 2]
        assert record["latency_ratio"] == record["latency_ratios"][0]
        assert record["training_ratio"]["n"] > 0
        assert "at batch 2" in result.stderr


def test_profile_against_an_earlier_report(tmp_path):
    run("profile", RESNET, "--no-latency", "--json", tmp_path / "old.json")
    result = run(
        "profile",
        "sample_models/tiny_resnet.py:build(depth=1, width=16)",
        "--no-latency",
        "--compare",
        tmp_path / "old.json",
    )
    assert result.exit_code == 0, result.stderr
    assert f"against {tmp_path / 'old.json'}" in " ".join(result.stdout.split())
    assert "changed layer" in result.stdout
    result = run("profile", RESNET, "--no-latency", "--compare", tmp_path / "old.json", "--json", "-")
    record = json.loads(result.stdout)["comparison"]
    assert record["same_conditions"]
    assert record["layers"] == []
    assert {change["ratio"] for change in record["totals"] if change["before"] is not None} == {1.0}
    assert "no layer changed" in result.stderr


def test_dry_run_writes_nothing(tmp_path):
    assert run("convert", f"{NETS}:chain", *SIZE, "-o", tmp_path / "out", "--dry-run", "--no-latency").exit_code == 0
    assert not any(tmp_path.iterdir())


def test_several_outputs(tmp_path):
    arguments = [
        "convert",
        f"{NETS}:chain",
        *SIZE,
        "-o",
        tmp_path / "out",
        "-o",
        tmp_path / "m.pt",
        "--no-latency",
        "-q",
    ]
    result = run(*arguments)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert (tmp_path / "out" / "plan.json").exists()
    assert (tmp_path / "m.pt").exists()
    again = run("profile", tmp_path / "m.pt", *SIZE, "--trust", "--no-latency", "--json", "-")
    folder = run("profile", tmp_path / "out", *SIZE, "--no-latency", "--json", "-")
    assert json.loads(again.stdout)["macs"] == json.loads(folder.stdout)["macs"]


@pytest.mark.parametrize("options", [["--dtype", "float16"], ["--dtype", "bfloat16"], ["--channels-last"]])
def test_dtype_and_layout_options(options):
    result = run("convert", RESNET, "--dry-run", "--no-latency", "--json", "-", *options)
    equivalence = json.loads(result.stdout)["equivalence"]
    assert equivalence["bit_equal"]
    assert equivalence["dtype"] == (options[1] if len(options) > 1 else "float32")


def test_conversion_that_moved_is_not_saved_and_exits_1(tmp_path):
    (tmp_path / "moved.py").write_text(MOVED)
    spec = f"{tmp_path / 'moved.py'}:build"
    result = run("convert", spec, "-o", tmp_path / "out", "--no-latency")
    assert result.exit_code == 1
    assert "✗ outputs moved" in result.stdout
    assert "nothing was saved" in result.stderr
    assert not (tmp_path / "out").exists()
    forced = run("convert", spec, "-o", tmp_path / "out", "--no-latency", "--force")
    assert forced.exit_code == 1
    assert (tmp_path / "out" / "plan.json").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["convert", f"{NETS}:chain", *SIZE], 2, "where to? give -o FOLDER"),
        (["convert", f"{NETS}:chain", *SIZE, "-o", "sample_models"], 2, "a folder with other files in it"),
        (["convert", f"{NETS}:chain", *SIZE, "-o", "x.onnx"], 2, "cannot save to x.onnx"),
        (["convert", f"{NETS}:chain", *SIZE, "-o", "x", "-o", "./x"], 2, "the same -o was given twice"),
        (
            ["convert", f"{NETS}:chain", *SIZE, "--dry-run", "--include", "conv9"],
            2,
            "matches none of the model's 2 convolutions",
        ),
        (["convert", f"{NETS}:chain", *SIZE, "--dry-run", "--to", "magic"], 2, "no conversion target 'magic'"),
        (["convert", f"{NETS}:hooked", *SIZE, "--dry-run"], 4, "nothing to convert"),
        (["inspect", f"{NETS}:chain"], 2, "no inputs to run it on"),
        (
            ["inspect", f"{NETS}:chain", "--input", "2x5x16x16"],
            3,
            "If the inputs are not what it needs, give others with --input",
        ),
        (["inspect", f"{NETS}:chain", *SIZE, "--device", "tpu9"], 2, "no device 'tpu9'"),
        (["inspect", f"{NETS}:chain", *SIZE, "--device", "cuda:77"], 2, "use --device cpu"),
        (["inspect", f"{NETS}:nothing", *SIZE], 3, "has no 'nothing'"),
        (["inspect", "nowhere.pt"], 3, "nowhere.pt does not exist"),
        (["inspect", "tests"], 3, "is not a saved conversion"),
        (
            ["profile", f"{NETS}:chain", *SIZE, "--no-latency", "--json", "no/such/folder/x.json"],
            2,
            "cannot be written",
        ),
        (["profile", f"{NETS}:chain", *SIZE, "--wieghts", "x"], 2, "No such option"),
        (["profile", f"{NETS}:chain", *SIZE, "--batch", "1,x"], 2, "is not a list of batch sizes such as 1,8,32"),
        (["profile", f"{NETS}:chain", *SIZE, "--budget", "nan"], 2, "nan is not a number to work with"),
        (["profile", f"{NETS}:chain", *SIZE, "--budget", "inf"], 2, "inf is not a number to work with"),
        (["convert", f"{NETS}:chain", *SIZE, "--dry-run", "--tolerance", "nan"], 2, "nan is not a number to work with"),
        (["profile", f"{NETS}:chain", *SIZE, "--threads", "100000"], 2, "is not in the range"),
        (
            ["profile", f"{NETS}:chain", *SIZE, "--no-latency", "--budget", "9"],
            2,
            "does not go together with --no-latency",
        ),
        (["profile", f"{NETS}:chain", *SIZE, "--abstract", "--device", "cpu"], 2, "leave --device cpu out"),
        (["diff", "a.json", "b.json", "--train"], 2, "--train does not go together with them"),
        (["profile", f"{NETS}:chain", *SIZE, "--batch", "0"], 2, "is not a list of batch sizes such as 1,8,32"),
        (
            ["profile", f"{NETS}:chain", *SIZE, "--no-latency", "--train"],
            2,
            "it does not go together with --no-latency",
        ),
        (["profile", f"{NETS}:chain", *SIZE, "--compare", "no.json"], 2, "no.json is not readable as JSON"),
        (
            ["profile", f"{NETS}:chain", *SIZE, "--compare", "pyproject.toml"],
            2,
            "pyproject.toml is not readable as JSON",
        ),
        (["proflie"], 2, "Did you mean"),
        (["diff", "a.json", "b.json"], 2, "a.json is not readable"),
    ],
)
def test_mistakes_have_one_message_and_their_code(arguments, code, message):
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    if "raised" not in result.stderr:
        assert "Traceback" not in result.stderr


def test_inspect_says_how_often_and_how_each_was_found():
    shared = run("inspect", f"{NETS}:SharedConv", *SIZE, env={"COLUMNS": "120"}).stdout
    assert "2 × 16×16→16×16" in shared
    assert "1 in the graph of the whole model" in shared
    two = run("inspect", f"{NETS}:TwoSizes", *SIZE, env={"COLUMNS": "120"}).stdout
    assert " 16×16→16×16, 8×8→8×8" in " ".join(two.split())
    alone = run("inspect", f"{NETS}:ControlFlow", *SIZE, env={"COLUMNS": "120"}).stdout
    assert "by running it alone (" in alone
    assert "1 in its module tree alone" in alone


def test_help_is_fast_and_imports_no_torch():
    probe = "import sys, saconv_surgeon, saconv_surgeon.cli as c; print('torch' in sys.modules, 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True).stdout.split() == [
        "False",
        "False",
    ]
    control = "import sys, saconv_surgeon; saconv_surgeon.SAConv2d; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", control], capture_output=True, text=True).stdout.strip() == "True"
    start = time.perf_counter()
    shown = subprocess.run([sys.executable, "-m", "saconv_surgeon", "--help"], capture_output=True, text=True)
    assert time.perf_counter() - start < 5  # the goal of 0.3 s is measured by a benchmark, not by a test
    assert shown.returncode == 0
    for command in ("inspect", "convert", "profile", "diff", "env"):
        assert command in shown.stdout
        assert run(command, "--help").exit_code == 0
