"""Tensors of a program that are not in its archive."""

import json
import zipfile

import pytest
import torch

from saconv_surgeon.models.exported.read_program import read_program
from tests.models.hostile_files import as_model, net, rezip


@pytest.fixture(scope="module")
def program_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "net.pt2"
    torch.export.save(torch.export.export(net(), (torch.ones(1, 2, 9, 9),)), path)
    return path


def edited(program_file, place, change):
    with zipfile.ZipFile(program_file) as archive:
        name = next(n for n in archive.namelist() if n.endswith("model_weights_config.json"))
        content = json.loads(archive.read(name))
    payload = content["config"]["0.weight"]
    change(payload["tensor_meta"], payload)
    rezip(program_file, place / "evil.pt2", replace={name: json.dumps(content)})
    return "evil.pt2"


def sizes(*sides, strides=None):
    def change(meta, payload):
        meta["sizes"] = [{"as_int": side} for side in sides]
        meta["strides"] = [{"as_int": step} for step in strides or [0] * len(sides)]

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (sizes(2**20, 2**20), "of which"),
        (sizes(4, 2, 3, 2**40), "of which"),
        (sizes(2**40, strides=[1]), "of which"),
        (lambda meta, payload: meta["device"].update(type="meta"), "meta device, which holds no values"),
        (lambda meta, payload: meta.update(storage_offset={"as_int": -1}), "no number"),
        (lambda meta, payload: meta.update(storage_offset={"as_int": 2**70}), "no number"),
        (lambda meta, payload: meta.update(storage_offset={"as_int": 10**6}), "evil.pt2"),
        (lambda meta, payload: meta.update(sizes=[{"as_expr": {"expr_str": "s0"}}]), "no number"),
        (lambda meta, payload: meta.update(sizes=[{"as_int": True}]), "no number"),
        (lambda meta, payload: payload.update(path_name="weight_99"), "evil.pt2"),
        (lambda meta, payload: meta.update(dtype=99), "evil.pt2"),
        (lambda meta, payload: payload.update(tensor_meta=None), "evil.pt2"),
    ],
)
def test_tensors_that_are_not_there(place, program_file, change, said):
    assert said in as_model(place, edited(program_file, place, change))


def test_an_empty_record_that_is_said_to_be_large(place, program_file):
    """torch makes zeros of the size that is claimed."""
    name = edited(program_file, place, sizes(2**20, 2**20, strides=[2**20, 1]))
    with zipfile.ZipFile(place / name) as archive:
        record = next(n for n in archive.namelist() if n.endswith("weights/weight_0"))
    rezip(place / name, place / "empty.pt2", replace={record: b""})
    assert "of which none is stored" in as_model(place, "empty.pt2")


@pytest.mark.parametrize("given", [torch.ones(1).expand(1, 2, 2**20, 2**20), torch.ones(1, 2, 9, 9)])
def test_sample_inputs(place, program_file, given):
    torch.save(((given,), {}), place / "inputs.pt")
    with zipfile.ZipFile(program_file) as archive:
        name = next(n for n in archive.namelist() if "sample_inputs" in n)
    rezip(program_file, place / "other.pt2", replace={name: (place / "inputs.pt").read_bytes()})
    if given.numel() > 1000:
        assert "a pickle of more than tensors (data/sample_inputs" in as_model(place, "other.pt2")
    else:
        assert read_program(place / "other.pt2").inputs is not None


class Masked(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 4, 3)
        self.register_buffer("mask", torch.ones(1, 4, 1, 1).expand(1, 4, 7, 7))
        self.twin = self.conv

    def forward(self, x):
        return self.conv(x) * self.mask + self.twin(x)


@pytest.mark.filterwarnings("ignore")
def test_what_models_store_is_read(tmp_path):
    """Expanded buffers and shared weights have more values than are stored."""
    model = Masked().eval()
    x = torch.randn(1, 2, 9, 9)
    torch.export.save(torch.export.export(model, (x,)), tmp_path / "m.pt2")
    assert torch.equal(read_program(tmp_path / "m.pt2").module(x), model(x))
