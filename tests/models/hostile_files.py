"""Files that mean harm, and what must not happen with them."""

import io
import os
import struct
import zipfile

from click.testing import CliRunner

from saconv_surgeon.cli import cli

NET = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, bias=False))

def example_inputs():
    return torch.ones(1, 2, 9, 9)
"""


class Evil:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


def net():
    scope = {}
    exec(NET, scope)
    return scope["build"]().eval()


def state(**changes):
    return {**net().state_dict(), **changes}


def refused(place, *args, code=3):
    """Runs the command; checks the exit code, that one message was printed and that nothing ran; returns the message."""
    result = CliRunner().invoke(cli, [*args])
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("saconv-surgeon: ")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert not (place / "mark").exists(), "code of the file has run"
    assert not (place / "out").exists()
    return result.stderr


def as_model(place, name):
    return refused(place, "convert", name, "-o", "out", "--no-latency")


def as_weights(place, name):
    return refused(place, "convert", "hostile_net.py:build", "--weights", name, "-o", "out", "--no-latency")


def rezip(source, target, *, compression=zipfile.ZIP_STORED, replace=None, twice=()):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, (replace or {}).get(name, old.read(name)))
            if name in twice:
                new.writestr(name, old.read(name))


def zipped(entries):
    """Contents, table and end of an archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as written:
        for name, content in entries.items():
            written.writestr(zipfile.ZipInfo(name), content)
    data = buffer.getvalue()
    end = data.rfind(b"PK\5\6")
    size, start = struct.unpack("<II", data[end + 12 : end + 20])
    return data[:start], data[start : start + size], data[end:]
