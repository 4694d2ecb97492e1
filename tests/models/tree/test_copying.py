"""Copies of models, and models that cannot be copied."""

import pytest
import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, distribute_module, distribute_tensor

import saconv_surgeon as surgeon
from saconv_surgeon.models.tree.copying import copy_model
from tests import nets

pytestmark = pytest.mark.filterwarnings("ignore")  # torch calls parts of these beta


@pytest.fixture
def mesh():
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    distributed.destroy_process_group()


def spread(module, mesh):
    return distribute_module(
        module,
        mesh,
        input_fn=lambda module, given, mesh: (distribute_tensor(given[0], mesh, [Replicate()]),),
        output_fn=lambda module, output, mesh: output.to_local(),
    )


def test_kernels_that_are_distributed_are_refused(mesh):
    model = nn.Sequential(spread(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1)), mesh), nn.Conv2d(4, 4, 3)).eval()
    conversion = surgeon.convert(model, nets.X)
    assert [site.reason for site in conversion.plan.sites] == ["its weight is a DTensor, not a plain parameter", None]
    assert torch.equal(conversion.model(nets.X), model(nets.X))


def test_distributed_parts_are_refused_by_a_folder(mesh, tmp_path):
    model = nn.Sequential(spread(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1)), mesh), nn.Conv2d(4, 4, 3)).eval()
    with pytest.raises(
        surgeon.ModelError, match=r"more than plain tensors \(first: 0.0.*DTensor\); save to a .pt file"
    ):
        surgeon.save(surgeon.convert(model, nets.X), tmp_path / "out")


def test_sharded_models_are_to_be_converted_first(mesh):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    fully_shard(model, mesh=mesh)
    for verb in (surgeon.convert, surgeon.fold):
        with pytest.raises(
            surgeon.ModelError, match=r"sharded \(FSDP.*convert the plain model, and shard the converted"
        ):
            verb(model, nets.X)


def test_tensors_without_a_storage_are_copied():
    model = nn.Module()
    model.register_buffer("rows", torch.eye(3).to_sparse_csr())
    model.blocks = nn.Parameter(torch.eye(4).to_sparse_bsr(2), requires_grad=False)
    model.again = model.blocks
    copied = copy_model(model)
    assert copied.rows.values().data_ptr() != model.rows.values().data_ptr()
    assert torch.equal(copied.rows.to_dense(), torch.eye(3))
    assert copied.blocks is copied.again
    assert not copied.blocks.requires_grad
