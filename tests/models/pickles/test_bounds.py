"""Files that ask for too much, reach too far, or that readers differ about: refused, soon and in little memory."""

import io
import pickle
import struct
import time
import tracemalloc
import zipfile
import zlib

import pytest
import torch

from saconv_surgeon.errors import ModelError
from saconv_surgeon.models.loading.file_safety import safety_of
from saconv_surgeon.models.loading.weight_files import read_weights
from saconv_surgeon.models.pickles import budget
from saconv_surgeon.models.pickles.looking import look_through_file
from tests.models.pickles.assembled import (
    archived,
    called,
    dict_of,
    name,
    number,
    storage,
    tensor,
    text,
    tuple_of,
    whole,
)

MOST_SECONDS, MOST_BYTES = 5, 300 * 2**20
ENCODE, BYTEARRAY = name("_codecs", "encode"), name("builtins", "bytearray")


def rule_of(path):
    """The rule by which a file is refused, which takes neither long nor much."""
    tracemalloc.start()
    began = time.perf_counter()
    with pytest.raises(ModelError):
        read_weights(path)
    taken, peak = time.perf_counter() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken < MOST_SECONDS
    assert peak < MOST_BYTES
    return safety_of(path).findings[-1].rule


def long_of(count):
    return pickle.LONG4 + struct.pack("<I", count) + b"\x7f" * count


def encoded(times, encoding):
    body = text("é" * 100)
    for _ in range(times):
        body = (
            called(ENCODE, body, text(encoding))
            if encoding != "mixed"
            else called(ENCODE, body, text("unicode_escape"))
        )
    return body


def tuples_in_tuples(levels):
    """Of every tuple two in the next one: as many objects as levels, and 2**levels ways through them."""
    return pickle.EMPTY_TUPLE + (pickle.DUP + pickle.TUPLE2) * levels


def keys_in_keys(levels):
    """The same as a key, whose hash goes all the ways."""
    return pickle.EMPTY_DICT + text("x") + (pickle.DUP + pickle.TUPLE2) * levels + pickle.NONE + pickle.SETITEM


def lists_one_in_the_next(count):
    """Each is filled after it was put into the one before, so that no single step sees how deep it gets."""
    return (
        pickle.EMPTY_LIST
        + pickle.BINPUT
        + b"\0"
        + ((pickle.EMPTY_LIST + pickle.BINPUT + b"\1" + pickle.APPEND + pickle.POP + pickle.BINGET + b"\1") * count)
    )


FOUR = (number(0), tuple_of(number(4)), tuple_of(number(1)), pickle.NEWFALSE, pickle.NONE)
"""Offset, size, stride and what else a tensor of four elements is made of."""
LAYOUT = called(name("torch.serialization", "_get_layout"), text("torch.sparse_coo"))


def rebuilt(function, *args):
    return called(name("torch._utils", function), *args)


def wide_tensor(**given):
    return dict_of(w=tensor(**given))


