"""What is measured only if it is asked for: trees, rooflines, energy, receptive fields, pictures."""

import json

import pytest

from saconv_surgeon.cli import streams
from tests.cli.running import FAST, NETS, RESNET, SIZE, run

QUICK = ["--no-latency"]


def test_profile_as_a_tree():
    shown = run("profile", RESNET, "--tree", "--depth", "1", *QUICK).stdout
    assert "layer1  +" in shown
    assert "layer1.0.conv1" not in shown
    assert run("profile", RESNET, "--depth", "1", *QUICK).stdout == shown  # a depth is that of a tree
    assert "layer1.0.conv1" in run("profile", RESNET, *QUICK).stdout


def test_training_has_a_row_for_each_layer():
    result = run("profile", RESNET, "--train", *FAST, "--json", "-")
    record = json.loads(result.stdout)
    assert sum(row["saved_bytes"] or 0 for row in record["layers"]) == record["training"]["saved_bytes"] > 0
    assert all(row["backward_s"] > 0 for row in record["layers"] if row["type"] == "Conv2d")
    assert "backward" in result.stderr


@pytest.mark.parametrize("command", [["profile", RESNET], ["convert", RESNET, "--dry-run"], ["diff", RESNET, RESNET]])
def test_roofline_and_fields_are_in_the_record_and_the_report(command):
    result = run(*command, "--roofline", "--receptive-field", *FAST, "--json", "-")
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    for side in (
        [record] if command[0] == "profile" else [record[k] for k in ("before", "after", "a", "b") if k in record]
    ):
        assert {"intensity", "share", "bound"} <= set(side["roofline"]["points"][0])
        assert side["receptive_field"]["stages"][0]["theoretical"]
    assert "of its roof" in result.stderr
    assert "receptive field of" in result.stderr


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["profile", RESNET, "--roofline", "--no-latency"], "--roofline says how to measure time"),
        (["profile", RESNET, "--energy", "--no-latency"], "--energy says how to measure time"),
        (["profile", RESNET, "--roofline", "--no-layer-latency"], "leave the layer times on"),
        (["plan", RESNET, "--roofline", "--budget", "macs<1.2x"], "are about a whole model"),
        (["profile", RESNET, "--depth", "0"], "0 is not in the range"),
    ],
)
def test_what_does_not_go_together(command, message):
    result = run(*command)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_a_picture(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="pillow is not installed")
    image.new("RGB", (40, 30), (250, 10, 10)).save(tmp_path / "cat.jpg")
    assert run("convert", RESNET, "-o", tmp_path / "out", *QUICK).exit_code == 0
    result = run("diff", RESNET, tmp_path / "out", "--image", tmp_path / "cat.jpg", *QUICK)
    assert result.exit_code == 0, result.stderr
    assert "looks far in the picture" in result.stdout
    plain = run("diff", RESNET, RESNET, "--image", tmp_path / "cat.jpg", *QUICK)
    assert "no layer has a switch" in plain.stdout
    (tmp_path / "cat.jpg").write_text("meow")
    refused = run("diff", RESNET, RESNET, "--image", tmp_path / "cat.jpg", *QUICK)
    assert refused.exit_code == 2
    assert "is no picture that can be read" in refused.stderr
    assert (
        run("diff", f"{NETS}:OneConv", f"{NETS}:OneConv", *SIZE, "--image", tmp_path / "none.jpg", *QUICK).exit_code
        == 2
    )


def test_a_terminal_hears_at_once_what_is_read(monkeypatch):
    heard = []
    monkeypatch.setattr(streams, "talk_console", lambda quiet=False: Terminal(heard, quiet))
    streams.reading("nets.py:build", quiet=False)
    streams.reading("other.py:build", quiet=True)
    assert heard == ["reading nets.py:build …"]
    assert "reading" not in run("inspect", RESNET).stderr  # not in a pipe


class Terminal:
    is_terminal = True

    def __init__(self, heard, quiet):
        self.heard, self.quiet = heard, quiet

    def print(self, text, **options):
        if not self.quiet:
            self.heard.append(text)
