"""``--to detectors``, plans edited by hand, and converting twice, on the command line."""

import json
import re

import pytest

from tests.cli.running import RESNET, run
from tests.operators import whole_operator  # noqa: F401 - a fixture

QUICK = ["--no-latency", "-q"]


def targets(record):
    """What each converted site of a record becomes, with its options."""
    own = (record["target"], record["options"])
    return {
        s["path"]: (s["target"], s["options"]) if s["target"] else own
        for s in record["sites"]
        if s["decision"] == "convert"
    }


@pytest.mark.usefixtures("whole_operator")
def test_detectors_makes_one_plan_that_is_replayed_saved_and_profiled(tmp_path):
    out = tmp_path / "out"
    made = run("convert", RESNET, "--to", "detectors", "-o", out, "--no-latency", "--json", "-")
    assert made.exit_code == 0, made.stderr
    record = json.loads(made.stdout)
    assert record["target"] == "detectors"
    plan = json.loads((out / "plan.json").read_text())
    assert targets(plan) == targets(record)
    assert re.search(r"detectors: \d+ layers → aws, \d+ layers → saconv-deform", made.stderr)
    kinds = {name for name, _ in targets(record).values()}
    assert kinds == {"aws", "saconv-deform"}
    deform = {path for path, (name, _) in targets(record).items() if name == "saconv-deform"}
    assert deform == {p for p in targets(record) if p.startswith(("layer2", "layer3")) and "downsample" not in p}
    again = run("convert", RESNET, "--plan", out / "plan.json", "--dry-run", *QUICK, "--json", "-")
    assert targets(json.loads(again.stdout)) == targets(record)
    profile = json.loads(run("profile", out, *QUICK, "--json", "-").stdout)
    assert {row["type"] for row in profile["layers"]} >= {"ConvAWS2d", "DeformableSAConv2d"}
    assert profile["parameters"] == record["after"]["parameters"]


def test_without_the_operator_one_line_says_so(tmp_path):
    from saconv_surgeon.convs.deformable import missing_operator

    if missing_operator() is None:
        pytest.skip("the operator is here")
    shown = run("inspect", RESNET, "--to", "detectors")
    assert shown.exit_code == 0
    text = " ".join(shown.stdout.split())
    assert len(re.findall(r"\d × aws instead of saconv-deform: deformable branches need torchvision's", text)) == 1


@pytest.mark.parametrize("suffix", ["html", "md", "csv"])
def test_reports_say_what_each_layer_becomes(suffix, tmp_path):
    plan = tmp_path / "plan.json"
    assert run("inspect", RESNET, "--json", plan, "-q").exit_code == 0
    content = json.loads(plan.read_text())
    for site in content["sites"]:
        if site["path"] == "layer3.0.conv2":
            site |= {"target": "spconv", "options": {"ratio": "1/4"}}
        elif site["path"] == "conv1":
            site |= {"target": "aws", "options": {}}
        else:
            site["decision"] = "refuse"
    plan.write_text(json.dumps(content))
    report = tmp_path / f"report.{suffix}"
    done = run("convert", RESNET, "--plan", plan, "--dry-run", "--no-latency", "--report", report)
    assert done.exit_code == 0, done.stderr
    assert "saconv: 1 layer → aws, 1 layer → spconv ratio=1/4" in " ".join(done.stdout.split())
    assert "≠ not equal: fine-tune" in done.stdout
    text = report.read_text()
    assert ("→ spconv ratio=1/4" in text and "→ aws" in text) or suffix == "csv"


def test_csv_of_an_inspection_has_the_target_of_each_layer(tmp_path):
    report = tmp_path / "sites.csv"
    assert run("inspect", RESNET, "--to", "detectors", "--report", report, "-q").exit_code == 0
    header, *rows = (line.split(",") for line in report.read_text().splitlines())
    at = header.index("target")
    assert {row[at] for row in rows} <= {"aws", "saconv-deform"} and rows
    whole = tmp_path / "whole.csv"
    assert run("inspect", RESNET, "--parts", "contexts", "--report", whole, "-q").exit_code == 0
    header, *rows = (line.split(",") for line in whole.read_text().splitlines())
    row = dict(zip(header, rows[1], strict=True))
    assert (row["target"], row["options"]) == ("saconv", "parts=contexts")


