"""Small pictures as PNG, for a page that may load nothing: four chunks of a file (ISO/IEC 15948)."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence

from saconv_surgeon.report.pictures import Picture

FAR = (15, 118, 140)
"""The colour of a value of one. Not orange, which stands for what was converted."""
LEVELS = 16
"""Of grey, and of values: 256 colours in all."""
OPACITY = 0.85
LARGEST = 112
"""Pixels along each side of a picture over another, at most."""


def data_uri(picture: Picture) -> str:
    """The picture as ``data:image/png;base64,…``: values from 0 to 1 in teal, over the grey one if there is one."""
    height, width = len(picture.values), len(picture.values[0])
    if picture.grey:
        height, width = min(len(picture.grey), LARGEST), min(len(picture.grey[0]), LARGEST)
    rows = []
    for i in range(height):
        values = picture.values[i * len(picture.values) // height]
        greys = picture.grey[i * len(picture.grey) // height] if picture.grey else (1.0,)
        rows.append(
            bytes(
                LEVELS * _level(greys[j * len(greys) // width]) + _level(values[j * len(values) // width])
                for j in range(width)
            )
        )
    return "data:image/png;base64," + base64.b64encode(png(rows, width)).decode()


def _level(value: float) -> int:
    return round((LEVELS - 1) * min(max(value, 0.0), 1.0))


def _palette() -> bytes:
    """The colour of each pair of a grey and a value."""
    steps = [level / (LEVELS - 1) for level in range(LEVELS)]
    return bytes(
        round((1 - OPACITY * value) * 255 * grey + OPACITY * value * colour)
        for grey in steps
        for value in steps
        for colour in FAR
    )


def png(rows: Sequence[bytes], width: int) -> bytes:
    """A file of rows of places in the palette: a byte for each pixel, since a page may hold many pictures."""
    header = struct.pack(">2I5B", width, len(rows), 8, 3, 0, 0, 0)
    content = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    chunks = ((b"IHDR", header), (b"PLTE", _palette()), (b"IDAT", content), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*each) for each in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
