"""Targets on the command line: options, messages, exit codes, reports."""

import json

import pytest
import torch

from tests.cli.running import run

RESNET = "sample_models/tiny_resnet.py:build"
DATA = """
import torch

def batches(n=4, channels=3):
    for i in range(n):
        yield torch.randn(4, channels, 64, 64, generator=torch.Generator().manual_seed(i)), torch.zeros(4)

def broken():
    yield torch.randn(4, 3, 64, 64)
    raise RuntimeError("the disk is gone")

def number():
    return 3
"""


@pytest.fixture
def data(tmp_path):
    file = tmp_path / "target_data.py"
    file.write_text(DATA)
    return file


def convert(*arguments):
    return run("convert", RESNET, "--no-latency", *arguments)


@pytest.mark.slow
def test_spconv_says_not_equal_and_exits_with_0(tmp_path, data):
    result = convert(
        "--to", "spconv", "--ratio", "1/4", "--data", f"{data}:batches", "-o", tmp_path / "out", "--json", "-"
    )
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert record["equivalence"]["passed"] is False
    assert record["explained"]["cosine"] > 0.8
    assert record["explained"]["calibrated_on"] == 12
    assert record["options"] == {"ratio": "1/4"}
    assert "≠ not equal: fine-tune" in result.stderr
    assert "→ spconv ratio=1/4" in result.stderr
    assert "layer3.1.conv2" in result.stderr
    assert "same outputs" not in result.stderr
    again = run("inspect", tmp_path / "out", "--to", "aws")
    assert again.exit_code == 0, again.stderr
    assert "already a SPConv2d" in again.stdout


