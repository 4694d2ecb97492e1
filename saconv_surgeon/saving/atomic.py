"""Files that appear whole or not at all: written under temporary names and renamed at the end."""

from __future__ import annotations

import errno
import json
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from saconv_surgeon.errors import ModelError

Written = Callable[[Path, Callable[[Path], object]], None]


@contextmanager
def writing(target: Path, *, folder: bool) -> Iterator[Written]:
    """Collects files under temporary names, in a ``folder`` or beside it, and renames them at the end, in the order of writing.

    If something fails before that, a full disk or an interruption, existing files stay and unfinished ones are removed.
    """
    place = target if folder else target.parent
    created = [p for p in (place, *place.parents) if not p.exists()]
    done: list[tuple[Path, Path]] = []

    def write(path: Path, writer: Callable[[Path], object]) -> None:
        temporary = path.with_name(temporary_name(path.name))
        done.append((temporary, path))
        writer(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())

    finished = False
    try:
        place.mkdir(parents=True, exist_ok=True)
        yield write
        for temporary, path in done:
            temporary.replace(path)
        finished = True
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelError(f"{target} could not be written ({error}){_advice(error)}. Nothing was saved") from error
    finally:
        if not finished:
            for temporary, _ in done:
                temporary.unlink(missing_ok=True)
            for path in created:
                if path.exists() and not any(path.iterdir()):
                    path.rmdir()


def _advice(error: Exception) -> str:
    """What to do about an error, if it is the place's: torch and safetensors have no class of their own for these."""
    text = str(error)
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in text:
        return ": the disk is full; free some space or choose another place"
    of_place = isinstance(error, OSError) or any(word in text for word in ("I/O error", "os error", "file"))
    return ": is the place writable?" if of_place and not isinstance(error, UnicodeError) else ""


def temporary_name(name: str) -> str:
    """The name that a file has until everything is written."""
    return f".{os.getpid()}.tmp.{name}"


def write_json(path: Path, content: Any) -> None:
    """Writes plain dicts, lists, strings and numbers. Half characters, as in file names that are no text, become escapes."""
    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def pickle_to(file: Path, content: Any, path: Path) -> None:
    """Writes ``content`` to ``file``, which will be ``path``.

    Raises:
        ModelError: It cannot be pickled.
    """
    try:
        torch.save(content, file)
    except (pickle.PicklingError, AttributeError, LookupError, TypeError, RecursionError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "pickle" not in str(error):
            raise  # the file could not be written
        raise ModelError(
            f"{path}: this model cannot be pickled ({type(error).__name__}: {error}); save to a folder, or to a .pt2 file"
        ) from error
