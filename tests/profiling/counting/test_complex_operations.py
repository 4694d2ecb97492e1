"""Complex numbers: the FLOPs of their parts. A multiply–accumulate is four products and four sums."""

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from tests.profiling.counting.counted import Call, R, count

C64 = torch.complex64


def complex_r(*shape):
    return R(*shape, dtype=C64)


@pytest.mark.parametrize(
    ("model", "inputs", "macs"),
    [
        (nn.Conv2d(3, 4, 3, bias=False, dtype=C64), (complex_r(1, 3, 10, 10),), 64 * 4 * 27),
        (nn.Conv1d(3, 4, 3, dtype=C64), (complex_r(1, 3, 10),), 8 * 4 * 9),
        (nn.ConvTranspose2d(3, 4, 3, dtype=C64), (complex_r(1, 3, 5, 5),), 25 * 3 * 4 * 9),
        (nn.Linear(6, 5, dtype=C64), (complex_r(2, 6),), 2 * 6 * 5),
        (Call(torch.matmul), (complex_r(2, 3, 4), complex_r(2, 4, 5)), 2 * 3 * 4 * 5),
        (Call(torch.bmm), (complex_r(2, 3, 4), complex_r(2, 4, 5)), 2 * 3 * 4 * 5),
        (Call(torch.dot), (complex_r(7), complex_r(7)), 7),
        (Call(torch.addmm), (complex_r(3, 5), complex_r(3, 4), complex_r(4, 5)), 3 * 4 * 5),
        (Call(lambda a, b: torch.einsum("ij,jk->ik", a, b)), (complex_r(3, 4), complex_r(4, 5)), 3 * 4 * 5),
    ],
    ids=["conv2d", "conv1d", "transposed", "linear", "matmul", "bmm", "dot", "addmm", "einsum"],
)
def test_products_are_one_mac_and_eight_flops(model, inputs, macs):
    counted = count(model, *inputs)
    assert (counted.macs, counted.flops) == (macs, 8 * macs)
    assert counted.uncounted_ops == {}
    if "Conv" in type(model).__name__:
        assert counted.note.startswith("counted by FlopCounterMode: fvcore's trace takes complex convolutions apart")
    else:
        assert counted.cross_check.agrees


def test_a_real_product_stays_two_flops():
    assert count(nn.Linear(6, 5), R(2, 6)).flops == 2 * 2 * 6 * 5


@pytest.mark.parametrize(
    ("call", "flops"),
    [
        (lambda x: x + x, 2),
        (lambda x: x + 1.0, 1),
        (lambda x: x * x, 6),
        (lambda x: x * 2.0, 2),
        (lambda x: x * 2j, 6),
        (lambda x: x * x.real.contiguous(), 2),
        (lambda x: x / x, 11),
        (lambda x: x / 2.0, 2),
        (torch.reciprocal, 6),
        (lambda x: x.abs(), 4),
        (lambda x: -x, 2),
        (lambda x: x.clone().mul_(x), 6),
        (lambda x: x.conj().resolve_conj(), 0),
        (lambda x: torch.view_as_real(x), 0),
    ],
)
def test_element_by_element_by_hand(call, flops):
    counted = count(Call(call), complex_r(3, 4))
    assert (counted.flops, counted.macs) == (12 * flops, 0)
    assert counted.uncounted_ops == {}


def test_sums_count_both_parts():
    assert count(Call(lambda x: x.sum(1)), complex_r(3, 4)).flops == 2 * 12


def test_transforms_have_the_figure_of_complex_numbers():
    assert count(Call(torch.fft.fft), complex_r(3, 8)).flops == 5 * 24 * 3


def test_transforms_that_are_seen_as_kernels_only():
    """A Hermitian transform of 5 numbers gives 8 real ones."""
    assert count(Call(torch.fft.hfft), complex_r(5)).flops == 5 * 8 * 3
    assert count(Call(torch.fft.ihfft), R(8)).flops == 5 * 8 * 3


def test_spectral_product_by_hand():
    """Two real transforms of n = 16 each way count 5·n·log₂n; nine complex products of the halves in between."""
    counted = count(Call(lambda x: torch.fft.irfft(torch.fft.rfft(x) * torch.fft.rfft(x))), R(16))
    assert counted.flops == 3 * 5 * 16 * 4 + 9 * 6


def test_what_has_no_rule_for_complex_numbers_is_listed():
    found = surgeon.profile(Call(lambda x: torch.tanh(x * x)), complex_r(3, 4), timing=None)
    assert list(found.uncounted_ops) == ["aten::tanh"]
    assert found.flops == 12 * 6
