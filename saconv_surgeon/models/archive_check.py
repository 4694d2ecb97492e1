"""Checks the zip archives of ``torch.save`` and ``torch.export.save`` before anything in them is read."""

from __future__ import annotations

import struct
import zipfile
from collections import Counter
from pathlib import Path

from saconv_surgeon.errors import ModelError, first_line

LARGEST_RATIO = 10
"""torch stores tensors uncompressed; a file that grows so many times when unpacked was not written by it."""
UNREADABLE = (zipfile.BadZipFile, OSError, ValueError, LookupError, NotImplementedError, struct.error)
"""What Python's reader raises about archives that it cannot read."""
SMALL = 64 * 2**20


def check_archive(path: Path) -> None:
    """Refuses an archive that grows beyond reason when unpacked, or that names one entry twice.

    Raises:
        ModelError: Such an archive, or one that is cut off. A file that is not a zip archive passes.
    """
    starts_like_zip = _begins_like_zip(path)
    try:
        if not zipfile.is_zipfile(path):
            if not starts_like_zip:
                return
            raise ModelError(
                f"{path} is cut off or damaged: it starts like an archive of torch.save but has no end; copy it again"
            )
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except UNREADABLE as error:
        raise ModelError(f"{path} is a damaged archive ({first_line(error)}); copy it again") from error
    # torch finds an entry in upper or lower case
    twice = [name for name, count in Counter(entry.filename.lower() for entry in entries).items() if count > 1]
    if twice:
        raise ModelError(f"{path} has {len(twice)} entries twice, first {twice[0]!r}; which one counts is not defined")
    unpacked = sum(entry.file_size for entry in entries)
    if is_out_of_proportion(unpacked, path.stat().st_size):
        raise ModelError(
            f"{path} has {path.stat().st_size} bytes and would unpack to {unpacked}: torch never writes such a file; not read"
        )


def is_out_of_proportion(unpacked: int, packed: int) -> bool:
    """Whether an archive of ``packed`` bytes would grow to more than it can hold, if torch wrote it."""
    return unpacked > SMALL and unpacked > LARGEST_RATIO * packed


def _begins_like_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"