BODIES = {
    "bytearray by number": (called(BYTEARRAY, number(2**31 - 1)), "allocation"),
    "bytes by number": (called(name("builtins", "bytes"), number(2**31 - 1)), "allocation"),
    "nested encode": (encoded(12, "unicode_escape"), "allocation"),
    "encode to a wider form": (encoded(1, "utf-32"), "allocation"),
    "encode the same text again and again": (
        text("x" * 2**20)
        + pickle.BINPUT
        + b"\0"
        + (called(ENCODE, pickle.BINGET + b"\0", text("latin1")) + pickle.POP) * 99,
        "allocation",
    ),
    "the same list again and again": (
        pickle.EMPTY_LIST
        + pickle.MARK
        + pickle.NONE * 2**17
        + pickle.APPENDS
        + pickle.BINPUT
        + b"\0"
        + (called(name("builtins", "list"), pickle.BINGET + b"\0") + pickle.POP) * 999,
        "allocation",
    ),
    "text that claims its length": (pickle.BINUNICODE8 + struct.pack("<Q", 2**40), "damaged"),
    "bytes that claim their length": (pickle.BINBYTES8 + struct.pack("<Q", 2**62), "damaged"),
    "bytearray that claims its length": (pickle.BYTEARRAY8 + struct.pack("<Q", 2**62), "damaged"),
    "a long number": (long_of(2**20), "limits"),
    "a number that claims its length": (pickle.LONG4 + struct.pack("<i", 2**31 - 1), "damaged"),
    "a number of many digits": (pickle.INT + b"9" * 10**6 + b"\n", "damaged"),
    "a range": (called(name("builtins", "list"), called(name("builtins", "range"), number(2**30))), "operation"),
    "memo from afar": (pickle.NONE + pickle.LONG_BINPUT + struct.pack("<I", 2**32 - 1), "limits"),
    "memo from afar as text": (pickle.NONE + pickle.PUT + b"999999999999\n", "limits"),
    "deep tuples": (pickle.EMPTY_TUPLE + pickle.TUPLE1 * 10**5, "limits"),
    "deep tuples as a key": (
        pickle.EMPTY_DICT + pickle.EMPTY_TUPLE + pickle.TUPLE1 * 10**5 + pickle.NONE + pickle.SETITEM,
        "limits",
    ),
    "deep lists": (pickle.EMPTY_LIST * 10**4 + pickle.APPEND * (10**4 - 1), "limits"),
    "deep lists, filled from outside": (lists_one_in_the_next(2 * 10**4), None),
    "deep dicts": ((pickle.EMPTY_DICT + text("k")) * 10**4 + pickle.NONE + pickle.SETITEM * 10**4, "limits"),
    "deep marks": (pickle.MARK * 10**4, "damaged"),
    "tuples in tuples": (tuples_in_tuples(150), None),
    "keys in keys": (keys_in_keys(60), "operation"),
    "a list as a key": (pickle.EMPTY_DICT + pickle.EMPTY_LIST + pickle.NONE + pickle.SETITEM, "operation"),
    "a key without a value": (pickle.EMPTY_DICT + pickle.MARK + pickle.NONE + pickle.SETITEMS, "damaged"),
    "an empty stack": (pickle.POP + pickle.POP, "damaged"),
    "below a mark": (pickle.NONE + pickle.MARK + pickle.TUPLE1, "damaged"),
    "not memoized": (pickle.BINGET + b"\7", "damaged"),
    "storage of too many elements": (dict_of(w=tensor(storage(count=5))), "storage"),
    "storage of very many elements": (dict_of(w=tensor(storage(count=2**40))), "storage"),
    "storage of fewer than no elements": (dict_of(w=tensor(storage(count=-1))), "reference"),
    "storage of a wider type": (dict_of(w=tensor(storage(of=name("torch", "DoubleStorage")))), "storage"),
    "storage of another entry": (dict_of(w=tensor(storage(key="../data.pkl"))), "storage"),
    "storage that is not there": (dict_of(w=tensor(storage(key="1"))), "storage"),
    "storage that is the pickle": (dict_of(w=tensor(storage(key="data.pkl"))), "storage"),
    "storage without a type": (dict_of(w=tensor(storage(of=name("torch.storage", "TypedStorage")))), "reference"),
    "storage of something": (dict_of(w=tensor(storage(of=name("argparse", "Namespace")))), "reference"),
    "storage with a view": (dict_of(w=tensor(storage(view=pickle.NONE))), "reference"),
    "another kind of reference": (dict_of(w=tensor(storage(kind="file"))), "reference"),
    "tensor beyond its storage": (wide_tensor(size=(5,)), "tensor"),
    "tensor beyond its storage by its stride": (wide_tensor(size=(4,), stride=(2,)), "tensor"),
    "tensor beyond its storage by its offset": (wide_tensor(offset=1), "tensor"),
    "tensor before its storage": (wide_tensor(offset=-1), "tensor"),
    "tensor with a stride backwards": (wide_tensor(size=(2,), stride=(-1,), offset=3), "tensor"),
    "tensor with a size below nothing": (wide_tensor(size=(-4,)), "tensor"),
    "tensor with sizes that overflow": (wide_tensor(size=(2**31 - 1,) * 3, stride=(0, 0, 0)), "allocation"),
    "tensor of one element, very often": (wide_tensor(size=(2**31 - 1,), stride=(0,)), "allocation"),
    "many tensors of one element": (
        dict_of(**{f"w{i}": tensor(size=(2**24,), stride=(0,)) for i in range(9)}),
        "allocation",
    ),
    "tensor of no elements and of all": (
        wide_tensor(size=(0, 2**31 - 1, 2**31 - 1, 2**31 - 1), stride=(1, 1, 1, 1)),
        "tensor",
    ),
    "tensor whose stride is another": (wide_tensor(size=(2, 2)), "tensor"),
    "tensor of many dimensions": (wide_tensor(size=(1,) * 65, stride=(1,) * 65), "tensor"),
    "tensor with text for a size": (
        dict_of(
            w=rebuilt("_rebuild_tensor_v2", storage(), number(0), text("4"), text("1"), pickle.NEWFALSE, pickle.NONE)
        ),
        "tensor",
    ),
    "tensor of something": (
        dict_of(w=rebuilt("_rebuild_tensor_v2", text("x"), *FOUR)),
        "tensor",
    ),
    "tensor of too few arguments": (dict_of(w=rebuilt("_rebuild_tensor_v2", storage())), "tensor"),
    "tensor of another dtype": (
        dict_of(w=rebuilt("_rebuild_tensor_v3", storage(), *FOUR, name("torch", "float64"))),
        "tensor",
    ),
    "tensor of no dtype": (
        dict_of(w=rebuilt("_rebuild_tensor_v3", storage(), *FOUR, name("torch", "strided"))),
        "tensor",
    ),
    "items of a tensor": (tensor() + number(0) + number(1) + pickle.SETITEM, "operation"),
    "many items of a tensor": (tensor() + pickle.MARK + number(0) + number(1) + pickle.SETITEMS, "operation"),
    "items of a storage": (storage() + number(0) + number(1) + pickle.SETITEM, "operation"),
    "items of a list": (pickle.EMPTY_LIST + number(2**30) + number(1) + pickle.SETITEM, "operation"),
    "attributes of a tensor": (tensor() + tuple_of(pickle.NONE, dict_of(data=pickle.NONE)) + pickle.BUILD, "operation"),
    "a tensor is built anew, beyond its storage": (
        called(name("torch", "FloatTensor"))
        + tuple_of(storage(), number(0), tuple_of(number(9)), tuple_of(number(1)))
        + pickle.BUILD,
        "tensor",
    ),
    "a tensor without storage, too large": (
        dict_of(
            w=rebuilt(
                "_rebuild_meta_tensor_no_storage",
                name("torch", "float32"),
                tuple_of(*[number(2**31 - 1)] * 3),
                tuple_of(*[number(1)] * 3),
                pickle.NEWFALSE,
            )
        ),
        "tensor",
    ),
    "a quantizer of another size": (
        dict_of(
            w=rebuilt(
                "_rebuild_qtensor",
                storage(count=4, of=name("torch", "QInt8Storage")),
                number(0),
                tuple_of(number(4)),
                tuple_of(number(1)),
                tuple_of(name("torch", "per_channel_affine"), tensor(), tensor(), number(7)),
                pickle.NEWFALSE,
                pickle.NONE,
            )
        ),
        "tensor",
    ),
    "a sparse tensor of something": (
        dict_of(w=rebuilt("_rebuild_sparse_tensor", LAYOUT, tuple_of(text("x"), tensor(), tuple_of(number(4))))),
        "tensor",
    ),
    "a parameter of something": (
        dict_of(w=rebuilt("_rebuild_parameter", text("x"), pickle.NEWFALSE, pickle.NONE)),
        "tensor",
    ),
}


