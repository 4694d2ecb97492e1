"""Reports and gates as a user asks for them."""

import json

import pytest
import torch

from saconv_surgeon.report.formats import FORMATS
from tests.cli.running import FAST, NETS, RESNET, SIZE, run

OTHER = "sample_models/tiny_resnet.py:build(depth=1, width=16)"
QUICK = ["--no-latency"]


@pytest.mark.parametrize(
    "command",
    [
        ["inspect", RESNET],
        ["profile", RESNET, *QUICK],
        ["convert", RESNET, "--dry-run", *QUICK],
        ["diff", RESNET, OTHER, *QUICK],
    ],
    ids=lambda command: command[0],
)
def test_every_command_writes_every_kind(command, tmp_path):
    files = [tmp_path / f"out{kind.upper() if kind == '.md' else kind}" for kind in FORMATS]
    files[0].write_text("an older report")
    result = run(*command, "-q", *(part for file in files for part in ("--report", file)), "--json", "-")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)
    for file in files:
        assert "conv1" in file.read_text(encoding="utf-8").replace("&#160;", " ")
    assert sorted(tmp_path.iterdir()) == sorted(files)  # nothing half-written beside them


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--report", "out.pdf"], "out.pdf is of no known kind; its name ends in .html, .md, .csv, .svg"),
        (["--report", "nowhere/out.html"], "is nowhere a folder that you may write to?"),
        (["--fail-if", "macs"], "is not a gate; write a figure"),
        (["--fail-if", "mcas>1x"], "no record has a figure 'mcas'"),
    ],
)
@pytest.mark.parametrize("command", ["profile", "diff", "convert"])
def test_wrong_options_are_said_before_anything_is_run(command, options, message):
    models = ["no/such.py:model"] * (2 if command == "diff" else 1)
    result = run(command, *models, *options, *(["--dry-run"] if command == "convert" else []))
    assert result.exit_code == 2
    assert message in result.stderr


def test_gates_of_a_diff_both_ways():
    holds = ["--fail-if", "macs>5x", "--fail-if", "parameters<1x", "--fail-if", "max_rel>1e9"]
    result = run("diff", RESNET, OTHER, *QUICK, *holds)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("passed") == 3
    result = run(
        "diff", RESNET, OTHER, *QUICK, *holds, "--fail-if", "macs>1.5x", "--fail-if", "macs<100x", "--json", "-"
    )
    assert result.exit_code == 1
    assert '--fail-if "macs>1.5x" failed: macs: a ' in result.stderr
    assert '--fail-if "macs<100x" failed: macs: a ' in result.stderr
    assert '"macs>5x" failed' not in result.stderr
    gates = json.loads(result.stdout)["gates"]
    assert [gate["failed"] for gate in gates] == [False, False, False, True, True]


def test_diff_of_a_model_with_itself_passes_every_gate():
    gates = ["--fail-if", "macs>1x", "--fail-if", "max_rel>0", "--fail-if", "top1<100%"]
    assert run("diff", RESNET, RESNET, *QUICK, *gates).exit_code == 0


def test_latency_gate_uses_the_paired_ratio():
    result = run("diff", RESNET, RESNET, *FAST, "--fail-if", "latency>30x", "--fail-if", "latency<0.03x")
    assert result.exit_code == 0, result.stderr
    assert (
        "95 % interval" in result.stdout or " pairs " in result.stdout
    )  # a busy machine gives too few for an interval
    result = run("diff", RESNET, RESNET, *FAST, "--no-layer-latency", "--fail-if", "latency>0.01x")
    assert result.exit_code == 1


def test_gate_without_its_figure_fails():
    result = run("diff", RESNET, OTHER, *QUICK, "--fail-if", "latency>2x")
    assert result.exit_code == 1
    assert "not known" in result.stderr


