"""Files appear whole or not at all."""

import errno
import functools
import io
import os
import resource
import stat
import threading
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import torch

import saconv_surgeon as surgeon
from saconv_surgeon.saving import atomic
from saconv_surgeon.saving.atomic import write_new, write_text, writing
from tests import nets
from tests.saving.conversions import converted


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()])
@pytest.mark.parametrize("name", ["out", "deep/er/out", "model.pt"])
@pytest.mark.parametrize("before", [False, True])
def test_full_disk_and_interruption_leave_what_was_there(tmp_path, monkeypatch, error, name, before):
    target = tmp_path / name
    if before:
        surgeon.save(converted(), target)
    kept = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr("saconv_surgeon.saving.conversion_folder.write_json", fail)
    monkeypatch.setattr(torch, "save", fail)
    expected = surgeon.ModelError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as raised:
        surgeon.save(converted(), target, overwrite=True)
    if isinstance(error, OSError):
        assert "the disk is full" in str(raised.value)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == kept
    if not before:
        assert not any(tmp_path.iterdir())


def write(kind, place):
    """Writes something of a kind to ``place``."""
    if kind == "text":
        write_text(place, "new\n")
    else:
        surgeon.save(MADE(), place, overwrite=True, example_inputs=nets.X)


NAMES = {"text": "r.json", "pickle": "m.pt", "program": "m.pt2", "folder": "out"}
KINDS = ("text", "pickle", "folder")
"""Programs, whose export takes seconds, go the same way as pickles."""
MADE = functools.cache(converted)


def files_of(place):
    return sorted(place.iterdir()) if place.is_dir() else [place]


@contextmanager
def umask(mask):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("mask", "file", "folder"), [(0o022, 0o644, 0o755), (0o027, 0o640, 0o750), (0, 0o666, 0o777)])
def test_permissions_are_those_that_the_umask_leaves(tmp_path, kind, mask, file, folder):
    place = tmp_path / NAMES[kind]
    with umask(mask):
        write(kind, place)
    assert {stat.S_IMODE(each.stat().st_mode) for each in files_of(place)} == {file}
    if kind == "folder":
        assert stat.S_IMODE(place.stat().st_mode) == folder
    assert [each.name for each in tmp_path.iterdir()] == [place.name]


@pytest.mark.parametrize("kind", KINDS)
def test_what_replaces_a_file_has_its_permissions(tmp_path, kind):
    place = tmp_path / NAMES[kind]
    write(kind, place)
    for each in files_of(place):
        each.chmod(0o600)
    write(kind, place)
    assert {stat.S_IMODE(each.stat().st_mode) for each in files_of(place)} == {0o600}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("there", [False, True])
def test_links_stay_links(tmp_path, kind, there):
    """To a file and to a folder, over another link, relative and absolute; also to what is not there yet."""
    real, between, link = tmp_path / "data" / NAMES[kind], tmp_path / "between", tmp_path / f"link-{NAMES[kind]}"
    real.parent.mkdir()
    if there:
        write(kind, real)
    between.symlink_to(Path("data") / NAMES[kind])
    link.symlink_to(between)
    before = real.stat().st_mtime_ns if there else None
    write(kind, link)
    assert link.is_symlink() and between.is_symlink() and not real.is_symlink()
    assert real.exists() and real.stat().st_mtime_ns != before
    assert {each.name for each in tmp_path.iterdir()} == {"data", "between", link.name}
    assert [each.name for each in real.parent.iterdir()] == [real.name]


@pytest.mark.parametrize("kind", KINDS)
def test_links_in_a_circle(tmp_path, kind):
    place = tmp_path / NAMES[kind]
    place.symlink_to(tmp_path / "other")
    (tmp_path / "other").symlink_to(place)
    with pytest.raises(surgeon.SurgeonError, match="symbolic links"):
        write(kind, place)


@pytest.mark.parametrize("kind", ["text", "pickle"])
def test_pipes_are_written_into(tmp_path, kind):
    place = tmp_path / NAMES[kind]
    os.mkfifo(place)
    read = []
    reader = threading.Thread(target=lambda: read.append(place.read_bytes()))
    reader.start()
    write(kind, place)
    reader.join(timeout=30)
    write(kind, tmp_path / f"plain-{place.name}")
    assert stat.S_ISFIFO(place.lstat().st_mode)
    if kind == "text":
        assert read == [b"new\n"]
    else:
        assert torch.load(io.BytesIO(read[0]), weights_only=False)(nets.X).shape
    assert len(list(tmp_path.iterdir())) == 2


