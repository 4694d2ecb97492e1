"""What is no file, in every place that a file is read from: one sentence, at once."""

import json
import os
import signal

import pytest
import torch
from safetensors.torch import save_file

from tests.models.hostile_files import as_model, as_weights, refused, state


@pytest.fixture(autouse=True)
def in_time():
    """A test that waits is one that fails."""
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("waited for a file without end", pytrace=False))
    signal.alarm(60)
    yield
    signal.alarm(0)


def fifo(path):
    os.mkfifo(path)


def zeros(path):
    path.symlink_to("/dev/zero")


def device(path):
    path.symlink_to("/dev/null")


def processes(path):
    path.symlink_to("/proc/self/maps")


def folder(path):
    path.mkdir()


STRANGE = pytest.mark.parametrize("make", [fifo, zeros, device, processes, folder])


@STRANGE
@pytest.mark.parametrize(
    "name", ["m.pt", "m.pt2", "m.ckpt", "m.safetensors", "m.safetensors.index.json", "m.onnx", "m.bin"]
)
def test_models_and_weights(place, make, name):
    make(place / name)
    as_model(place, name)
    message = as_weights(place, name)
    assert "it is" in message or "folder" in message


@STRANGE
def test_code(place, make):
    make(place / "strange_net.py")
    assert "strange_net.py" in refused(place, "inspect", "strange_net.py:build", "--input", "1x2x9x9")


@STRANGE
def test_a_package_without_a_factory(place, make):
    (place / "strange_package").mkdir()
    make(place / "strange_package" / "__init__.py")
    refused(place, "inspect", "strange_package")


@STRANGE
@pytest.mark.parametrize("name", ["plan.json", "report.json", "model.safetensors"])
def test_parts_of_a_saved_conversion(place, saved, make, name):
    (place / "saved" / name).unlink()
    make(place / "saved" / name)
    assert name in refused(place, "inspect", "saved")


@STRANGE
def test_plans(place, make):
    make(place / "plan.json")
    refused(place, "convert", "hostile_net.py:build", "--plan", "plan.json", "-o", "out")


@STRANGE
def test_reports(place, make):
    make(place / "a.json")
    (place / "b.json").write_text("{}")
    refused(place, "diff", "a.json", "b.json", code=2)


def test_shards(place):
    save_file(state(), place / "w-1.safetensors")
    fifo(place / "w-2.safetensors")
    placed = dict.fromkeys(state(), "w-2.safetensors")
    (place / "w.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))
    assert "FIFO" in as_weights(place, "w.safetensors.index.json")


@pytest.mark.parametrize(
    "content", [b"[" * 10**6, b"[" + b"0," * 5_000_000 + b"0]", b'{"sites": ' + b"9" * 10**5 + b"}"]
)
def test_json_beyond_reason(place, saved, content):
    saved.write_bytes(content)
    assert "plan.json is not readable as JSON" in refused(place, "inspect", "saved")
    (place / "w.safetensors.index.json").write_bytes(content)
    assert "not a readable index" in as_weights(place, "w.safetensors.index.json")


def test_weights_that_are_mostly_a_hole(place):
    torch.save(state(), place / "w.pt")
    with (place / "w.pt").open("ab") as file:
        file.truncate(1 << 40)
    assert "on the disk" in as_weights(place, "w.pt")