@pytest.mark.parametrize(("body", "rule"), BODIES.values(), ids=BODIES.keys())
def test_what_reaches_too_far(tmp_path, body, rule):
    archived(body, tmp_path / "m.pt", protocol=4)
    found = rule_of(tmp_path / "m.pt") if rule else _harmless(tmp_path / "m.pt")
    assert found == rule


def _harmless(path):
    """Large only for who follows every way through it; looked through as soon as anything else."""
    began = time.perf_counter()
    with pytest.raises(ModelError, match=r"holds no state dict|deep in each other"):
        read_weights(path)
    assert time.perf_counter() - began < MOST_SECONDS


def test_a_good_one_of_the_same_make(tmp_path):
    """The assembled files are refused for what is said of them, not for how they are made."""
    archived(dict_of(w=tensor(), v=tensor(size=(2, 2), stride=(2, 1))), tmp_path / "m.pt")
    found = read_weights(tmp_path / "m.pt")
    assert found["w"].shape == (4,)
    assert found["v"].shape == (2, 2)
    assert torch.load(tmp_path / "m.pt", weights_only=True)["w"].shape == (4,)


def test_sparse_indices_are_checked(tmp_path):
    indices = tensor(storage(key="1", count=1, of=name("torch", "LongStorage")), (1, 1), (1, 1))
    values = tensor(size=(1,))
    layout = called(name("torch.serialization", "_get_layout"), text("torch.sparse_coo"))
    for index, good in ((2, True), (10**9, False), (-1, False)):
        body = dict_of(
            w=called(
                name("torch._utils", "_rebuild_sparse_tensor"), layout, tuple_of(indices, values, tuple_of(number(4)))
            )
        )
        archived(body, tmp_path / "m.pt", storages={"0": b"\0" * 16, "1": struct.pack("<q", index)})
        if good:
            assert read_weights(tmp_path / "m.pt")["w"].shape == (4,)
        else:
            with pytest.raises(ModelError, match="torch does not accept a tensor"):
                read_weights(tmp_path / "m.pt")


