"""Files appear whole or not at all."""

import errno
import os

import pytest
import torch

import saconv_surgeon as surgeon
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
