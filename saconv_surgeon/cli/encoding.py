"""Text on streams that are not UTF-8, such as Windows' cp1252 or latin-1: what they cannot show is spelled out."""

from __future__ import annotations

import codecs
import io
import os
import sys
import unicodedata
from pathlib import Path

SPELLED_OUT = {
    "→": "->",
    "×": "x",
    "·": "|",
    "…": "...",
    "–": "-",
    "—": "-",
    "−": "-",
    "─": "-",
    "│": "|",
    "├": "|",
    "└": "`",
    "█": "#",
    "▇": "#",
    "▒": "+",
    "━": "-",
    "±": "+-",
    "≠": "!=",
    "≤": "<=",
    "≥": ">=",
    "✓": "ok",
    "✗": "!!",
    "⚠": "!",
    "²": "^2",
    "³": "^3",
    "µ": "u",
    "α": "alpha",
    "Δ": "delta ",
    "Σ": "sum ",
    "σ": "sigma",
}
"""What the reports write, in ASCII."""
HANDLER = "saconv_surgeon.spelled_out"


def prepare_streams() -> None:
    """Makes stdout and stderr take any text; a closed one takes it and shows nothing."""
    codecs.register_error(HANDLER, _spell_out)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - for good
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=HANDLER)


def is_unicode(encoding: str | None) -> bool:
    """Whether an encoding can write any text."""
    return (encoding or "").lower().replace("_", "-").startswith("utf")


def _spell_out(error: UnicodeError) -> tuple[str, int]:
    """An error handler for encoders; letters become escapes, so that two names that differ still do."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_spelled_out, error.object[error.start : error.end])), error.end


def _spelled_out(character: str) -> str:
    if character in SPELLED_OUT:
        return SPELLED_OUT[character]
    is_sign = unicodedata.category(character)[0] in "PSZ"
    return "?" if is_sign else character.encode("ascii", "backslashreplace").decode()