def test_too_many_instructions(tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "MOST_INSTRUCTIONS", 1000)
    for body in (pickle.NONE + pickle.POP, number(1) + pickle.POP, pickle.MARK + pickle.POP_MARK):
        archived(body * 600 + pickle.NONE, tmp_path / "m.pt")
        assert rule_of(tmp_path / "m.pt") == "limits"


def good(path, **given):
    return archived(dict_of(w=tensor()), path, **given)


def test_a_packed_archive_is_read_as_torch_reads_it(tmp_path):
    good(tmp_path / "m.pt", compression=zipfile.ZIP_DEFLATED)
    assert torch.equal(read_weights(tmp_path / "m.pt")["w"], torch.load(tmp_path / "m.pt")["w"])


def test_bombs(tmp_path):
    zeros = {"0": bytes(96 * 2**20)}
    good(tmp_path / "m.pt", storages=zeros, compression=zipfile.ZIP_DEFLATED)
    assert rule_of(tmp_path / "m.pt") == "archive"
    archived(text("x" * 2**20) * 96, tmp_path / "m.pt", compression=zipfile.ZIP_DEFLATED)
    assert rule_of(tmp_path / "m.pt") == "archive"


def changed(path, change):
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)


def set_flag(local, table, flag):
    def change(content):
        if local:
            content[6] |= flag
        if table:
            content[content.find(b"PK\1\2") + 8] |= flag

    return change


def rename_inside(content):
    place = content.find(b"archive/data.pkl")
    content[place : place + 16] = b"archive/data.pkk"


def twice(path):
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/DATA.pkl", whole(pickle.EMPTY_DICT))


def beside(path, member=b"other/data.pkl"):
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member.decode(), whole(pickle.EMPTY_DICT))


