"""Whole models in checkpoints: what is converted, and what stays around it."""

import torch
from torch.optim.swa_utils import AveragedModel

import saconv_surgeon as surgeon
from saconv_surgeon.models.loading.checkpoints import convert_checkpoint
from tests import nets


def to_saconv(model):
    return surgeon.convert(model, nets.X).model


def test_an_average_keeps_its_wrapper():
    model = nets.chain().eval()
    average = AveragedModel(model)
    average.update_parameters(model)
    content = {"ema": average, "model": model, "epoch": 3}
    result = convert_checkpoint(content, to_saconv)
    assert type(result["ema"]) is AveragedModel
    assert int(result["ema"].n_averaged) == 1
    for converted in (result["ema"].module, result["model"]):
        assert any(isinstance(m, surgeon.SAConv2d) for m in converted.modules())
        assert torch.equal(converted.eval()(nets.X), model(nets.X))
    assert not any(isinstance(m, surgeon.SAConv2d) for m in [*average.modules(), *model.modules()])
    assert content["ema"] is average


def test_the_wrapper_of_what_was_given_is_not_touched():
    model = nets.chain().eval()
    average = AveragedModel(model)
    inner = average.module
    convert_checkpoint({"model": average}, to_saconv)
    assert average.module is inner
