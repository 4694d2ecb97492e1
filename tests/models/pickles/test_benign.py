"""Checkpoints that trainers write load as data, and their tensors are those that torch itself reads."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from saconv_surgeon.errors import ModelError, UntrustedError
from saconv_surgeon.models.loading.file_safety import safety_of
from saconv_surgeon.models.loading.weight_files import read_pickle, read_weights
from tests.models.pickles.assembled import archived, dict_of, tensor
from tests.models.pickles.benign import CODE, MODELS, WRITERS, written_here


def write(writer, path):
    with written_here():
        writer(path)
        return content_by_python(path)


def content_by_python(path):
    """As torch, or Python for what torch does not read, has it."""
    try:
        return torch.load(path, weights_only=False)
    except RuntimeError:
        return pickle.loads(path.read_bytes())


def tensors(value, at=""):
    """Every tensor or array in plain containers, by its place."""
    if isinstance(value, torch.Tensor):
        yield at, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from tensors(item, f"{at}.{key}")
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from tensors(item, f"{at}.{i}")


def same(a, b):
    if a.layout != b.layout or a.dtype != b.dtype or a.shape != b.shape or type(a) is not type(b):
        return False
    if a.is_meta or b.is_meta:
        return a.is_meta and b.is_meta
    if a.is_quantized:
        return torch.equal(a.int_repr(), b.int_repr()) and torch.equal(a.dequantize(), b.dequantize())
    if a.layout is not torch.strided:
        return torch.equal(a.to_dense(), b.to_dense())
    if a.element_size() == 1 and a.is_floating_point():
        a, b = a.view(torch.uint8), b.view(torch.uint8)
    return torch.equal(a, b) and a.stride() == b.stride() and a.requires_grad == b.requires_grad


SHARE = (93, 97)
"""How many load, of all; docs/safety.md says so."""


@pytest.mark.filterwarnings("ignore:Sparse", "ignore:.*quantiz")
@pytest.mark.parametrize("name", WRITERS)
def test_it_loads_as_data(tmp_path, name):
    expected = write(WRITERS[name], tmp_path / "m.pt")
    assert safety_of(tmp_path / "m.pt").loads == "as data"
    found = dict(tensors(read_pickle(tmp_path / "m.pt", trust=False, weights_suffice=True)))
    for place, wanted in tensors(expected):
        assert same(found[place], wanted), place


def test_storages_are_shared_as_in_the_file(tmp_path):
    base = torch.arange(24.0)
    for zipped in (True, False):
        torch.save(
            {"whole": base, "part": base[3:9], "again": base}, tmp_path / "m.pt", _use_new_zipfile_serialization=zipped
        )
        found = read_weights(tmp_path / "m.pt")
        found["whole"][4] = 77
        assert found["part"][1] == 77
        assert found["again"] is found["whole"]


def test_arrays_become_weights_if_there_are_no_tensors(tmp_path):
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "c": np.ones(()),
    }
    for protocol in range(6):
        (tmp_path / "m.pkl").write_bytes(pickle.dumps({"model": arrays}, protocol))
        found = read_weights(tmp_path / "m.pkl")
        assert set(found) == set(arrays)
        for name, array in arrays.items():
            assert np.array_equal(found[name].numpy(), array), (protocol, name)
            assert found[name].dtype == torch.from_numpy(array).dtype


def test_files_of_big_endian_machines(tmp_path):
    """They say so, and have the bytes of their numbers the other way round."""
    raw = np.arange(4, dtype=">f4").tobytes()
    archived(dict_of(w=tensor()), tmp_path / "m.pt", storages={"0": raw}, members={"byteorder": b"big"})
    assert torch.equal(read_weights(tmp_path / "m.pt")["w"], torch.arange(4.0))


@pytest.mark.parametrize("name", CODE)
def test_code_is_refused(tmp_path, name):
    with written_here():
        CODE[name](tmp_path / "m.pt")
    for read in (read_weights, lambda path: read_pickle(path, trust=False)):
        with pytest.raises(UntrustedError, match="It wants these classes"):
            read(tmp_path / "m.pt")
    assert safety_of(tmp_path / "m.pt").loads == "with --trust"


@pytest.mark.parametrize("name", MODELS)
def test_weights_of_whole_models_in_checkpoints(tmp_path, name):
    """As torch has them in their state dicts; the model itself is code."""
    expected = write(WRITERS[name], tmp_path / "m.pt")["model"].state_dict()
    found = read_weights(tmp_path / "m.pt")
    assert list(found) == list(expected)
    assert all(torch.equal(found[key], value) and found[key].dtype == value.dtype for key, value in expected.items())
    with pytest.raises(UntrustedError, match="It wants these classes"):
        read_pickle(tmp_path / "m.pt", trust=False)
    assert safety_of(tmp_path / "m.pt").models


@pytest.mark.parametrize("wind", [lambda part: part.add_module("again", part), lambda part: _double(part, 40)])
def test_models_that_are_parts_of_themselves(tmp_path, wind):
    model = nn.Sequential(nn.Conv2d(1, 1, 1))
    wind(model)
    torch.save({"model": model}, tmp_path / "m.pt")
    with pytest.raises(ModelError, match="or is a part of itself"):
        read_weights(tmp_path / "m.pt")


def _double(part, times):
    """Each part twice in the next: 2**times ways to the first."""
    for _ in range(times):
        inner = nn.Module()
        inner._modules = dict(part._modules)
        part._modules = {"a": inner, "b": inner}


def test_share_of_all_that_loads(tmp_path):
    """At least 95 of 100."""
    files = WRITERS | CODE
    loaded = 0
    for writer in files.values():
        with written_here():
            writer(tmp_path / "m.pt")
        loaded += safety_of(tmp_path / "m.pt").loads == "as data"
    assert (loaded, len(files)) == SHARE
    assert loaded / len(files) >= 0.95


def test_what_has_no_weights_says_what_it_is(tmp_path):
    write(WRITERS["transformers, training_args.bin"], tmp_path / "m.pt")
    with pytest.raises(ModelError, match="holds no state dict; it holds TrainingArguments"):
        read_weights(tmp_path / "m.pt")
