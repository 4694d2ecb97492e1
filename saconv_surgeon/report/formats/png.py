"""Small pictures as PNG, for a page that may load nothing: three chunks of a file (ISO/IEC 15948)."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence

from saconv_surgeon.report.pictures import Picture

FAR = (15, 118, 140)
"""The colour of a value of one. Not orange, which stands for what was converted."""
PAPER = 255
LARGEST = 112
"""Pixels along each side of a picture over another, at most."""


def data_uri(picture: Picture) -> str:
    """The picture as ``data:image/png;base64,…``: values from 0 to 1 in teal, over the grey one if there is one."""
    height, width = len(picture.values), len(picture.values[0])
    if picture.grey:
        height, width = min(len(picture.grey), LARGEST), min(len(picture.grey[0]), LARGEST)
    rows = []
    for i in range(height):
        value_row = picture.values[i * len(picture.values) // height]
        grey_row = picture.grey[i * len(picture.grey) // height] if picture.grey else ()
        row = bytearray()
        for j in range(width):
            value = min(max(value_row[j * len(value_row) // width], 0.0), 1.0)
            ground = 255 * grey_row[j * len(grey_row) // width] if grey_row else PAPER
            row += bytes(round((1 - 0.85 * value) * ground + 0.85 * value * colour) for colour in FAR)
        rows.append(bytes(row))
    return "data:image/png;base64," + base64.b64encode(png(rows, width)).decode()


def png(rows: Sequence[bytes], width: int) -> bytes:
    """A file of 8-bit RGB rows."""
    header = struct.pack(">2I5B", width, len(rows), 8, 2, 0, 0, 0)
    content = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(*each) for each in ((b"IHDR", header), (b"IDAT", content), (b"IEND", b""))
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
