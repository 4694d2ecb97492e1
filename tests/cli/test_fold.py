"""``fold`` on the command line: what a user types after a training, and what goes wrong."""

import json

import pytest
import torch

import saconv_surgeon as surgeon
from sample_models import tiny_resnet
from tests import oracle
from tests.cli.running import run

SMALL = "sample_models/tiny_resnet.py:build(depth=1, width=8)"
FAST = ("--no-latency", "--no-layer-latency", "--trials", "1")


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A conversion in a folder, and the state dict of a training of it."""
    place = tmp_path_factory.mktemp("converted")
    model = tiny_resnet.build(depth=1, width=8)
    result = run("convert", SMALL, "-o", place / "out", "--no-latency", "--no-layer-latency")
    assert result.exit_code == 0, result.stderr
    model = surgeon.restore(tiny_resnet.build(depth=1, width=8), place / "out")
    for i, layer in enumerate(m for m in model.modules() if isinstance(m, surgeon.SAConv2d)):
        if i % 2 == 0:
            oracle.shake(layer, seed=i, size=0.05)
    torch.save({"state_dict": model.state_dict()}, place / "trained.pt")
    return place, model


def fold(place, *arguments, weights=True):
    given = ("--weights", place / "trained.pt") if weights else ()
    return run("fold", place / "out", "--base", SMALL, *given, *FAST, *arguments)


@pytest.mark.slow
def test_after_a_training(converted, tmp_path):
    place, model = converted
    result = fold(place, "-o", tmp_path / "fast.pt", "-o", tmp_path / "fast.pt2", "--json", tmp_path / "r.json")
    assert result.exit_code == 0, result.stderr
    assert "7 converted layers: 3 plain convolutions now, 3 of them as they were; 4 still switchable" in result.stdout
    assert "4 norms folded" in result.stdout
    assert "✓ same outputs: within" in result.stdout
    assert "the original convolution" in result.stdout
    assert "run again with torch.export on" in result.stderr
    x = tiny_resnet.example_inputs()
    again = torch.load(tmp_path / "fast.pt", weights_only=False)
    with torch.no_grad():
        assert oracle.relative_error(again(x), model.eval()(x).double()) < 1e-5
    record = json.loads((tmp_path / "r.json").read_text())
    assert record["schema"] == "saconv-surgeon/folding/1"
    assert record["base"]["weights"] == str(place / "trained.pt")
    assert record["after"]["macs"] < record["before"]["macs"]


def test_fresh_conversion_is_the_original_again(converted, tmp_path):
    place, _ = converted
    result = fold(place, "-o", tmp_path / "fast.pt", "--fail-if", "after.parameters>40000", weights=False)
    assert "✓ same outputs: bit-identical" in result.stdout
    original = tiny_resnet.build(depth=1, width=8).state_dict()
    again = torch.load(tmp_path / "fast.pt", weights_only=False).state_dict()
    assert list(again) == list(original)
    assert all(torch.equal(again[name], value) for name, value in original.items())


def test_tolerance_says_what_it_cost(converted, tmp_path):
    place, _ = converted
    result = fold(place, "--dry-run", "--tolerance", "0.5", "--json", "-")
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert record["tolerance"] == 0.5
    assert any(layer["removed"] for layer in record["folded"])
    assert record["cost"]["max_rel"] > 0
    assert "taken out of" in result.stderr
    assert "each within 50 % of its output" in result.stderr
    assert "compared with the model without what was taken out of it" in result.stderr


@pytest.mark.parametrize("kind", ["html", "md", "csv", "svg"])
def test_reports(converted, tmp_path, kind):
    place, _ = converted
    result = fold(place, "--dry-run", "--report", tmp_path / f"r.{kind}")
    assert result.exit_code == 0, result.stderr
    content = (tmp_path / f"r.{kind}").read_text()
    assert "layer1.0.conv1" in content
    assert "FoldedSAConv2d" in content


@pytest.mark.parametrize("width", [80, 120, 200])
def test_names_are_never_cut_off(converted, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    result = fold(converted[0], "--dry-run")
    assert "".join("layer1.0.conv1".split()) in "".join(result.stdout.split())
    assert max(map(len, result.stdout.splitlines())) <= width


def test_failed_gate_saves_nothing(converted, tmp_path):
    result = fold(converted[0], "-o", tmp_path / "fast.pt", "--fail-if", "norms<5")
    assert result.exit_code == 1
    assert "nothing was saved" in result.stderr
    assert not (tmp_path / "fast.pt").exists()


def test_what_goes_wrong(converted, tmp_path):
    place, _ = converted
    cases = (
        (("fold", SMALL, "-o", tmp_path / "f.pt"), 4, "nothing to fold in"),
        (("fold", SMALL), 2, "where to?"),
        (("fold", SMALL, "-o", tmp_path / "folder"), 2, "no plan for a folder"),
        (("fold", SMALL, "-o", place / "trained.pt"), 2, "exists already"),
        (("fold", SMALL, "-o", tmp_path / "f.pt", "-o", tmp_path / "f.pt"), 2, "given twice"),
        (("fold", SMALL, "--dry-run", "--tolerance", "2"), 2, "--tolerance"),
        (("fold", SMALL, "--dry-run", "--tolerance", "nan"), 2, "--tolerance"),
        (("fold", place / "out", "--base", SMALL, "--weights", tmp_path / "none.pt", "--dry-run"), 3, "does not exist"),
    )
    for arguments, code, message in cases:
        result = run(*arguments)
        assert result.exit_code == code, (arguments, result.stderr)
        assert message in result.stderr, (arguments, result.stderr)
        assert "Traceback" not in result.stderr
    assert run("fold", SMALL, "--dry-run", "--fold-norms", *FAST).exit_code == 0
