"""The entries of an archive of ``torch.save``, of which every reader must see the same."""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any

from saconv_surgeon.models.archive_check import UNREADABLE, is_out_of_proportion
from saconv_surgeon.models.pickles.stand_ins import RefusedError, shown

WRITTEN = re.compile(
    r"data\.pkl|data/\d+|byteorder|version|\.format_version|\.storage_alignment|\.data/(serialization_id|version)"
)
"""What ``torch.save`` writes."""
LOCAL, END, END_64 = b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06"
END_BYTES, END_64_BYTES = 22, 56 + 20
ENCRYPTED = 0x1 | 0x40 | 0x2000


@dataclass(frozen=True)
class Member:
    """An entry: where its bytes lie in the file, and how many they are when unpacked."""

    start: int
    packed: int
    size: int
    is_stored: bool


class Archive:
    """An archive of ``torch.save`` in ``buffer``, bytes or a mapped file.

    Raises:
        RefusedError: Readers could differ about what is in it, or it holds what torch does not write.
    """

    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer
        self.members = {name.partition("/")[2]: member for name, member in _members(buffer).items()}

    @property
    def is_torchscript(self) -> bool:
        """Whether it holds a program."""
        return "constants.pkl" in self.members

    def check_names(self) -> None:
        """Checks that it has what ``torch.save`` writes, and no more.

        Raises:
            RefusedError: It has not.
        """
        if "data.pkl" not in self.members:
            raise RefusedError("format", "it is an archive without data.pkl, which torch.save writes")
        for name in self.members:
            if not WRITTEN.fullmatch(name):
                raise RefusedError("archive", f"it has the entry {shown(name)!r}, which torch.save does not write")

    def read(self, name: str) -> bytes:
        """The bytes of an entry.

        Raises:
            RefusedError: They cannot be unpacked to what the archive says.
        """
        member = self.members[name]
        raw = self.buffer[member.start : member.start + member.packed]
        if member.is_stored:
            return bytes(raw)
        try:
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw, member.size + 1)
        except zlib.error as error:
            raise RefusedError("damaged", f"{name} cannot be unpacked ({error})") from error
        if len(content) != member.size:
            raise RefusedError("archive", f"{name} unpacks to another size than the archive says")
        return content


def _members(buffer: Any) -> dict[str, Member]:
    try:
        with zipfile.ZipFile(_File(buffer)) as archive:
            entries = archive.infolist()
    except UNREADABLE as error:
        raise RefusedError("damaged", f"its archive cannot be read ({error})") from error
    unpacked = sum(entry.file_size for entry in entries)
    if is_out_of_proportion(unpacked, len(buffer)):
        raise RefusedError("archive", f"its archive has {len(buffer)} bytes and would unpack to {unpacked}")
    table = _table_start(buffer)
    entries.sort(key=lambda entry: entry.header_offset)
    if not entries or entries[0].header_offset != 0:
        raise RefusedError("archive", "something stands before the first entry of its archive, or there is none")
    if len({entry.filename.partition("/")[0] for entry in entries}) > 1 or "/" not in entries[0].filename:
        raise RefusedError("archive", "its entries do not lie in one folder, as torch.save writes them")
    ends = [*(entry.header_offset for entry in entries[1:]), table]
    return {entry.filename: _member(buffer, entry, end) for entry, end in zip(entries, ends, strict=True)}


def _member(buffer: Any, entry: zipfile.ZipInfo, end: int) -> Member:
    """What a local header and the table of contents both say of an entry, whose bytes must lie before ``end``."""
    name = shown(entry.filename)
    header = bytes(buffer[entry.header_offset : entry.header_offset + 30])
    if len(header) < 30 or header[:4] != LOCAL:
        raise RefusedError("archive", f"the entry {name!r} does not begin where the table of contents says")
    flags, method = struct.unpack("<HH", header[6:10])
    name_length, extra_length = struct.unpack("<HH", header[26:30])
    start = entry.header_offset + 30 + name_length + extra_length
    own = bytes(buffer[entry.header_offset + 30 : entry.header_offset + 30 + name_length])
    if own != entry.orig_filename.encode("utf-8" if entry.flag_bits & 0x800 else "cp437", "replace"):
        raise RefusedError("archive", f"the entry {name!r} has another name in its own header")
    if (flags | entry.flag_bits) & ENCRYPTED:
        raise RefusedError("archive", f"the entry {name!r} is marked as encrypted, which only some readers heed")
    if method != entry.compress_type or method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise RefusedError("archive", f"the entry {name!r} is packed by a method that torch does not use")
    if method == zipfile.ZIP_STORED and entry.compress_size != entry.file_size:
        raise RefusedError("archive", f"the entry {name!r} has two sizes")
    if start + entry.compress_size > end:
        raise RefusedError("archive", f"the entry {name!r} reaches into what follows it")
    return Member(start, entry.compress_size, entry.file_size, method == zipfile.ZIP_STORED)


def _table_start(buffer: Any) -> int:
    """Where the table of contents begins, by the last record of the file.

    Raises:
        RefusedError: Something follows that record, or its places and sizes do not fit the file.
    """
    total = len(buffer)
    end = bytes(buffer[total - END_BYTES :])
    if end[:4] != END or end[20:22] != b"\0\0":
        raise RefusedError("archive", "something follows its archive")
    size, start = struct.unpack("<II", end[12:20])
    large = bytes(buffer[max(0, total - END_BYTES - END_64_BYTES) : total - END_BYTES])
    last = total - END_BYTES
    if large[:4] == END_64:
        last -= END_64_BYTES
        if 0xFFFFFFFF in (size, start):
            size, start = struct.unpack("<QQ", large[40:56])
    if start + size != last:
        raise RefusedError("archive", "its table of contents does not lie where its end says")
    return int(start)


class _File:
    """``buffer`` as a file to read and seek in; a mapped file has no more than that in every version of Python."""

    def __init__(self, buffer: Any) -> None:
        self.buffer, self.place = buffer, 0

    def seek(self, place: int, whence: int = 0) -> int:
        self.place = max(0, place + (0, self.place, len(self.buffer))[whence])
        return self.place

    def tell(self) -> int:
        return self.place

    def read(self, count: int = -1) -> bytes:
        end = len(self.buffer) if count < 0 else min(len(self.buffer), self.place + count)
        found = bytes(self.buffer[self.place : end])
        self.place += len(found)
        return found

    def seekable(self) -> bool:
        return True
