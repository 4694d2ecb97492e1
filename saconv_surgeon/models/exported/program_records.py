"""The records in the archive of an exported program, as torch's own loader finds them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch


class ProgramRecords:
    """What ``torch.export.load`` would find under each name.

    Raises:
        ValueError: Python's reader, to which that function turns if torch's own fails, finds something else.
    """

    def __init__(self, path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            self._entries = {entry.filename.partition("/")[2]: entry.file_size for entry in archive.infolist()}
            listed = [name.partition("/")[2] for name in archive.namelist()]
        self._reader = torch._C.PyTorchFileReader(str(path))
        self.names: list[str] = self._reader.get_all_records()
        if listed != self.names:
            raise ValueError("what is in it depends on who reads it")

    def size(self, name: str) -> int:
        """Bytes, unpacked.

        Raises:
            LookupError: There is no such record.
        """
        known = getattr(self._reader, "get_record_size", None)  # from torch 2.11 on
        return self._entries[name] if known is None else int(known(name))

    def read(self, name: str) -> bytes:
        """The record."""
        return bytes(self._reader.get_record(name))
