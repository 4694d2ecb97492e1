"""What can go wrong by a user's input, and the exit code of the command line for each.

SurgeonError
├── UsageError            2  an option, a pattern or an output path that makes no sense
├── ModelError            3  a model that cannot be found, loaded, run or saved
│   ├── UntrustedError    3  a file that would run code when it is loaded
│   └── UserCodeError     3  the user's own code raised; its traceback is kept
├── ArtefactError         3  a saved conversion that is damaged, mixed or does not fit the model
└── NotEquivalentError    1  outputs that moved

Everything else that is raised is a defect of this project and keeps its traceback.
"""

from __future__ import annotations


class SurgeonError(Exception):
    """Base of all errors that a user can act on. The message says what was seen, what was needed and what to try."""

    exit_code = 1


class UsageError(SurgeonError):
    """An option, a pattern or an output path that makes no sense."""

    exit_code = 2


class ModelError(SurgeonError):
    """A model that cannot be found, loaded, run or saved."""

    exit_code = 3


class UntrustedError(ModelError):
    """A file that would run code when it is loaded, without leave to do so."""


class UserCodeError(ModelError):
    """The user's own code raised. The original exception is ``__cause__`` and its traceback is worth showing."""


class ArtefactError(SurgeonError):
    """A saved conversion that is damaged, mixed from two, or does not fit the model."""

    exit_code = 3


class NotEquivalentError(SurgeonError):
    """The converted model does not compute what the original computes."""


class NoEffectWarning(UserWarning):
    """Surgery found nothing to convert."""


def first_line(error: BaseException, most: int = 300) -> str:
    """What an error says, as far as it fits into a sentence: its first line, or its name where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:most]
