"""Two saved reports: the same answer as the models give, without torch."""

import dataclasses
import json
import subprocess
import sys

import pytest

import saconv_surgeon as surgeon
from saconv_surgeon.comparing.saved_reports import diff_of_reports, read_profile
from saconv_surgeon.errors import UsageError
from saconv_surgeon.records import to_dict
from sample_models import tiny_resnet
from tests.comparing.test_aligning import Deep, body


def saved(path, model, x, **changes):
    record = to_dict(surgeon.profile(model, x, timing=None)) | changes
    path.write_text(json.dumps(record))
    return path


def test_same_changes_as_of_the_models(tmp_path):
    import torch
    from torch import nn

    other = body()
    other.insert(60, nn.Dropout2d(0.1))
    other[100] = nn.Conv2d(8, 8, 5, padding=2)

    class Run(Deep):
        def forward(self, x):
            return (self.fc if hasattr(self, "fc") else self.head)(self.body(x).mean((2, 3)))

    a, b, x = Run(body()), Run(other, head="head"), torch.randn(1, 8, 4, 4)
    found = diff_of_reports(saved(tmp_path / "a.json", a, x), saved(tmp_path / "b.json", b, x))
    said = {(c.change, c.path, c.new_path) for c in found.structure}
    # a dropout does nothing in inference and has no row; what comes behind it has shifted all the same
    assert said == {("changed", "body.99", "body.100"), ("renamed", "fc", "head")}
    assert found.weights is None
    assert found.outputs is None
    ran = surgeon.diff(a, b, x, timing=None)
    assert said == {(c.change, c.path, c.new_path) for c in ran.structure} - {("added", "body.60", None)}
    assert [(p.a, p.b) for p in found.layers] == [(p.a, p.b) for p in ran.layers]


def test_same_report_is_empty(tmp_path):
    file = saved(tmp_path / "a.json", tiny_resnet.build(), tiny_resnet.example_inputs())
    found = diff_of_reports(file, file)
    assert found.structure == ()
    assert all(p.change == "same" and p.a == p.b for p in found.layers)


def test_reports_without_settings_are_told_by_size(tmp_path):
    x = tiny_resnet.example_inputs()
    for name, model in (("a", tiny_resnet.build()), ("b", tiny_resnet.build(width=8))):
        record = to_dict(surgeon.profile(model, x, timing=None))
        record["layers"] = [
            {k: v for k, v in row.items() if k not in ("settings", "converted")} for row in record["layers"]
        ]
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    found = diff_of_reports(tmp_path / "a.json", tmp_path / "b.json")
    assert {c.change for c in found.structure} == {"changed"}
    assert found.structure[0].a == "Conv2d(2,352 parameters)"
    old = diff_of_reports(tmp_path / "a.json", saved(tmp_path / "c.json", tiny_resnet.build(), x))
    assert old.structure == ()


def test_conversion_counts_as_what_it_gave(tmp_path):
    model, x = tiny_resnet.build(), tiny_resnet.example_inputs()
    conversion = surgeon.price(surgeon.convert(model, x), model, x, timing=None)
    (tmp_path / "b.json").write_text(json.dumps(conversion.to_dict()))
    found = diff_of_reports(saved(tmp_path / "a.json", model, x), tmp_path / "b.json")
    assert {c.path for c in found.structure} == set(conversion.plan.converted_paths)
    assert all(c.b.startswith("SAConv2d(") for c in found.structure)


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"schema": "saconv-surgeon/diff/1"}', '{"layers": 3}'])
def test_what_is_no_report(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(UsageError, match=r"x\.json"):
        diff_of_reports(tmp_path / "x.json", tmp_path / "x.json")


@pytest.mark.parametrize("kind", [".html", ".md", ".csv", ".svg"])
def test_no_torch_is_imported(tmp_path, kind):
    file = saved(tmp_path / "a.json", tiny_resnet.build(), tiny_resnet.example_inputs())
    report = tmp_path / f"out{kind}"
    probe = (
        "import sys; from saconv_surgeon.cli import cli\n"
        f"sys.argv = ['x', 'diff', {str(file)!r}, {str(file)!r}, '--report', {str(report)!r}, '--fail-if', 'macs>1x']\n"
        "try: cli()\nexcept SystemExit as e: print(e.code)\n"
        "print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.stdout.split()[-3:] == ["0", "False", "False"], done.stderr
    assert report.stat().st_size > 500


def test_record_survives_json():
    x = tiny_resnet.example_inputs()
    found = surgeon.diff(tiny_resnet.build(), surgeon.convert(tiny_resnet.build(), x).model, x, timing=None)
    from saconv_surgeon.records import Diff, from_dict

    again = from_dict(Diff, json.loads(json.dumps(to_dict(found))))
    assert dataclasses.asdict(again) == dataclasses.asdict(found)


@pytest.mark.parametrize("name", ["\ud800x", "x\udfff", "\udc80\ud800"])
def test_half_characters_are_no_text(tmp_path, name):
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"schema": "saconv-surgeon/profile/1", "layers": [{"path": name}]}))
    with pytest.raises(UsageError, match="is not readable as JSON"):
        read_profile(path)
    whole = name.encode("utf-16", "surrogatepass").decode("utf-16", "ignore") + "\U0001f600"
    path.write_text(json.dumps({"schema": "saconv-surgeon/profile/1", "layers": [{"path": whole}]}))
    with pytest.raises(UsageError, match="is not a report of profile"):
        read_profile(path)