def test_pipe_that_nobody_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "PATIENCE", 0.1)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(surgeon.ModelError, match="nobody reads from it"):
        write_text(tmp_path / "pipe", "x")


@pytest.mark.parametrize("form", ["/dev/fd/{}", "/proc/self/fd/{}", "link"])
def test_open_files_go_on_where_they_are(tmp_path, form):
    """As ``/dev/stdout`` does if a shell has opened a file for it."""
    with (tmp_path / "log").open("wb") as log:
        log.write(b"before\n")
        log.flush()
        place = Path(form.format(log.fileno()))
        if form == "link":
            place = tmp_path / "link"
            place.symlink_to(f"/dev/fd/{log.fileno()}")
        write_text(place, "new\n")
        log.write(b"after\n")
    assert (tmp_path / "log").read_bytes() == b"before\nnew\nafter\n"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root makes devices")
@pytest.mark.parametrize(("minor", "says"), [(3, None), (7, "the disk is full")])
def test_devices_stay_devices(tmp_path, minor, says):
    place = tmp_path / "device.pt"
    try:
        os.mknod(place, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
        place.open("wb").close()
    except OSError as error:
        pytest.skip(f"no devices here: {error}")
    for kind in ("text", "pickle"):
        with pytest.raises(surgeon.ModelError, match=says) if says else nullcontext():
            write(kind, place)
    assert stat.S_ISCHR(place.lstat().st_mode)


@pytest.mark.parametrize("kind", KINDS)
def test_another_writer_in_the_meantime_is_not_overwritten(tmp_path, kind):
    place = tmp_path / NAMES[kind]
    for existing in (False, True):
        with (
            pytest.raises(surgeon.ModelError, match="another process wrote to"),
            writing(place, folder=kind == "folder") as part,
        ):
            write(kind, place)
            theirs = [each.read_bytes() for each in files_of(place)]
            write_new(part / "plan.json" if kind == "folder" else part, "ours")
        assert [each.read_bytes() for each in files_of(place)] == theirs, existing
        assert [each.name for each in tmp_path.iterdir()] == [place.name]


LIMITED = 4096
"""Bytes that a file may have: fewer than the model."""


@pytest.mark.parametrize(
    ("kind", "there"), [("pickle", True), ("pickle", False), ("program", False), ("folder", True), ("folder", False)]
)
def test_a_disk_that_refuses_ends_no_process_and_leaves_nothing(tmp_path, kind, there):
    """Torch's own writer ends the process then. In a process of its own, with a real limit."""
    place, made = tmp_path / NAMES[kind], MADE()
    if there:
        surgeon.save(made, place, example_inputs=nets.X)
    kept = {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()}
    reading, writing_end = os.pipe()
    child = os.fork()
    if child == 0:
        said = "nothing was raised"
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (LIMITED, LIMITED))
            surgeon.save(made, place, overwrite=True, example_inputs=nets.X)
        except surgeon.ModelError as error:
            said = str(error)
        finally:
            os.write(writing_end, said.encode())
            os._exit(0)
    os.close(writing_end)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    assert "a limit on the size of files" in said
    assert {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()} == kept


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EROFS, "is on a file system that is read-only"),
        (errno.EACCES, "you may not write to"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EIO, "is the place writable"),
    ],
)
def test_each_refusal_has_a_message_of_its_own(tmp_path, monkeypatch, number, says):
    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(surgeon.ModelError, match=says):
        write_text(tmp_path / "x", "x")


def test_folder_that_the_process_works_in_stays_the_same_folder(tmp_path, monkeypatch):
    place = tmp_path / "out"
    write("folder", place)
    monkeypatch.chdir(place)
    before = Path.cwd().stat().st_ino
    surgeon.save(MADE(), ".", overwrite=True)
    assert place.stat().st_ino == before
    assert sorted(each.name for each in place.iterdir()) == ["model.safetensors", "plan.json", "report.json"]
