"""Files that never end, that wait, or that are larger than they can be."""

import json
import os
import socket
import threading
from pathlib import Path

import pytest

from saconv_surgeon.records.input_files import (
    LARGE,
    NotReadableError,
    check_regular,
    open_regular,
    parse_json,
    read_bytes,
    read_json,
)


@pytest.fixture(
    params=["fifo", "link to a fifo", "folder", "socket", "/dev/zero", "link to /dev/zero", "/dev/null", "empty"]
)
def strange(request, tmp_path, monkeypatch):
    path = tmp_path / "strange"
    if request.param == "fifo":
        os.mkfifo(path)
    elif request.param == "link to a fifo":
        os.mkfifo(tmp_path / "fifo")
        path.symlink_to(tmp_path / "fifo")
    elif request.param == "folder":
        path.mkdir()
    elif request.param == "socket":
        monkeypatch.chdir(tmp_path)  # names of sockets are short
        listening = socket.socket(socket.AF_UNIX)
        listening.bind("strange")
        request.addfinalizer(listening.close)
    elif request.param.startswith("link"):
        path.symlink_to("/dev/zero")
    elif request.param == "empty":
        path.write_bytes(b"")
    else:
        path = Path(request.param)
    return path


@pytest.mark.parametrize("read", [check_regular, open_regular, read_json, lambda path: read_bytes(path, 10)])
def test_what_is_no_file(strange, read):
    with pytest.raises(NotReadableError, match=r"it is (a FIFO|a folder|a socket|a device|empty)"):
        read(strange)


def test_a_file_in_place_of_which_a_fifo_is_put(tmp_path, monkeypatch):
    """What is opened counts, not what was looked at."""
    (tmp_path / "file").write_text("{}")
    before = (tmp_path / "file").stat()
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.setattr(Path, "stat", lambda self, **_: before)
    with pytest.raises(NotReadableError, match="FIFO"):
        read_bytes(tmp_path / "fifo", 10)


def test_a_file_that_grows(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"x" * 100)
    stop = threading.Event()

    def grow():
        with path.open("ab") as file:
            while not stop.is_set():
                file.write(b"x" * 10_000)
                file.flush()

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        with pytest.raises(NotReadableError, match="more than"):
            while True:
                read_bytes(path, 50_000)
    finally:
        stop.set()
        writer.join()


def test_files_of_the_system():
    """They have no size, and some no end."""
    for path in ("/proc/self/maps", "/proc/kmsg", "/proc/self/mem"):
        if Path(path).exists():
            with pytest.raises((NotReadableError, OSError)):
                read_bytes(Path(path), 10)


def test_a_hole(tmp_path):
    with (tmp_path / "hole").open("wb") as file:
        file.write(b"x" * 4096)
        file.truncate(100 * LARGE)
    with pytest.raises(NotReadableError, match="on the disk"):
        check_regular(tmp_path / "hole")


def test_files_are_read(tmp_path):
    (tmp_path / "f").write_bytes(b'{"a": [1, 2]}')
    (tmp_path / "link").symlink_to(tmp_path / "f")
    assert read_json(tmp_path / "link") == {"a": [1, 2]}
    assert read_bytes(tmp_path / "f", 13) == b'{"a": [1, 2]}'
    with pytest.raises(NotReadableError, match="more than 12 bytes"):
        read_bytes(tmp_path / "f", 12)
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "absent", 12)


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b"[" + b"[]," * 4_100_000 + b"[]]",
        b"9" * 10_000,
        b"\xff\xfe",
        b'{"a": "\xed\xa0"}',
        b"",
    ],
    ids=["deep", "deep objects", "many", "digits", "no text", "half a character", "nothing"],
)
def test_json_that_is_none(content):
    with pytest.raises(ValueError):
        parse_json(content)


def test_json_that_is_large_is_read():
    content = {str(i): list(range(100)) for i in range(5000)}
    assert parse_json(json.dumps(content).encode()) == content
