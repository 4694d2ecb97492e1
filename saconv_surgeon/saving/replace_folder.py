"""A new folder takes the place of a saved conversion, as one: whoever looks, at any moment, finds the old one or the new one.

Two ways. The folders are exchanged, one step of the kernel's. Or, if the kernel or the file system cannot do that, or the folder
itself has to stay (it holds other files, something is mounted on it, the process works in it, it belongs to another user), the
new folder is moved into the old one under a name that readers look at first (``ARRIVING``), which is the one step; then its files
are moved to their places. Imports no torch.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from saconv_surgeon.errors import ArtefactError
from saconv_surgeon.saving.renames import exchange, rename_to_free
from saconv_surgeon.saving.staging import NAME
from saconv_surgeon.surgery.plan_file import ARRIVING, CONVERSION_FILES, DELTA, PLAN, WEIGHTS, read_plan_file


def may_be_exchanged(folder: Path) -> bool:
    """Whether nothing about ``folder`` has to stay but its name, its mode and the conversion in it."""
    found, parent = folder.stat(), folder.parent
    if os.path.ismount(folder) or not os.access(parent, os.W_OK | os.X_OK):
        return False
    if hasattr(os, "geteuid") and (found.st_uid, found.st_gid) != (os.geteuid(), _group_of_new(parent)):
        return False
    with suppress(OSError):  # it has been removed
        if folder in (Path.cwd(), *Path.cwd().parents):
            return False
    return all(each.name in CONVERSION_FILES or NAME.fullmatch(each.name) for each in folder.iterdir())


def replace_folder(new: Path, folder: Path) -> None:
    """Moves ``new`` to ``folder``, where nothing, an empty folder or a saved conversion is. The old one may be at ``new`` then.

    Raises:
        FileExistsError: Something is there that was not a moment ago.
        OSError: It cannot be done; the old one is there.
    """
    if not os.path.lexists(folder):
        rename_to_free(new, folder)
    elif not (may_be_exchanged(folder) and exchange(new, folder)):
        rename_to_free(new, folder / ARRIVING)
        finish_replacing(folder)


def finish_replacing(folder: Path) -> None:
    """Moves files that have arrived to their places; also those of a process that was killed while it did so."""
    arriving = folder / ARRIVING
    if not arriving.is_dir() or arriving.is_symlink():
        return
    for name in CONVERSION_FILES:
        with suppress(FileNotFoundError):
            (arriving / name).replace(folder / name)
    with suppress(ArtefactError, FileNotFoundError):
        _remove_other_weights(folder)
    arriving.rmdir()


def _remove_other_weights(folder: Path) -> None:
    """A whole model has taken the place of a delta, or the other way round: takes away what was replaced under another name."""
    files = read_plan_file(folder / PLAN).get("files")
    if isinstance(files, dict) and len(named := {WEIGHTS, DELTA} & files.keys()) == 1:
        (folder / ({WEIGHTS, DELTA} - named).pop()).unlink()


def _group_of_new(parent: Path) -> int:
    """The group that a new folder in ``parent`` has."""
    found = parent.stat()
    return found.st_gid if found.st_mode & 0o2000 else os.getegid()
