"""``inspect --safety``: what it says, its exit codes, and SARIF."""

import json
import os

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from saconv_surgeon.records.safety import SAFETY_RULES
from tests.cli.running import run
from tests.models.hostile_files import NET, Evil

WEIGHTS = {"0.weight": torch.ones(2, 3), "0.bias": torch.zeros(2)}


def write(folder):
    """One file of each kind; whether it loads without leave."""
    torch.save(WEIGHTS, folder / "good.pt")
    torch.save(WEIGHTS, folder / "old.pt", _use_new_zipfile_serialization=False)
    torch.save({"model": nn.Sequential(nn.Conv2d(1, 1, 1)), "epoch": 3}, folder / "checkpoint.pt")
    save_file(WEIGHTS, folder / "good.safetensors")
    (folder / "good.safetensors.index.json").write_text(
        json.dumps({"weight_map": dict.fromkeys(WEIGHTS, "good.safetensors")})
    )
    (folder / "noise.pt2").write_bytes(bytes(range(256)))
    torch.save({"x": Evil(folder / "mark"), **WEIGHTS}, folder / "evil.pt")
    torch.save(nn.Conv2d(1, 1, 1), folder / "model.pt")
    (folder / "cut.pt").write_bytes((folder / "good.pt").read_bytes()[:-40])
    (folder / "cut.safetensors").write_bytes((folder / "good.safetensors").read_bytes()[:20])
    (folder / "lost.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "nowhere.safetensors"}}))
    (folder / "net.py").write_text(NET)
    (folder / "graph.onnx").write_bytes(b"\x08\x07")
    (folder / "noise.bin").write_bytes(bytes(range(256)))
    (folder / "empty.pt").write_bytes(b"")
    (folder / "text.txt").write_text("hello")
    (folder / "plan.json").write_text("{}")


LOADS = ("good.pt", "old.pt", "checkpoint.pt", "good.safetensors", "good.safetensors.index.json")
REFUSED = {
    "evil.pt": "code",
    "model.pt": "code",
    "cut.pt": "damaged",
    "cut.safetensors": "damaged",
    "lost.safetensors.index.json": "damaged",
    "net.py": "program",
    "graph.onnx": "format",
    "noise.bin": "damaged",
    "empty.pt": "damaged",
    "text.txt": "damaged",
    "plan.json": "format",
    "noise.pt2": "damaged",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write(folder)
    return folder


@pytest.mark.parametrize("name", LOADS)
def test_what_loads(files, name):
    result = run("inspect", "--safety", str(files / name))
    assert result.exit_code == 0, result.output
    assert "loads without --trust" in result.stdout.replace("\n", "")


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not(files, name, tmp_path):
    result = run("inspect", "--safety", str(files / name), "--json", str(tmp_path / "out.sarif"))
    assert result.exit_code == 1, result.output
    assert [line for line in result.stderr.splitlines() if line.startswith("saconv-surgeon: ")]
    log = json.loads((tmp_path / "out.sarif").read_text())
    check_sarif(log)
    assert log["runs"][0]["results"][-1]["ruleId"] == REFUSED[name]
    assert not (files / "mark").exists()


def test_the_verdict_is_that_of_loading(files, monkeypatch):
    """What loads without leave according to the look does, and nothing else."""
    monkeypatch.chdir(files)
    for name in ("good.pt", "old.pt", "checkpoint.pt", "evil.pt", "model.pt", "cut.pt", "noise.bin"):
        loaded = run("inspect", "net.py:build", "--weights", name)
        wanted = "does not fit" in loaded.stderr or "missing in the file" in loaded.stderr or loaded.exit_code == 0
        assert wanted == (name in LOADS), (name, loaded.output)


def test_names_and_reasons_are_shown(files):
    result = run("inspect", "--safety", str(files / "evil.pt"))
    assert "posix.mkdir" in result.stdout
    assert "refused" in result.stdout
    assert "torch._utils._rebuild_tensor_v2" in result.stdout
    assert "--trust" in result.stdout


def test_a_whole_model_in_a_checkpoint_is_both(files):
    result = run("inspect", "--safety", str(files / "checkpoint.pt"), "--json", "-")
    assert json.loads(result.stdout)["runs"][0]["properties"]["models"] is True
    assert "as --weights; as MODEL with --trust" in result.stderr.replace("\n", " ")


@pytest.mark.parametrize("name", ["nowhere.pt", "."])
def test_no_file(files, name, monkeypatch):
    monkeypatch.chdir(files)
    assert run("inspect", "--safety", name).exit_code == 3


def test_a_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "m.pt")
    assert run("inspect", "--safety", str(tmp_path / "m.pt")).exit_code == 3


@pytest.mark.parametrize(
    "besides", [["--trust"], ["--weights", "w.pt"], ["--input", "1x3x8x8"], ["--to", "aws"], ["--fail-if", "macs>1"]]
)
def test_options_that_mean_nothing_are_refused(files, besides):
    result = run("inspect", "--safety", str(files / "good.pt"), *besides)
    assert result.exit_code == 2
    assert f"--safety loads nothing, and {besides[0]}" in result.stderr


def test_reports(files, tmp_path):
    path = str(files / "evil.pt")
    for suffix in (".md", ".html", ".csv"):
        run("inspect", "--safety", path, "--report", str(tmp_path / f"r{suffix}"))
        assert "posix.mkdir" in (tmp_path / f"r{suffix}").read_text()


def check_sarif(log):
    """The structure that SARIF 2.1.0 asks for, by its specification: what must be there, and what refers to what."""
    assert set(log) <= {"$schema", "version", "runs", "inlineExternalProperties", "properties"}
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-schema-2.1.0.json")
    for each in log["runs"]:
        driver = each["tool"]["driver"]
        assert isinstance(driver["name"], str)
        ids = [rule["id"] for rule in driver["rules"]]
        assert len(ids) == len(set(ids))
        assert ids == list(SAFETY_RULES)
        for rule in driver["rules"]:
            assert rule["shortDescription"]["text"].endswith(".")
            assert rule["help"]["text"].endswith(".")
            assert rule["defaultConfiguration"]["level"] in ("none", "note", "warning", "error")
        for artifact in each["artifacts"]:
            assert artifact["length"] >= 0
            assert " " not in artifact["location"]["uri"]
        for result in each["results"]:
            assert ids[result["ruleIndex"]] == result["ruleId"]
            assert result["level"] in ("none", "note", "warning", "error")
            assert result["message"]["text"]
            for location in result["locations"]:
                place = location["physicalLocation"]
                assert (
                    each["artifacts"][place["artifactLocation"]["index"]]["location"]["uri"]
                    == place["artifactLocation"]["uri"]
                )
                if "region" in place:
                    assert place["region"]["byteOffset"] >= 0
                    assert place["region"]["byteLength"] >= 1
        for invocation in each["invocations"]:
            assert isinstance(invocation["executionSuccessful"], bool)


def test_sarif_of_names_that_are_no_uris(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"x": Evil(tmp_path / "mark")}, tmp_path / "a b#%é.pt")
    for name in ("a b#%é.pt", str(tmp_path / "a b#%é.pt")):
        log = json.loads(run("inspect", "--safety", name, "--json", "-").stdout)
        check_sarif(log)
        assert "a%20b%23%25" in log["runs"][0]["artifacts"][0]["location"]["uri"]
