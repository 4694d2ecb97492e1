"""Training and checkpoints on two real processes, against one."""

import copy

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_state_dict,
)
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

import saconv_surgeon as surgeon
from tests import oracle
from tests.distributed.processes import together

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
X = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 0])


def build():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(800, 3)
    )


def converted(target="saconv"):
    model = surgeon.convert(build().eval(), X, target=target).model.train()
    for layer in (model[0], model[2]):
        if target == "saconv":
            oracle.shake(layer)
    return model


def step(model, optimizer, x=X, y=Y):
    loss = nn.functional.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def trained(model, steps=3):
    optimizer = torch.optim.AdamW(surgeon.parameter_groups(model, lr=1e-3))
    for _ in range(steps):
        step(model, optimizer)
    return model, optimizer


def part(rank, tensor):
    return tensor[2 * rank : 2 * rank + 2]


def close(found, wanted, tolerance=1e-5):
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(
            found[key], value, rtol=tolerance, atol=tolerance, msg=lambda m, key=key: f"{key}: {m}"
        )


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


# ------------------------------------------------------------------ one process


def one_process(target):
    model = converted(target)
    loss = nn.functional.cross_entropy(model(X), Y)
    loss.backward()
    return model, loss.item()


# ------------------------------------------------------------------ DDP


def with_ddp(rank, target):
    model = converted(target)
    wrapped = DistributedDataParallel(model)
    loss = nn.functional.cross_entropy(wrapped(part(rank, X)), part(rank, Y))
    loss.backward()
    return gradients(model), loss.item()


@pytest.mark.parametrize("target", ["saconv", "aws"])
def test_ddp_has_the_gradients_of_one_process(target):
    model, loss = one_process(target)
    (first, a), (second, b) = together(with_ddp, target)
    close(first, gradients(model))
    close(second, first, 0)
    assert (a + b) / 2 == pytest.approx(loss, abs=1e-5)


# ------------------------------------------------------------------ FSDP2


def sharded(model, policy=None):
    options = {} if policy is None else {"mp_policy": policy}
    for layer in (model[0], model[2], model[5]):
        fully_shard(layer, **options)
    return fully_shard(model, **options)


def with_fsdp(rank, target):
    model = sharded(converted(target))
    output = model(part(rank, X))
    nn.functional.cross_entropy(output, part(rank, Y)).backward()
    found = {name: p.grad.full_tensor() for name, p in model.named_parameters() if p.grad is not None}
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    return found, output.detach(), buffers


@pytest.mark.parametrize("target", ["saconv", "aws"])
def test_fsdp_has_the_outputs_and_gradients_of_one_process(target):
    model, _ = one_process(target)
    (first, a, buffers), (second, b, _) = together(with_fsdp, target)
    close(first, gradients(model))
    close(second, first, 0)
    torch.testing.assert_close(torch.cat([a, b]), model(X).detach(), rtol=1e-5, atol=1e-5)
    close(buffers, dict(model.named_buffers()), 0)  # what standardisation computes is of whole kernels


def with_mixed_precision(rank):
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    model = sharded(converted(), policy)
    output = model(part(rank, X))
    nn.functional.cross_entropy(output.float(), part(rank, Y)).backward()
    found = {name: p.grad.full_tensor() for name, p in model.named_parameters() if p.grad is not None}
    return output.detach().float(), found


def test_fsdp_in_mixed_precision_is_as_close_as_one_process_is():
    model = converted().to(torch.bfloat16)
    wanted = model(X.bfloat16()).detach().float()
    exact = converted()(X).detach()
    noise = (wanted - exact).abs().max()
    (a, gradient), (b, _) = together(with_mixed_precision)
    assert (torch.cat([a, b]) - exact).abs().max() <= 2 * noise
    reference, _ = one_process("saconv")
    for name, value in gradients(reference).items():
        assert (gradient[name] - value).norm() <= 0.1 * value.norm() + 1e-6, name


# ------------------------------------------------------------------ checkpoints


def saves_sharded(rank, folder):
    model = sharded(converted())
    model, optimizer = trained(model)
    state, moments = get_state_dict(model, optimizer)
    dcp.save({"model": state, "optimizer": moments}, checkpoint_id=folder)
    step(model, optimizer)
    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def goes_on(rank, folder):
    model = sharded(surgeon.convert(build().eval(), X).model.train())
    optimizer = torch.optim.AdamW(surgeon.parameter_groups(model, lr=1e-3))
    state, moments = get_state_dict(model, optimizer)
    content = {"model": state, "optimizer": moments}
    dcp.load(content, checkpoint_id=folder)
    set_state_dict(model, optimizer, model_state_dict=content["model"], optim_state_dict=content["optimizer"])
    step(model, optimizer)
    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_sharded_checkpoint_is_resumed_on_another_number_of_ranks(tmp_path, ranks):
    wanted = together(saves_sharded, str(tmp_path))[0]
    found = together(goes_on, str(tmp_path), ranks=ranks)[0]
    close(found, wanted)


def loads(rank, folder, file):
    model = sharded(surgeon.restore(build(), folder).train())
    before = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    before = {key: value.clone() for key, value in before.items()}  # buffers are those of the model
    full = torch.load(file, weights_only=True)["model"]
    set_model_state_dict(model, full, options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=False))
    after = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    return before, after


def test_a_folder_becomes_a_sharded_model_and_a_sharded_checkpoint_a_folder(tmp_path):
    together(saves_sharded, str(tmp_path / "sharded"))
    file = tmp_path / "whole.pt"
    dcp_to_torch_save(tmp_path / "sharded", file)
    conversion = surgeon.convert(build().eval(), X)
    surgeon.save(conversion, tmp_path / "out")
    before, after = together(loads, str(tmp_path / "out"), str(file))[0]
    if before:  # only the first rank holds a full state
        close(before, conversion.model.state_dict(), 0)
    state = torch.load(file, weights_only=True)["model"]
    conversion.model.load_state_dict(state)
    surgeon.save(conversion, tmp_path / "trained")
    restored = surgeon.restore(build(), tmp_path / "trained").state_dict()
    close(restored, state, 0)
    if after:
        close(after, state, 0)


def test_the_oracle_of_these_tests_sees_a_difference():
    model, _ = one_process("saconv")
    other = copy.deepcopy(gradients(model))
    other["0.weight"] += 1e-3
    with pytest.raises(AssertionError, match=r"0\.weight"):
        close(other, gradients(model))