def test_that_contexts_are_to_be_tried_first_is_said_once():
    advice = "--parts contexts adds next to no MACs"
    for command in (["inspect"], ["convert", "--include", "conv1", "--dry-run", "--no-latency"]):
        assert run(command[0], RESNET, *command[1:]).stdout.count(advice) == 1
    for other in (["--parts", "contexts"], ["--to", "aws"], ["--exclude", "*"]):
        assert run("inspect", RESNET, *other).stdout.count(advice) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": "sponge"}, "'layer3.0.conv2', but not to what there is: no conversion target 'sponge'"),
        ({"target": "aws", "options": {"ratio": "1/2"}}, "'layer3.0.conv2', .* the target 'aws' has no option 'ratio'"),
        ({"options": {"parts": "most"}}, "'layer3.0.conv2', .* parts 'most' of the target 'saconv'"),
        ({"target": 3}, r"sites\[\d+\].target: expected str, found '3'"),
        ({"options": {"parts": 3}}, r"sites\[\d+\].options\['parts'\]: expected str, found '3'"),
    ],
)
def test_an_edited_plan_with_a_mistake_gives_one_message(change, message, tmp_path):
    plan = tmp_path / "plan.json"
    assert run("inspect", RESNET, "--json", plan, "-q").exit_code == 0
    content = json.loads(plan.read_text())
    next(s for s in content["sites"] if s["path"] == "layer3.0.conv2").update(change)
    plan.write_text(json.dumps(content))
    done = run("convert", RESNET, "--plan", plan, "--dry-run", *QUICK)
    assert done.exit_code in (2, 3)
    assert re.search(message, " ".join(done.stderr.split())), done.stderr


def test_converting_twice_is_one_folder_from_the_original(tmp_path):
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    assert run("convert", RESNET, "--include", "layer3.*", "-o", one, *QUICK).exit_code == 0
    done = run("convert", one, "--to", "aws", "--include", "layer[12].*", "-o", two, "--no-latency")
    assert done.exit_code == 0, done.stderr
    assert "converted before" in done.stdout
    plan = json.loads((two / "plan.json").read_text())
    assert plan["base"]["model"] == RESNET
    assert plan["base"]["fingerprint"] == json.loads((one / "plan.json").read_text())["base"]["fingerprint"]
    assert {name for name, _ in targets(plan).values()} == {"saconv", "aws"}
    assert run("convert", two, "--to", "aws", "-o", three, *QUICK).exit_code == 0
    assert json.loads((three / "plan.json").read_text())["base"]["model"] == RESNET
    compared = run("diff", RESNET, three, *QUICK, "--json", "-")
    assert json.loads(compared.stdout)["outputs"]["bit_equal"] is True
    folded = run("fold", three, "-o", tmp_path / "fast.pt", *QUICK)
    assert folded.exit_code == 0, folded.stderr
    nothing = run("convert", three, "--dry-run", *QUICK)
    assert nothing.exit_code == 4
    replayed = run("convert", RESNET, "--plan", three / "plan.json", "--dry-run", *QUICK, "--json", "-")
    assert targets(json.loads(replayed.stdout)) == targets(json.loads((three / "plan.json").read_text()))


def test_another_target_than_the_plans_is_not_ignored(tmp_path):
    plan = tmp_path / "plan.json"
    assert run("inspect", RESNET, "--json", plan, "-q").exit_code == 0
    done = run("convert", RESNET, "--plan", plan, "--to", "aws", "--dry-run", *QUICK)
    assert done.exit_code == 2
    assert "whose target is 'saconv', not 'aws'" in " ".join(done.stderr.split())
    assert run("convert", RESNET, "--plan", plan, "--to", "saconv", "--dry-run", *QUICK).exit_code == 0
