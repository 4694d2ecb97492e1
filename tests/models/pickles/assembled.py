"""Pickles written instruction by instruction, and files of torch.save that hold them. Each is meant to leave a mark."""

import io
import pickle as p
import pickletools
import struct
import zipfile

import torch

MAGIC_COUNT = 3
"""The pickles before the content in a file of torch.save of before 1.6."""


def text(value):
    raw = value.encode()
    return p.BINUNICODE + struct.pack("<I", len(raw)) + raw


def short(value):
    raw = value.encode()
    return p.SHORT_BINUNICODE + bytes([len(raw)]) + raw


def number(value):
    return p.BININT + struct.pack("<i", value) if abs(value) < 2**31 else long(value)


def long(value):
    raw = p.encode_long(value)
    return p.LONG1 + bytes([len(raw)]) + raw


def name(module, attribute):
    return p.GLOBAL + f"{module}\n{attribute}\n".encode()


def stacked(module, attribute):
    return short(module) + short(attribute) + p.STACK_GLOBAL


def tuple_of(*parts):
    return p.MARK + b"".join(parts) + p.TUPLE


def called(function, *args):
    return function + tuple_of(*args) + p.REDUCE


def dict_of(**items):
    return p.EMPTY_DICT + p.MARK + b"".join(text(k) + v for k, v in items.items()) + p.SETITEMS


def whole(body, protocol=2):
    return p.PROTO + bytes([protocol]) + body + p.STOP


def storage(count=4, key="0", of=None, kind="storage", view=b""):
    of = of or name("torch", "FloatStorage")
    return tuple_of(text(kind), of, text(key), text("cpu"), number(count), view) + p.BINPERSID


def tensor(reference=None, size=(4,), stride=(1,), offset=0, function="_rebuild_tensor_v2"):
    parts = [reference or storage(), number(offset), tuple_of(*map(number, size)), tuple_of(*map(number, stride))]
    return called(
        name("torch._utils", function),
        *parts,
        p.NEWFALSE,
        name("collections", "OrderedDict") + p.EMPTY_TUPLE + p.REDUCE,
    )


def archived(body, path, *, storages=None, members=None, compression=zipfile.ZIP_STORED, protocol=2):
    """An archive of torch.save whose pickle is ``body``."""
    content = {"data.pkl": whole(body, protocol), "byteorder": b"little"}
    content |= {f"data/{key}": raw for key, raw in (storages or {"0": b"\0" * 16}).items()}
    content |= {"version": b"3\n"} | (members or {})
    with zipfile.ZipFile(path, "w", compression) as archive:
        for member, raw in content.items():
            archive.writestr(f"archive/{member}", raw)
    return path


def _body(pickled):
    """A pickle without its first and last instruction."""
    assert pickled[:1] == p.PROTO
    return pickled[2:-1]


def beside_weights(body, state, path):
    """An archive with a state dict that fits, in which ``body`` comes first and is dropped."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(path, "w") as new:
        for member in old.namelist():
            raw = old.read(member)
            new.writestr(member, whole(body + p.POP + _body(raw)) if member.endswith("/data.pkl") else raw)
    return path


def beside_weights_of_old(body, state, path):
    """The same in a file of before 1.6."""
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=False)
    raw, ends = buffer.getvalue(), [0]
    stream = io.BytesIO(raw)
    for _ in range(MAGIC_COUNT + 1):
        list(pickletools.genops(stream))
        ends.append(stream.tell())
    start, end = ends[-2:]
    path.write_bytes(raw[:start] + whole(body + p.POP + _body(raw[start:end])) + raw[end:])
    return path
