"""The tutorial, done as a reader would: its files written, its commands typed, in order."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r'```(python title="(?P<file>[^"]+)"|console)\n(?P<text>.*?)```', re.DOTALL)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="commands are those of a POSIX shell")]


def test_the_tutorial_runs_as_it_stands(tmp_path):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    blocks = list(BLOCK.finditer((ROOT / "docs/tutorial.md").read_text(encoding="utf-8")))
    assert len(blocks) > 10
    bin_folder = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    printed = {}
    for block in blocks:
        if block["file"]:
            (tmp_path / block["file"]).write_text(block["text"])
            continue
        for command in re.findall(r"^\$ (.+)$", block["text"], re.MULTILINE):
            if command.startswith("pip "):
                continue
            done = subprocess.run(
                command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
            )
            assert done.returncode == 0, (command, done.stderr[-3000:])
            printed[command.split(" -o ")[0].split(" --")[0]] = done.stdout
    assert "bit-identical" in printed["saconv-surgeon convert nets.py:build"]
    assert re.search(r"11 +4 +23×23", printed["saconv-surgeon profile nets.py:build"])
    pairs = re.findall(r"plain ([\d.]+)%, converted ([\d.]+)%", printed["python finetune.py"])
    assert len(pairs) == 3
    assert all(float(converted) > 90 > float(plain) for plain, converted in pairs)
    assert "67×67" in printed["saconv-surgeon diff converted trained"]
    assert "of 64" in printed["python use.py"]
