"""What an exported program may hold to be taken for data.

``torch.export.load`` trusts what it reads: pickled tensors and objects, size expressions that are evaluated, and names of
functions. An archive is searched for all of them before it is loaded.
"""

from __future__ import annotations

import io
import json
import keyword
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from saconv_surgeon.errors import ModelError, UntrustedError, first_line
from saconv_surgeon.models.archive_check import check_archive
from saconv_surgeon.models.exported.program_records import ProgramRecords
from saconv_surgeon.models.exported.safe_expressions import is_arithmetic, is_guard
from saconv_surgeon.models.exported.safe_operators import is_safe_operator
from saconv_surgeon.models.exported.stored_tensors import check_inputs, check_tensors
from saconv_surgeon.models.pickles.looking import look_through

DATA = re.compile(
    r"data/(weights/weight|constants/(tensor|custom_obj|opaque_obj))_\d+|extra/.+"
    r"|archive_format|archive_version|version|byteorder|\.data/(version|serialization_id)|\.format_version|\.storage_alignment"
)
"""Entries that are read as bytes. Those with objects are pickles that are read only if a table of payloads says so."""
PAYLOADS = re.compile(r"data/(weights/model_weights|constants/model_constants)_config\.json")
PICKLES = re.compile(r"data/(weights|constants|sample_inputs)/model\.pt")
SAFE_FUNCTION = re.compile(
    r"_operator\.(add|sub|mul|truediv|floordiv|mod|neg|pos|abs|lt|le|eq|ne|ge|gt|and_|or_|not_|xor|getitem)"
    r"|math\.(ceil|floor|trunc|sqrt)|torch\.sym_(float|int|ite|max|min|not|sum|sqrt|constrain_range\w*)"
)
"""What a program may call besides operators. No power of plain numbers, which has no end."""
IDENTIFIERS = ("name", "as_name", "forward_arg_names")
"""Become names in the source code that torch makes of a graph, as the keys of its tables of values do."""
TEXT = ("stack_trace", "as_string", "custom", "from_node", "source_fn_stack")
"""Is kept or handed on as it is. Everything else is a path or a name, which may be quoted in source code."""
LARGEST_PROGRAM = 128 << 20
"""Bytes of JSON; those of the largest models that torch exports have some ten million."""
SPECIFICATIONS = ("in_spec", "out_spec", "treespec")


def check_data_only(path: Path) -> None:
    """Refuses what ``torch.export.load`` would run.

    Raises:
        UntrustedError: The archive holds more than data; names it.
        ModelError: It cannot be read.
    """
    check_archive(path)
    try:
        if "serialized_exported_program.json" in _names(path):
            raise UntrustedError(_refusal(path, ["a layout of torch before 2.8, whose parts are pickled"]))
        records = ProgramRecords(path)
        if "models/model.json" in records.names and records.size("models/model.json") > LARGEST_PROGRAM:
            raise ValueError(f"its graph has more than {LARGEST_PROGRAM >> 20} MiB")
        found = [finding for name in records.names for finding in _findings(records, name)]
    except (
        zipfile.BadZipFile,
        RuntimeError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
        OSError,
    ) as error:
        raise ModelError(
            f"{path} is not a readable exported program ({type(error).__name__}: {first_line(error)}); is it complete?"
        ) from error
    if found:
        raise UntrustedError(_refusal(path, found))


def graph_mib(path: Path) -> float:
    """The size of the graph in an archive, in MiB; 0 if there is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(e.file_size for e in archive.infolist() if e.filename.endswith("models/model.json")) / 2**20
    except (OSError, ValueError, zipfile.BadZipFile):
        return 0.0


def _names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def _refusal(path: Path, found: list[str]) -> str:
    return (
        f"{path} holds more than data:\n  "
        + "\n  ".join(dict.fromkeys(found))
        + "\nIf you trust whoever made the file, give --trust; or export the model again"
    )


def _findings(records: ProgramRecords, name: str) -> Iterator[str]:
    """What is wrong with one entry."""
    if name == "models/model.json":
        yield from _program_findings(json.loads(records.read(name)))
    elif PAYLOADS.fullmatch(name):
        config = json.loads(records.read(name))
        yield from _payload_findings(config)
        check_tensors(config, name.rpartition("/")[0], records)
    elif PICKLES.fullmatch(name):
        yield from _pickle_findings(records.read(name), name)
    elif name.startswith("data/aotinductor/"):
        yield f"compiled code ({name})"
    elif not DATA.fullmatch(name):
        yield f"an entry that torch.export.save does not write ({name})"


def _payload_findings(config: Any) -> Iterator[str]:
    for key, meta in config.get("config", {}).items():
        if meta.get("use_pickle"):
            yield f"a pickled value ({key})"
        if str(meta.get("path_name", "")).startswith(("custom_obj", "opaque_obj")):
            yield f"a pickled object ({key})"


def _pickle_findings(content: bytes, name: str) -> Iterator[str]:
    if not content:
        return
    look = look_through(content)
    try:
        found = None if look.findings or look.has_settings else torch.load(io.BytesIO(content), weights_only=True)
    except Exception:
        found = None
    if found is None:
        yield f"a pickle of more than tensors ({name})"
        return
    check_inputs(found, len(content))


def _program_findings(program: Any) -> Iterator[str]:
    for key, value in _strings(program):
        if key in ("target", "as_operator"):
            if SAFE_FUNCTION.fullmatch(value) is None and not is_safe_operator(value):
                yield f"a call of {value!r}"
        elif key == "expr_str":
            if not is_arithmetic(value):
                yield f"the size expression {value[:60]!r}"
        elif key in SPECIFICATIONS:
            yield from _specification_findings(value)
        elif key in IDENTIFIERS:
            if value and not _is_identifier(value):
                yield f"the name {value[:60]!r}"
        elif key not in (*TEXT, "guards_code") and re.search(r'["\\\x00-\x1f]', value):
            yield f"the name {value[:60]!r}"
    yield from (f"the name {name[:60]!r}" for name in _value_names(program) if not _is_identifier(name))
    for name in program.get("range_constraints", {}):
        if not is_arithmetic(name):
            yield f"the size expression {name[:60]!r}"
    yield from (f"the guard {code[:60]!r}" for code in program.get("guards_code", ()) if not is_guard(code))


def _specification_findings(text: str) -> Iterator[str]:
    """What is wrong with the description of a container."""
    if _imports_something(text):
        yield "a container that imports something of its own"
    try:
        _, container = json.loads(text)
        parts = container.get("children_spec") or []
        keywords = json.loads(parts[1]["context"]) if len(parts) == 2 and parts[1]["type"] == "builtins.dict" else []
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return  # no container of arguments
    yield from (f"the name {str(name)[:60]!r}" for name in keywords if not _is_identifier(str(name)))


def _imports_something(text: str) -> bool:
    """Whether a container's description, JSON with further JSON in its strings, names a module that is imported for it."""
    try:
        content = json.loads(text)
        if isinstance(content, Mapping) and {"default_factory_module", "__enum__"} & set(content):
            return True
        children = content.values() if isinstance(content, Mapping) else content if isinstance(content, list) else ()
        return any(_imports_something(child if isinstance(child, str) else json.dumps(child)) for child in children)
    except RecursionError:  # too deep to say
        return True
    except ValueError:
        return False


def _value_names(value: Any) -> Iterator[str]:
    """The keys of all tables of values in a program."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key.endswith("_values") and isinstance(item, Mapping):
                yield from item
            yield from _value_names(item)
    elif isinstance(value, list):
        for item in value:
            yield from _value_names(item)


def _is_identifier(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name)


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _strings(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, key)
