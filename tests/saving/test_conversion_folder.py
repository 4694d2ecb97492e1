"""The folder of a saved conversion."""

import json

import pytest
import torch

import saconv_surgeon as surgeon
from tests.saving.conversions import converted


def test_folder_holds_the_record(tmp_path):
    surgeon.save(converted(), tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["model.safetensors", "plan.json", "report.json"]
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert plan["schema"] == "saconv-surgeon/plan/1"
    assert plan["target"] == "saconv"
    assert plan["torch_version"] == torch.__version__
    assert [site["decision"] for site in plan["sites"]] == ["convert", "convert"]
    assert len(plan["base"]["fingerprint"]) == 64
    assert plan["equivalence"]["bit_equal"] is True
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["schema"], report["converted"], report["refused"]) == ("saconv-surgeon/conversion/1", 2, 0)


def test_folder_of_others_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(surgeon.UsageError, match="a folder with other files in it"):
        surgeon.save(converted(), tmp_path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_overwriting_keeps_other_files(tmp_path):
    surgeon.save(converted(), tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    surgeon.save(converted(), tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_weights_file_holds_data_only(tmp_path):
    """No pickle anywhere in the folder."""
    surgeon.save(converted(), tmp_path / "out")
    for file in (tmp_path / "out").iterdir():
        head = file.read_bytes()[:2]
        assert head not in (b"PK", b"\x80\x02", b"\x80\x04")
