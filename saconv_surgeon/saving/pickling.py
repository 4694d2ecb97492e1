"""Models as pickles."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from saconv_surgeon.errors import ModelError
from saconv_surgeon.models.exported.archive_sink import new_archive


def pickle_to(file: Path, content: Any, path: Path) -> None:
    """Writes ``content`` to ``file``, which is not there yet and will be ``path``.

    Raises:
        ModelError: It cannot be pickled.
    """
    try:
        with new_archive(file) as sink:
            torch.save(content, sink)  # type: ignore[arg-type]
    except (pickle.PicklingError, AttributeError, LookupError, TypeError, RecursionError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "pickle" not in str(error):
            raise  # the file could not be written
        raise ModelError(
            f"{path}: this model cannot be pickled ({type(error).__name__}: {error}); save to a folder, or to a .pt2 file"
        ) from error
