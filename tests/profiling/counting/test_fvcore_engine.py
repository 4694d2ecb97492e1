"""What the first engine, fvcore's trace, sees and does not see."""

import logging
import warnings

import pytest
import torch
from fvcore.nn import FlopCountAnalysis

from sample_models import tiny_mobilenet, tiny_resnet, tiny_unet
from tests.profiling.counting.counted import C, Call, H, N, R, count


@pytest.mark.parametrize("sample", [tiny_resnet, tiny_mobilenet, tiny_unet], ids=["resnet", "mobilenet", "unet"])
def test_fvcore_flops_is_what_plain_fvcore_says(sample):
    model, x = sample.build().eval(), sample.example_inputs()
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = FlopCountAnalysis(model, x).unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()
    assert count(model, x).fvcore_flops == plain


def test_operations_that_a_trace_does_not_open_are_named():
    counted = count(Call(lambda a, b: torch.tensordot(a, b, 1)), R(3, 4), R(4, 5))
    assert counted.macs == 60
    assert "shows aten::tensordot as one operation of unknown cost" in counted.note
    assert counted.uncounted_ops == {}


def test_where_plain_fvcore_raises_its_figure_is_unknown_and_no_other():
    counted = count(Call(lambda x, w: x @ w), torch.randn(N, H, C), torch.randn(C))
    assert (counted.fvcore_flops, counted.macs, counted.note) == (None, N * H * C, None)
