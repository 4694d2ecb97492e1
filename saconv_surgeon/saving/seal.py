"""Telling a user's own conversions from those of others.

A saved conversion is data, but its plan names the model that it was made from, and that is usually code. So that a folder from
elsewhere cannot choose what runs, a plan has a seal over that name, made with a key in the user's settings.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from contextlib import suppress
from pathlib import Path

import click

from saconv_surgeon.models.loading.factories import split_factory

KEY_BYTES = 32


def seal(model: str) -> str | None:
    """The seal of a conversion of ``model``, as the user named it; None if no key can be kept."""
    key = _key(make=True)
    return None if key is None else _digest(key, model)


def is_own(model: str, found: object) -> bool:
    """Whether ``found`` is the seal that this user's conversions of ``model`` carry, the file that it names being the same."""
    key = _key(make=False)
    return (
        key is not None and isinstance(found, str) and hmac.compare_digest(_digest(key, model).encode(), found.encode())
    )


def _digest(key: bytes, model: str) -> str:
    factory = split_factory(model)
    source = str(Path(factory[0]).resolve()) if factory is not None and factory[0].endswith(".py") else None
    return hmac.new(key, json.dumps([model, source]).encode(), hashlib.sha256).hexdigest()


def _key(*, make: bool) -> bytes | None:
    file = Path(click.get_app_dir("saconv-surgeon")) / "key"
    try:
        if make and not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError), os.fdopen(_created(file), "wb") as written:
                written.write(secrets.token_bytes(KEY_BYTES))
        key = file.read_bytes()
    except OSError:
        return None
    return key if len(key) == KEY_BYTES else None


def _created(file: Path) -> int:
    """A new file that only the user may read."""
    return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
