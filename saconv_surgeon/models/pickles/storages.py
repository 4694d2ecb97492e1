"""Persistent ids: the storages that a pickle refers to, checked against those that its file has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saconv_surgeon.models.pickles.dtypes import DTYPE_BYTES, STORAGES
from saconv_surgeon.models.pickles.known_names import kind_of
from saconv_surgeon.models.pickles.stand_ins import Name, RefusedError, Storage, described, shown


class Storages:
    """What the persistent ids of one file refer to.

    Args:
        sizes: The bytes of each storage by its key; None for files of before 1.6, in which they come after the pickle.
        most: The bytes that a storage of such a file can have.
    """

    def __init__(self, sizes: Mapping[str, int] | None = None, most: int = 0) -> None:
        self.sizes, self.most = sizes, most
        self.found: dict[str, tuple[int, int]] = {}
        """By key, the bytes of each storage and of one of its elements."""
        self.read = 0
        """Bytes of the file that were read as pickles."""

    def __call__(self, pid: Any) -> Storage | Name:
        """What ``pid`` refers to.

        Raises:
            RefusedError: It is no storage of this file.
        """
        if type(pid) is not tuple or not pid or type(pid[0]) is not str:
            raise RefusedError("reference", f"it refers to {described(pid)}, not to a storage")
        kind, *rest = pid
        if kind == "module" and self.sizes is None and rest and isinstance(rest[0], Name):
            return rest[0]  # the class of a module, with its source, as old files of whole models have it
        if kind != "storage" or len(rest) != (5 if self.sizes is None else 4):
            raise RefusedError("reference", f"it refers to {shown(kind)!r}, not to a storage as torch.save writes it")
        of, key, location, count, *view = rest
        dtype = self._dtype(of)
        width = DTYPE_BYTES[dtype]
        if type(key) is not str or type(location) is not str or type(count) is not int or count < 0:
            raise RefusedError("reference", "it refers to a storage by values of the wrong kind")
        nbytes = count * width
        there = self.most if self.sizes is None else self.sizes.get(key)
        if there is None:
            raise RefusedError("storage", f"it refers to the storage {shown(key)!r}, which its archive does not have")
        if nbytes > there:
            raise RefusedError(
                "storage", f"the storage {shown(key)!r} is to have {nbytes} bytes, and the file has {there} for it"
            )
        if self.sizes is None and self.found.setdefault(key, (nbytes, width)) != (nbytes, width):
            raise RefusedError("storage", f"the storage {shown(key)!r} is to have two sizes")
        return self._view(Storage(key, dtype, nbytes), width, view[0] if view else None)

    @staticmethod
    def _dtype(of: Any) -> str:
        dtype = STORAGES.get(of.name.removeprefix("_")) if isinstance(of, Name) and kind_of(of) == "storage" else None
        if dtype is None:
            raise RefusedError("reference", f"it refers to a storage of the type {described(of)}")
        return dtype

    @staticmethod
    def _view(whole: Storage, width: int, view: Any) -> Storage:
        """A part of a storage, as files of before 1.6 have it."""
        if view is None:
            return whole
        if type(view) is not tuple or len(view) != 3 or not all(type(n) is int and n >= 0 for n in view[1:]):
            raise RefusedError("reference", "it refers to a part of a storage by values of the wrong kind")
        start, nbytes = view[1] * width, view[2] * width
        if start + nbytes > whole.nbytes:
            raise RefusedError("storage", f"a part of the storage {shown(whole.key)!r} reaches beyond its end")
        return Storage(whole.key, whole.dtype, nbytes, start)