ARCHIVES = {
    "marked as encrypted in the table": lambda p: changed(p, set_flag(False, True, 1)),
    "marked as encrypted in the entry": lambda p: changed(p, set_flag(True, False, 1)),
    "another name in the entry": lambda p: changed(p, rename_inside),
    "an entry twice, in another case": twice,
    "a pickle in another folder": beside,
    "a pickle beside": lambda p: beside(p, b"archive/evil.pkl"),
    "a pickle among the storages": lambda p: beside(p, b"archive/data/evil.pkl"),
    "a pickle outside of all": lambda p: beside(p, b"data.pkl"),
    "a folder above": lambda p: beside(p, b"archive/../../evil.pkl"),
    "something behind": lambda p: p.write_bytes(p.read_bytes() + b"\0" * 100),
    "a comment": lambda p: p.write_bytes(p.read_bytes()[:-2] + b"\x03\0abc"),
    "a pickle before": lambda p: p.write_bytes(whole(pickle.EMPTY_DICT) + p.read_bytes()),
    "another archive before": lambda p: p.write_bytes(p.read_bytes() * 2),
    "the table elsewhere": lambda p: changed(p, lambda c: c.__setitem__(slice(-6, -2), struct.pack("<I", 0))),
    "a size of the table": lambda p: changed(p, lambda c: c.__setitem__(slice(-10, -6), struct.pack("<I", 1))),
    "an unknown method": lambda p: changed(
        p, lambda c: (c.__setitem__(8, 99), c.__setitem__(c.find(b"PK\1\2") + 10, 99))
    ),
    "a method in the table alone": lambda p: changed(p, lambda c: c.__setitem__(c.find(b"PK\1\2") + 10, 8)),
    "a size in the table alone": lambda p: changed(p, lambda c: c.__setitem__(c.find(b"PK\1\2") + 24, 3)),
    "an entry that reaches into the next": lambda p: changed(
        p, lambda c: (c.__setitem__(c.find(b"PK\1\2") + 22, 3), c.__setitem__(c.find(b"PK\1\2") + 26, 3))
    ),
    "an entry that begins elsewhere": lambda p: changed(p, lambda c: c.__setitem__(c.rfind(b"PK\1\2") + 42, 1)),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("spoil", ARCHIVES.values(), ids=ARCHIVES.keys())
def test_archives_that_readers_differ_about(tmp_path, spoil):
    path = good(tmp_path / "m.pt")
    assert not safety_of(path).findings
    spoil(path)
    assert rule_of(path) in ("archive", "damaged", "format")


def test_checksums_decide_nothing(tmp_path):
    """torch does not look at them: a pickle with a wrong one is read, and therefore looked through, all the same."""
    path = archived(called(name("posix", "system"), text("true")), tmp_path / "m.pt")
    crc = struct.pack("<I", zlib.crc32(whole(called(name("posix", "system"), text("true")))))
    path.write_bytes(path.read_bytes().replace(crc, b"abcd"))
    assert safety_of(path).findings[0].message == "it names posix.system"


def legacy(change=lambda raw: raw):
    buffer = io.BytesIO()
    torch.save({"w": torch.arange(4.0)}, buffer, _use_new_zipfile_serialization=False)
    return bytes(change(bytearray(buffer.getvalue())))


def recount(count):
    def change(raw):
        raw[-24:-16] = struct.pack("<q", count)
        return raw

    return change


LEGACY = {
    "cut off": lambda raw: raw[:-1],
    "something behind": lambda raw: raw + b"\0",
    "fewer elements": recount(3),
    "more elements": recount(2**40),
    "fewer than none": recount(-1),
    "another pickle behind": lambda raw: raw + whole(pickle.EMPTY_DICT),
    "other keys": lambda raw: raw.replace(b"]q\x00X", b"]q\x00(X"),
}


@pytest.mark.parametrize("change", LEGACY.values(), ids=LEGACY.keys())
def test_files_of_before_archives(tmp_path, change):
    (tmp_path / "m.pt").write_bytes(legacy())
    assert torch.equal(read_weights(tmp_path / "m.pt")["w"], torch.arange(4.0))
    (tmp_path / "m.pt").write_bytes(legacy(change))
    assert rule_of(tmp_path / "m.pt") in ("storage", "damaged")


def test_a_pickle_that_is_a_tar_as_well(tmp_path):
    """torch looks for a tar first, and would extract it."""
    import tarfile

    block = bytearray(tarfile.TarInfo("storages").tobuf(tarfile.USTAR_FORMAT))
    (tmp_path / "m.pt").write_bytes(bytes(block) + bytes(1024))
    assert rule_of(tmp_path / "m.pt") == "program"


def test_cost(tmp_path):
    """A hundred megabytes in a thousand tensors; 0.1 s on an idle machine."""
    torch.save({f"layer{i}.weight": torch.zeros(25, 10, 10, 10) for i in range(1000)}, tmp_path / "m.pt")
    taken = []
    for _ in range(3):
        began = time.perf_counter()
        assert not look_through_file(tmp_path / "m.pt").findings
        taken.append(time.perf_counter() - began)
    assert min(taken) < 1  # of a machine that has other things to do