@pytest.mark.parametrize("width", [80, 120, 200])
def test_report_of_a_target_that_changes_the_function(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    result = convert("--to", "spconv", "--dry-run")
    text = " ".join(result.stdout.split())
    assert result.exit_code == 0, result.stderr
    assert "the part of each kernel that the new layer can express" in text
    assert "R² alone" in text
    assert "R² in place" in text
    assert "top-1 agreement" in text
    assert "−" in text  # it saves parameters
    assert all(len(line) <= width for line in result.stdout.splitlines())


def test_inspect_shows_what_would_be_saved():
    result = run("inspect", RESNET, "--to", "spconv", "--option", "ratio=1/8", "--json", "-")
    sites = json.loads(result.stdout)["sites"]
    assert all(site["added_macs"] < 0 for site in sites if site["decision"] == "convert")
    assert sum(site["decision"] == "convert" for site in sites) == 12


@pytest.mark.slow
def test_absorb_shows_what_moves_and_what_cannot(tmp_path):
    result = convert("--absorb", "-o", tmp_path / "out")
    text = " ".join(result.stdout.split())
    assert result.exit_code == 0, result.stderr
    assert "→ saconv + bn + act" in text
    assert "layer1.0.relu is" in text
    assert "bit-identical" in text
    found = run("diff", RESNET, tmp_path / "out", "--no-latency")
    assert found.exit_code == 0, found.stderr
    assert "outputs: bit-identical" in found.stdout


def test_aws():
    result = convert("--to", "aws", "--dry-run", "--json", "-")
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert record["converted"] == 15
    assert record["equivalence"]["bit_equal"] is True
    assert record["preserves_function"] is True


def test_absent_operator_leaves_nothing_to_convert(monkeypatch):
    monkeypatch.setattr("saconv_surgeon.convs.deformable.missing_operator", lambda: "torchvision is not here")
    result = convert("--to", "saconv-deform", "--dry-run")
    assert result.exit_code == 4
    assert "need torchvision's deform_conv2d: torchvision is not here" in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--to", "nothing"), 2, "no conversion target 'nothing'; there is: acb, aws, dbb, dcnv2, dilated-reparam"),
        (("--ratio", "1/2"), 2, "the target 'saconv' has no option 'ratio'"),
        (("--parts", "context"), 2, "there is: all, contexts, branches; needed: contexts (global context alone"),
        (("--to", "aws", "--parts", "contexts"), 2, "the target 'aws' has no option 'parts'"),
        (("--parts", "contexts", "--option", "parts=all"), 2, "--parts and --option parts=… were both given"),
        (("--plan", "x.json", "--parts", "all"), 2, "does not go together with --parts"),
        (("--to", "spconv", "--ratio", "2"), 2, "it is not between 0 and 1; needed: the share α"),
        (("--to", "spconv", "--ratio", "1/2", "--option", "ratio=1/4"), 2, "--ratio and --option ratio=… were both given"),
        (("--to", "spconv", "--option", "ratio"), 2, "'ratio' is not of the form name=value"),
        (("--to", "spconv", "--option", "a=1", "--option", "a=2"), 2, "the same name was given twice"),
        (("--to", "spconv", "--absorb"), 2, "the target 'spconv' has no norm and activation of its own"),
        (("--to", "spconv", "--init", "calibrate"), 2, "init 'calibrate' needs data"),
        (("--to", "spconv", "--init", "best"), 2, "'best' is not one of"),
        (("--init", "project"), 2, "'saconv' starts as the function of its convolutions"),
        (("--data", "DATA:batches"), 2, "data is not for it"),
        (("--to", "spconv", "--data", "DATA"), 2, "is not of the form file.py:make_batches"),
        (("--to", "spconv", "--data", "DATA:number"), 2, "gave a int; a list, a generator or a DataLoader"),
        (("--to", "spconv", "--data", "DATA:broken"), 3, "raised RuntimeError: the disk is gone"),
        (("--to", "spconv", "--data", "DATA:missing"), 3, "has no 'missing'"),
        (("--to", "spconv", "--data", "DATA:batches(channels=4)"), 3, "on batch 0 of the data, (4, 4, 64, 64)"),
        (("--plan", "x.json", "--absorb"), 2, "--plan follows the decisions in x.json; it does not go together with --absorb"),
        (("--plan", "x.json", "--ratio", "1/2"), 2, "does not go together with --ratio"),
        (("--plan", "x.json", "--option", "a=b"), 2, "does not go together with --option"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_mistakes_get_one_message(arguments, code, message, data):
    result = convert("--dry-run", *(a.replace("DATA", str(data)) for a in arguments))
    assert result.exit_code == code, result.stderr
    assert message in result.stderr
    assert ("Traceback" in result.stderr) == ("broken" in " ".join(arguments))


def test_plans_replay_with_their_options(tmp_path):
    convert("--to", "spconv", "--ratio", "1/8", "--dry-run", "--json", tmp_path / "plan.json")
    result = convert("--plan", tmp_path / "plan.json", "--dry-run", "--json", "-")
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert (record["target"], record["options"]) == ("spconv", {"ratio": "1/8"})
    with_nothing = json.loads((tmp_path / "plan.json").read_text()) | {"options": {"rate": "1"}}
    (tmp_path / "bad.json").write_text(json.dumps(with_nothing))
    result = convert("--plan", tmp_path / "bad.json", "--dry-run")
    assert result.exit_code == 2
    assert "no option 'rate'" in result.stderr


@pytest.mark.slow
def test_exported_programs_keep_the_layers(tmp_path):
    convert("--to", "spconv", "-o", tmp_path / "out.pt2", "-o", tmp_path / "out")
    result = run("diff", tmp_path / "out", tmp_path / "out.pt2", "--no-latency")
    assert result.exit_code == 0, result.stderr
    found = run("inspect", tmp_path / "out.pt2", "--to", "spconv", "--json", "-")
    reasons = [site["reason"] for site in json.loads(found.stdout)["sites"]]
    assert reasons.count("already a SPConv2d") == 12


def test_broken_outputs_of_a_changed_function_are_not_saved(tmp_path, monkeypatch):
    def wreck(layer, conv):
        torch.nn.init.constant_(layer.pwc.weight, float("nan"))

    monkeypatch.setattr("saconv_surgeon.convs.spconv.project", wreck)
    result = convert("--to", "spconv", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "not usable" in result.stdout
    assert not (tmp_path / "out").exists()


def test_parts_are_an_option_and_a_flag(tmp_path):
    for given in (("--parts", "contexts"), ("--option", "parts=contexts")):
        result = convert(*given, "--dry-run", "--json", "-")
        assert result.exit_code == 0, result.stderr
        record = json.loads(result.stdout)
        assert record["options"] == {"parts": "contexts"}
        assert record["equivalence"]["bit_equal"] is True
        added = [site["added_macs"] for site in record["sites"] if site["decision"] == "convert"]
        assert 0 < sum(added) < 100_000