def test_gate_on_a_figure_of_another_command_fails_and_nothing_is_lost(tmp_path):
    result = run("diff", RESNET, OTHER, *QUICK, "--fail-if", "converted>1", "--json", tmp_path / "d.json")
    assert result.exit_code == 1
    assert "there is no figure 'converted' here; there are b.parameters" in result.stderr
    assert json.loads((tmp_path / "d.json").read_text())["gates"][0]["failed"]


def test_report_of_a_model_with_nothing_to_convert(tmp_path):
    reports = [part for kind in FORMATS for part in ("--report", tmp_path / f"out{kind}")]
    result = run("convert", RESNET, "--include", "fc*", "--dry-run", *QUICK)
    assert result.exit_code == 2  # a pattern that matches no convolution
    result = run("convert", RESNET, "--include", "*downsample*", "--dry-run", *QUICK, *reports)
    assert result.exit_code == 4
    assert "1×1 kernel" in (tmp_path / "out.html").read_text(encoding="utf-8")


def test_same_file_twice_and_reports_inside_an_output(tmp_path):
    x = tmp_path / "x.md"
    for both in (["--report", x, "--report", x], ["--report", x, "--json", x]):
        result = run("profile", RESNET, *QUICK, *both)
        assert (result.exit_code, x.exists()) == (2, False)
        assert "given twice" in result.stderr
    (tmp_path / "out").mkdir()
    result = run("convert", RESNET, "-o", tmp_path / "out", *QUICK, "--report", tmp_path / "out/r.html")
    assert result.exit_code == 2
    assert "put it beside that" in result.stderr


def test_gates_name_the_proof():
    assert run("convert", RESNET, "--dry-run", *QUICK, "--fail-if", "equivalence.max_rel>0").exit_code == 0


def test_conversion_that_fails_a_gate_is_not_saved(tmp_path):
    arguments = ["convert", RESNET, "-o", tmp_path / "out", *QUICK, "--fail-if", "macs>1.1x"]
    result = run(*arguments)
    assert result.exit_code == 1
    assert '--fail-if "macs>1.1x" failed' in result.stderr
    assert "nothing was saved" in result.stderr
    assert not (tmp_path / "out").exists()
    result = run(*arguments, "--force")
    assert result.exit_code == 1
    assert "saved all the same (--force)" in result.stderr
    assert (tmp_path / "out/plan.json").exists()


def test_gates_of_a_profile(tmp_path):
    assert run("profile", RESNET, *QUICK, "--fail-if", "macs>1e3").exit_code == 1
    assert run("profile", RESNET, *QUICK, "--fail-if", "macs>1T").exit_code == 0
    result = run("profile", RESNET, *QUICK, "--fail-if", "macs>1x")
    assert result.exit_code == 2
    assert "there is one model only" in result.stderr
    run("profile", RESNET, *QUICK, "--json", tmp_path / "old.json")
    compared = ["--compare", tmp_path / "old.json", "--fail-if", "macs>1.5x"]
    assert run("profile", RESNET, *QUICK, *compared).exit_code == 0
    assert run("profile", OTHER, *QUICK, *compared).exit_code == 1


def test_nan_in_weights_is_named(tmp_path):
    from tests import nets

    state = nets.chain().state_dict()
    name = next(iter(state))
    torch.save(state, tmp_path / "a.pt")
    state[name].view(-1)[0] = float("nan")
    torch.save(state, tmp_path / "b.pt")
    pair = ["--weights", tmp_path / "a.pt", "--weights", tmp_path / "b.pt"]
    result = run(
        "diff", f"{NETS}:chain", f"{NETS}:chain", *SIZE, *pair, *QUICK, "--fail-if", "max_rel>1e-5", "--json", "-"
    )
    assert f"{name}: 1 NaN in B" in result.stderr
    assert result.exit_code == 1
    record = json.loads(result.stdout)
    assert record["weights"]["not_finite"] == [f"{name}: 1 NaN in B"]
    assert record["outputs"]["max_rel"] is None
