"""Telling a user's own conversions from those of others.

A saved conversion is data, but its plan names the model that it was made from, and that is usually code. So that a folder from
elsewhere cannot choose what runs, a plan has a seal over that name and the files that it stood for, made with a key in the
user's settings. ``docs/safety.md`` says what that promises.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import sys
from contextlib import suppress
from enum import Enum
from pathlib import Path

import click

from saconv_surgeon.models.loading.code_places import code_places, leave_working_folder
from saconv_surgeon.models.loading.factories import split_factory
from saconv_surgeon.models.loading.libraries.known_libraries import LIBRARIES, split_library
from saconv_surgeon.records.input_files import NotReadableError, read_bytes

KEY_BYTES = 32
FORMAT = "2"


class Origin(Enum):
    """What the seal of a plan says about it."""

    FOREIGN = "foreign"
    """Not made by this user, or the model's name stands for other files here."""
    OWN = "own"
    """Made by this user, from the files that the model's name stands for here, whatever the working folder is."""
    OWN_HERE = "own, here"
    """The same, in this working folder, whose modules were importable then."""


def seal(model: str) -> str | None:
    """The seal of a conversion of ``model``, as the user named it; None if no key can be kept, or if its files are unknown."""
    key, places = _key(make=True), model_places(model)
    if key is None or places is None:
        return None
    here = _here()
    beside = any(
        Path(place).is_relative_to(here) for place in places
    )  # otherwise what lies here is none of the model's
    return ":".join((FORMAT, _digest(key, model, places, None), _digest(key, model, places, here) if beside else ""))


def origin_of(model: str, found: object) -> Origin:
    """Whose conversion it is that carries ``found`` as its seal and names ``model``. Nothing of the model is imported."""
    key, places = _key(make=False), model_places(model)
    if key is None or places is None or not isinstance(found, str):
        return Origin.FOREIGN
    if _same(found, _digest_of_paths(key, model)):
        return Origin.OWN
    given = found.split(":")
    if len(given) != 3 or given[0] != FORMAT or not _same(given[1], _digest(key, model, places, None)):
        return Origin.FOREIGN
    if _same(given[2], _digest(key, model, places, _here())):
        return Origin.OWN_HERE
    return Origin.FOREIGN if needs_working_folder(model) else Origin.OWN


def model_places(model: str, *, here: bool = True) -> tuple[str, ...] | None:
    """The files that making ``model`` imports first; none of a model that is a file of data. None if they cannot be told.

    The module of a factory is looked for in the working folder first, as when it is imported; if not ``here``, in ``sys.path``.
    """
    library = split_library(model)
    if library is not None:
        return code_places(LIBRARIES[library[0]].package)
    factory = split_factory(model)
    return () if factory is None else code_places(factory[0], Path.cwd() if here else None)


def needs_working_folder(model: str) -> bool:
    """Whether the module of ``model`` is found in the working folder only, or there first."""
    places, before = model_places(model), list(sys.path)
    leave_working_folder()
    try:
        return model_places(model, here=False) != places
    finally:
        sys.path[:] = before


def _digest(key: bytes, model: str, places: tuple[str, ...], here: str | None) -> str:
    return hmac.new(key, json.dumps([FORMAT, model, *places, here]).encode(), hashlib.sha256).hexdigest()


def _digest_of_paths(key: bytes, model: str) -> str:
    """What versions before this format wrote. It holds for a path only: names of modules were bound to no file."""
    factory = split_factory(model)
    source = str(Path(factory[0]).resolve()) if factory is not None and factory[0].endswith(".py") else None
    return "" if source is None else hmac.new(key, json.dumps([model, source]).encode(), hashlib.sha256).hexdigest()


def _same(found: str, digest: str) -> bool:
    return digest != "" and hmac.compare_digest(digest.encode(), found.encode())


def _here() -> str:
    return os.path.realpath(".")


def _key(*, make: bool) -> bytes | None:
    file = Path(click.get_app_dir("saconv-surgeon")) / "key"
    try:
        if make and not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError), os.fdopen(_created(file), "wb") as written:
                written.write(secrets.token_bytes(KEY_BYTES))
        key = read_bytes(file, KEY_BYTES)
    except (OSError, NotReadableError):
        return None
    return key if len(key) == KEY_BYTES else None


def _created(file: Path) -> int:
    """A new file that only the user may read."""
    return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
