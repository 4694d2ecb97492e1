"""Looks through files of ``torch.save`` and bare pickles: what they hold, what they want, what of that is refused."""

from __future__ import annotations

import io
import mmap
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from saconv_surgeon.models.pickles import budget as limits
from saconv_surgeon.models.pickles.budget import Budget
from saconv_surgeon.models.pickles.instructions import value_of_pickle
from saconv_surgeon.models.pickles.known_names import kind_of
from saconv_surgeon.models.pickles.machine import Machine
from saconv_surgeon.models.pickles.stand_ins import Made, RefusedError
from saconv_surgeon.models.pickles.storages import Storages
from saconv_surgeon.models.pickles.zip_members import LOCAL, Archive
from saconv_surgeon.records.safety import Finding

ARCHIVE, LEGACY, TAR, BARE = (
    "an archive of torch.save",
    "a file of torch.save of before 1.6",
    "a tar of torch.save of before 0.1.10",
    "a bare pickle",
)
SCRIPT, NONE = "a TorchScript archive", "no checkpoint"
MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001


@dataclass
class Look:
    """What a file came to.

    ``value`` describes its content: plain containers with :class:`TensorPlan` for tensors and :class:`Made` for settings; None if
    anything is refused. ``modules`` are the names of layers and models, which are refused if a whole model is wanted, or if there
    is nothing but one. ``storage`` gives the bytes of a storage by its key, ``byteorder`` is that of them.
    """

    format: str = NONE
    value: Any = None
    wants: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    modules: list[Finding] = field(default_factory=list)
    has_settings: bool = False
    storage: Callable[[str], Any] = lambda key: b""
    byteorder: str = "little"


def look_through_file(path: Path) -> Look:
    """What the file at ``path`` holds. Nothing of it is run, and memory and time are bounded by its size.

    Raises:
        OSError: It cannot be opened.
    """
    with path.open("rb") as file:
        try:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # nothing in it
            return look_through(b"")
        return look_through(mapped)


def look_through(buffer: Any) -> Look:
    """As :func:`look_through_file`, of ``buffer``: bytes or a mapped file."""
    look = Look()
    try:
        if bytes(buffer[:4]) == LOCAL:
            _look_at_archive(buffer, look)
        elif _is_tar(bytes(buffer[:512])):
            look.format = TAR
            raise RefusedError("program", f"it is {TAR}, which torch itself reads only as code")
        else:
            _look_at_pickles(buffer, look)
        check_nesting(look.value)
    except RefusedError as error:
        look.findings.append(error.finding)
    if look.findings or (isinstance(look.value, Made) and kind_of(look.value.of) == "module"):
        look.findings.extend(look.modules)
        look.value = None
    return look


def _is_tar(block: bytes) -> bool:
    """Whether torch would take a file for a tar, which it looks for before it reads a pickle."""
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return False
    return True


def _look_at_archive(buffer: Any, look: Look) -> None:
    look.format = ARCHIVE
    archive = Archive(buffer)
    if archive.is_torchscript:
        look.format = SCRIPT
        raise RefusedError("program", "it is a TorchScript archive, which is code")
    archive.check_names()
    order = archive.read("byteorder") if "byteorder" in archive.members else b"little"
    if order not in (b"little", b"big"):
        raise RefusedError("archive", "its byte order is neither little nor big")
    look.byteorder, look.storage = order.decode(), lambda key: archive.read(f"data/{key}")
    sizes = {name.removeprefix("data/"): m.size for name, m in archive.members.items() if name.startswith("data/")}
    content = archive.read("data.pkl")
    stored = Storages(sizes=sizes)
    look.value = _run(io.BytesIO(content), look, stored, Budget(len(buffer)), "data.pkl")
    if len(content) > stored.read:
        raise RefusedError("archive", "something follows the pickle in data.pkl")


def _look_at_pickles(buffer: Any, look: Look) -> None:
    stream = io.BytesIO(buffer) if isinstance(buffer, bytes) else buffer
    budget, stored = Budget(len(buffer)), Storages(most=len(buffer))
    first = _run(stream, look, stored, budget, "")
    if first != MAGIC or isinstance(first, bool):
        look.format = BARE
        if stored.found:
            raise RefusedError("reference", "it refers to storages that it does not have")
        if stored.read < len(buffer):
            raise RefusedError("archive", "something follows the pickle, which other readers would read too")
        if not isinstance(first, (dict, Made)) and not look.findings:
            raise RefusedError("format", "it is no file of torch.save, and no pickle of a dict")
        look.value = first
        return
    look.format = LEGACY
    if _run(stream, look, stored, budget, "") != PROTOCOL:
        raise RefusedError("format", "it is of a version of torch.save that is not known")
    _run(stream, look, stored, budget, "")
    look.value = _run(stream, look, stored, budget, "")
    keys = _run(stream, look, stored, budget, "")
    places = _places(buffer, stored, keys)
    look.storage = lambda key: buffer[slice(*places[key])]


def _places(buffer: Any, stored: Storages, keys: Any) -> Mapping[str, tuple[int, int]]:
    """Where each storage lies in a file of before 1.6: one after the other, each after the number of its elements."""
    if not isinstance(keys, list) or len(set(map(str, keys))) != len(keys) or set(map(str, keys)) != set(stored.found):
        raise RefusedError("storage", "the storages that follow are not those that its tensors are made of")
    place, places = stored.read, {}
    for key in map(str, keys):
        count = int.from_bytes(buffer[place : place + 8], "little")
        nbytes, width = stored.found[key]
        if count * width != nbytes:
            raise RefusedError(
                "storage", f"the storage {key} has {count} elements, and {nbytes // width} were promised"
            )
        places[key] = (place + 8, place + 8 + nbytes)
        place += 8 + nbytes
    if place != len(buffer):
        raise RefusedError("storage", f"its storages end at {place} and the file at {len(buffer)}; is it complete?")
    return places


def _run(stream: Any, look: Look, stored: Storages, budget: Budget, entry: str) -> Any:
    """The value of the pickle at the place of ``stream``; what it wants and what is wrong with it go to ``look``."""
    machine = Machine(stored, budget, entry)
    try:
        value = value_of_pickle(machine, stream)
    except RefusedError as error:
        raise error.at(entry, machine.position) from error
    finally:
        look.wants |= {name: place for name, place in machine.wants.items() if name not in look.wants}
        look.findings.extend(machine.findings)
        look.modules.extend(Finding("code", f"it names {name}", entry, at) for name, at in machine.modules.items())
        look.has_settings |= machine.has_settings
    stored.read = stream.tell()
    return value


def check_nesting(value: Any) -> None:
    """Checks that containers do not lie deeper in each other than anything that works on them can follow.

    Raises:
        RefusedError: They do.
    """
    level, seen = [value], {id(value)}
    for _ in range(limits.MOST_NESTED):
        inner = [child for each in level for child in _children(each)]
        level = []
        for child in inner:
            if id(child) not in seen:
                seen.add(id(child))
                level.append(child)
        if not level:
            return
    raise RefusedError("limits", f"containers lie more than {limits.MOST_NESTED} deep in each other")


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        found = list(value.values())
    elif isinstance(value, (list, tuple)):
        found = list(value)
    elif isinstance(value, Made):
        found = [value.args, value.state, value.items, value.elements]
    else:
        return []
    return [each for each in found if isinstance(each, (dict, list, tuple, Made))]
