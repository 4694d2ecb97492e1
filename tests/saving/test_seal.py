"""Saved conversions of one's own, and of others."""

import json

import pytest
from click.testing import CliRunner

from saconv_surgeon.cli import cli
from tests.models.hostile_files import NET, refused


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
