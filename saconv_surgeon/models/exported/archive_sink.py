"""The file that torch's writer of archives writes to.

That writer ends the process when the disk refuses a part of an archive (its destructor throws), and does not say what the disk
said. So it is never told: what comes after an error goes nowhere, and the error is raised when the writer is done.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


class ArchiveSink(io.RawIOBase):
    """A stream in front of ``file`` that takes whatever is written; ``refused`` is the first error, if there was one."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self.file = file
        self.refused: OSError | None = None
        self.place = 0

    def writable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """See ``io``; never fails."""
        size = memoryview(data).nbytes
        self.place += size
        if self.refused is None:
            try:
                self.file.write(data)
            except OSError as error:
                self.refused = error
        return size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """See ``io``."""
        if self.refused is None:
            self.place = self.file.seek(offset, whence)
        return self.place

    def tell(self) -> int:
        """See ``io``."""
        return self.place


@contextmanager
def new_archive(path: Path) -> Iterator[ArchiveSink]:
    """A stream to ``path``, which is not there yet.

    Raises:
        OSError: The file cannot be made, or did not take everything, whatever was raised inside.
    """
    file = os.fdopen(os.open(path, NEW, 0o666), "wb", buffering=2**20)
    sink = ArchiveSink(file)
    try:
        yield sink
    except Exception as error:
        if sink.refused is not None:
            raise sink.refused from error
        raise
    else:
        if sink.refused is not None:
            raise sink.refused
        file.flush()
    finally:
        with suppress(OSError):  # has been raised already
            file.close()
