"""What a file of any kind wants when it is loaded, and whether it loads without leave. Nothing of it is run."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import safetensors

from saconv_surgeon.errors import ModelError, UntrustedError, first_line
from saconv_surgeon.models.archive_check import check_archive
from saconv_surgeon.models.exported.program_check import check_data_only
from saconv_surgeon.models.loading.factories import is_place
from saconv_surgeon.models.loading.refusals import RUNS_CODE
from saconv_surgeon.models.loading.weight_files import INDEX_SUFFIX, check_header, shards_of
from saconv_surgeon.models.pickles.looking import BARE, NONE, look_through_file
from saconv_surgeon.models.pickles.stand_ins import shown
from saconv_surgeon.records.safety import Finding, Loads, Safety


@dataclass
class Seen:
    """The kind of a file, what is refused of it, the names in it, and whether a whole model is in it."""

    kind: str
    findings: list[Finding] = field(default_factory=list)
    wants: dict[str, int] = field(default_factory=dict)
    models: bool = False


def safety_of(path: Path) -> Safety:
    """What the file at ``path`` wants, and what of that is refused.

    Raises:
        ModelError: There is no such file, or it cannot be read.
    """
    if not is_place(path, Path.exists):
        raise ModelError(f"{path} does not exist (looked in {path.absolute().parent})")
    if not path.is_file():
        raise ModelError(f"{path} is {'a folder' if path.is_dir() else 'no regular file'}; give a file to look through")
    try:
        seen = _reader_of(path)(path)
        size = path.stat().st_size
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error})") from error
    return Safety(str(path), seen.kind, _loads(seen), size, tuple(seen.wants), tuple(seen.findings), seen.models)


def _loads(seen: Seen) -> Loads:
    if not seen.findings:
        return "as data"
    trusted = seen.kind not in (BARE, NONE) and all(finding.rule in RUNS_CODE for finding in seen.findings)
    return "with --trust" if trusted else "not at all"


def _reader_of(path: Path) -> Callable[[Path], Seen]:
    if path.name.endswith(INDEX_SUFFIX):
        return _index
    return _BY_SUFFIX.get(path.suffix.lower(), _pickles)


def _pickles(path: Path) -> Seen:
    try:
        check_archive(path)
    except ModelError as error:
        message = str(error).removeprefix(f"{path} ")
        return Seen("an archive", [Finding("damaged" if "damaged" in message else "archive", f"it {message}")])
    look = look_through_file(path)
    return Seen(look.format, look.findings, look.wants, bool(look.modules))


def _safetensors(path: Path) -> Seen:
    try:
        check_header(path)
        with safetensors.safe_open(path, framework="pt"):
            findings: list[Finding] = []
    except (safetensors.SafetensorError, ValueError, KeyError, struct.error, RecursionError) as error:
        findings = [Finding("damaged", f"it is not a readable safetensors file ({shown(first_line(error))})")]
    return Seen("safetensors", findings)


def _index(path: Path) -> Seen:
    findings: list[Finding] = []
    try:
        for name in shards_of(path)[1]:
            shard = path.with_name(name)
            found = _safetensors(shard).findings if shard.is_file() else [Finding("damaged", "it is not there")]
            findings += [Finding(each.rule, each.message, shown(name)) for each in found]
    except ModelError as error:
        findings.append(Finding("damaged", shown(first_line(error))))
    return Seen("an index of safetensors files", findings)


def _program(path: Path) -> Seen:
    kind = "an exported program"
    try:
        check_data_only(path)
    except UntrustedError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.startswith("  ")]
        return Seen(kind, [Finding("program", f"it holds {shown(line)}") for line in lines or [first_line(error)]])
    except ModelError as error:
        return Seen(kind, [Finding("damaged", shown(first_line(error), 300))])
    return Seen(kind)


def _source(path: Path) -> Seen:
    return Seen("Python source", [Finding("program", "it is code, and runs when MODEL names it")])


def _unread(kind: str) -> Callable[[Path], Seen]:
    return lambda path: Seen(kind, [Finding("format", f"it is {kind}, which is not read")])


_BY_SUFFIX: dict[str, Callable[[Path], Seen]] = {
    ".safetensors": _safetensors,
    ".pt2": _program,
    ".py": _source,
    ".onnx": _unread("an ONNX graph"),
    ".json": _unread("a report or a plan, which holds no weights"),
}
