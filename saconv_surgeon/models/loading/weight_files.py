"""Files of tensors: safetensors, sharded safetensors, files of ``torch.save``. None of their code runs without ``trust``."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from saconv_surgeon.errors import ModelError, first_line
from saconv_surgeon.models.archive_check import UNREADABLE, check_archive
from saconv_surgeon.models.loading.checkpoints import state_dict_of
from saconv_surgeon.models.loading.factories import is_place
from saconv_surgeon.models.loading.missing_packages import why_not_loaded
from saconv_surgeon.models.loading.refusals import refusal_of
from saconv_surgeon.models.loading.users_code import append_to_path, users_code
from saconv_surgeon.models.pickles.contents import content_of
from saconv_surgeon.models.pickles.looking import BARE, NONE, look_through_file
from saconv_surgeon.models.pickles.stand_ins import RefusedError
from saconv_surgeon.records import unique_keys
from saconv_surgeon.records.input_files import NotReadableError, check_regular, parse_json, read_json

LARGEST_HEADER = 100_000_000
"""Bytes; the library reads no larger one."""
INDEX_SUFFIX = ".safetensors.index.json"


def read_weights(path: Path, *, trust: bool = False) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file, of the shards in a ``.safetensors.index.json``, or of a ``torch.save`` checkpoint.

    Raises:
        ModelError: The file cannot be read or holds no state dict.
        UntrustedError: The file holds more than data, and ``trust`` was not given.
    """
    if path.name.endswith(INDEX_SUFFIX):
        return read_shards(path)
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    check_file(path)
    if is_torchscript(path):
        raise ModelError(
            f"{path} is a TorchScript archive; save its weights with torch.save(model.state_dict(), …) and give those"
        )
    return state_dict_of(read_pickle(path, trust=trust, weights_suffice=True), path)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file.

    Raises:
        ModelError: The file cannot be read, or names a tensor twice.
    """
    check_file(path)
    try:
        check_header(path)
        return load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, struct.error, RecursionError) as error:
        raise ModelError(f"{path} is not a readable safetensors file ({first_line(error)}); is it complete?") from error


def read_shards(index: Path) -> dict[str, Tensor]:
    """The tensors of all the ``.safetensors`` files that an index names, which lie beside it.

    Raises:
        ModelError: The index or a shard cannot be read, or they disagree.
    """
    placed, names = shards_of(index)
    tensors: dict[str, Tensor] = {}
    for name in names:
        shard = read_safetensors(index.with_name(name))
        wanted = [key for key, place in placed.items() if place == name]
        missing = [key for key in wanted if key not in shard]
        if missing:
            raise ModelError(
                f"{index.with_name(name)} lacks {len(missing)} tensors that {index.name} promises, first {missing[0]!r}"
            )
        tensors |= {key: shard[key] for key in wanted}
    return tensors


def shards_of(index: Path) -> tuple[dict[str, str], list[str]]:
    """In which file an index says that each tensor is, and the names of all these files, which lie beside it.

    Raises:
        ModelError: The index cannot be read.
    """
    check_file(index)
    try:
        placed = read_json(index, unique_keys)["weight_map"]
        names = sorted({str(name) for name in placed.values()})
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise ModelError(
            f"{index} is not a readable index of shards ({first_line(error)}); it needs a weight_map"
        ) from error
    outside = [name for name in names if not name or Path(name).name != name]
    if outside:
        raise ModelError(f"{index} names {outside[0]!r}, which does not lie beside it; not read")
    return placed, names


def read_pickle(path: Path, *, trust: bool, weights_suffice: bool = False) -> Any:
    """The content of a file of ``torch.save``, or of a bare pickle.

    It is read as data, without what trainers store besides the weights; with ``trust`` by torch, which runs the code in it, if it
    holds more than that. With ``weights_suffice``, of a whole model in a checkpoint its state dict alone.

    Raises:
        UntrustedError: It holds more than tensors and settings, and ``trust`` was not given. Names the classes.
        ModelError: The file cannot be read.
    """
    check_file(path)
    check_archive(path)
    if trust:
        append_to_path(Path.cwd())
    try:
        look = look_through_file(path)
        # torch does not load a bare pickle, but runs what is in it before it says so
        trust = trust and look.format not in (BARE, NONE)
        findings = tuple(look.findings or (() if weights_suffice else look.modules))
        if not findings and not (trust and look.has_settings):
            return content_of(look)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error})") from error
    except RefusedError as error:
        findings = (error.finding,)
    if not trust:
        raise refusal_of(path, findings, look.format)
    return _load_trusted(path, list(look.wants))


def is_torchscript(path: Path) -> bool:
    """Whether ``path`` is an archive of ``torch.jit.save``."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except UNREADABLE:
        return False


def check_header(path: Path) -> None:
    """Checks the names in a safetensors header; the library itself keeps the last of two that are equal.

    Raises:
        ValueError: It is longer than the file, is no JSON, or has a name twice.
    """
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        if size > min(path.stat().st_size, LARGEST_HEADER):
            raise ValueError(f"its header claims {size} bytes")
        parse_json(file.read(size), unique_keys)


def _load_trusted(path: Path, classes: list[str]) -> Any:
    with users_code(f"loading {path}", str(path.resolve())):
        try:
            return torch.load(path, map_location="cpu", weights_only=False)
        except (ImportError, AttributeError) as error:
            raise ModelError(
                f"{path} needs code that cannot be imported here ({error}): {why_not_loaded(error, classes)}"
            ) from error
        except Exception as error:
            raise ModelError(f"{path} cannot be loaded ({type(error).__name__}: {first_line(error)})") from error


def check_file(path: Path) -> None:
    """Checks that ``path`` is a file with content: no folder, no device, nothing that waits for a writer.

    Raises:
        ModelError: It is not.
    """
    if not is_place(path, Path.exists):
        raise ModelError(f"{path} does not exist (looked in {path.absolute().parent})")
    if path.is_dir():
        raise ModelError(f"{path} is a folder; a file was expected")
    try:
        check_regular(path)
    except (NotReadableError, OSError) as error:
        raise ModelError(f"{path} cannot be read: {error}; give a file") from error
