"""The errors that a user can act on, and the exit code of the command line for each.

SurgeonError
├── UsageError            2  an option, a pattern or an output path is wrong
├── ModelError            3  a model cannot be found, loaded, run or saved
│   ├── UntrustedError    3  a file would run code when it is loaded
│   ├── UserCodeError     3  the user's own code raised; its traceback is kept
│   └── NotPlainError     3  code took a converted layer for a plain convolution
├── ArtefactError         3  a saved conversion is damaged, mixed, or does not fit the model
└── NotEquivalentError    1  the outputs moved

Any other exception is a defect of this project and keeps its traceback.

What a message says of a file may come from a stranger: it is shown so that it cannot act on a terminal.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

JOINER = re.compile("(?<=[\U0001f000-\U0001faff\u2190-\u2bff\ufe0f])\u200d(?=[\U0001f000-\U0001faff\u2190-\u2bff])")
"""A zero-width joiner between two pictures, which makes one of them."""
BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")
"""Characters that count as printable and show nothing."""
SELECTORS = (range(0xFE00, 0xFE0F), range(0xE0100, 0xE01F0))
"""Variants of the character before; the one that is left out asks for a picture in colour."""


def visible(name: str) -> str:
    """``name`` with every character that acts on a terminal, turns the direction of writing, or shows nothing, as an escape."""
    if name.isascii() and name.isprintable():
        return name
    joined = {found.start() for found in JOINER.finditer(name)}
    return "".join(c if _shows(c) or i in joined else _escape(c) for i, c in enumerate(name))


def visible_lines(text: str) -> str:
    """As :func:`visible`, for text of several lines: their ends and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return re.sub(r"[^\n\t]+", lambda found: visible(found[0]), text)


def _shows(c: str) -> bool:
    if c in BLANK or any(ord(c) in each for each in SELECTORS):
        return False
    return c.isprintable() or unicodedata.category(c) == "Zs"


def _escape(c: str) -> str:
    return c.encode("unicode_escape").decode()


class SurgeonError(Exception):
    """The base class. Every message says what was seen, what was needed and what to try."""

    exit_code = 1

    def __str__(self) -> str:
        return visible_lines(super().__str__())


class UsageError(SurgeonError):
    """An option, a pattern or an output path is wrong."""

    exit_code = 2


class ModelError(SurgeonError):
    """A model cannot be found, loaded, run or saved."""

    exit_code = 3


class UntrustedError(ModelError):
    """A file would run code when it is loaded, and the user did not say that they trust it."""


class UserCodeError(ModelError):
    """The user's own code raised. The original exception is ``__cause__``; show its traceback."""


class NotPlainError(ModelError):
    """Code took a converted layer for a plain convolution, and would have changed what the model computes."""


class ArtefactError(SurgeonError):
    """A saved conversion is damaged, mixed from two, or does not fit the model."""

    exit_code = 3


class NotEquivalentError(SurgeonError):
    """The converted model does not compute what the original computes."""


class NoEffectWarning(UserWarning):
    """Surgery found nothing to convert."""


class FusingMethodWarning(UserWarning):
    """A model has methods that merge convolutions, which its converted layers will not allow."""


class NotPlainWarning(UserWarning):
    """Code reads the weight of a trained converted layer as if that were the kernel of a plain convolution."""


class LostLayerWarning(UserWarning):
    """Other code has put plain convolutions in the place of converted layers."""


@contextmanager
def raised_as(kind: type[SurgeonError], what: str) -> Iterator[None]:
    """Inside, whatever exception a file or a library brings about is one sentence: ``what`` cannot be done, and why.

    For stages whose input is a stranger's; errors of this package pass as they are.

    Raises:
        SurgeonError: Of the ``kind``.
    """
    try:
        yield
    except SurgeonError:
        raise
    except Exception as error:
        raise kind(f"{what} ({type(error).__name__}: {first_line(error)})") from error


def first_line(error: BaseException, most: int = 300) -> str:
    """The first line of an error's message, or its class if the message is empty, cut to ``most`` characters."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:most]


def exit_of(error: SystemExit) -> str:
    """What code did that ended the process, as in ``ended the process (exit status 2)``."""
    code = 0 if error.code is None else error.code
    return f"ended the process ({f'exit status {code}' if isinstance(code, int) else repr(str(code))})"
