"""``saconv-surgeon demo``: works from anywhere, without a clone."""

import os
import subprocess
import sys

from tests.cli.running import run


def test_a_sample_is_converted_proved_and_priced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = run("demo", "-o", "out", "--report", "demo.html")
    assert made.exit_code == 0, made.stderr
    assert "bit-identical" in made.stdout
    assert "6 converted" in made.stdout
    assert "$ saconv-surgeon convert saconv_surgeon.cli.demo_model:build -o out" in made.stderr
    assert {each.name for each in tmp_path.iterdir()} == {"out", "demo.html"}
    assert run("profile", "out", "--no-latency", "-q").exit_code == 0
    again = run("demo", "-o", "out")
    assert again.exit_code == 2
    assert "exists already" in again.stderr


def test_it_leaves_nothing_behind(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "saconv_surgeon", "demo", "-q"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not [each for each in tmp_path.iterdir() if not each.name.startswith(".")]
