"""Launches, bytes and live tensors, as the second engine sees them."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import saconv_surgeon as surgeon
from tests import published
from tests.profiling.counting.counted import C, Call, H, K, N, R, W, count


def test_fused_attention_is_one_launch_and_two_products():
    counted = count(Call(F.scaled_dot_product_attention), *torch.randn(3, 2, 4, 64, 16))
    assert counted.macs == 2 * 2 * 4 * 64 * 64 * 16
    assert counted.ops == 1
    assert counted.cross_check.agrees


def test_views_in_place_are_neither_work_nor_launched():
    def views(x):
        x = x.clone()
        x.transpose_(0, 1).t_().unsqueeze_(0).squeeze_(0)
        return x

    counted = count(Call(views), R(3, 4))
    assert (counted.ops, counted.bytes_moved, counted.uncounted_ops) == (1, 2 * 4 * 12, {})


def test_asking_for_memory_launches_nothing_and_look_ups_read_what_they_give():
    assert count(Call(lambda x: torch.empty(5, 5)), R(3)).ops == 0
    table = nn.Embedding(3000, 64)
    assert count(table, torch.tensor([1, 2])).bytes_moved == 2 * (4 * 2 * 64) + 2 * 8
    assert count(Call(lambda x: torch.zeros(4).copy_(x)), R(4)).bytes_moved == 4 * 4 + 4 * 8


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantised_work_is_not_passed_over():
    conv = torch.ao.nn.quantized.Conv2d(C, K, 3)
    x = torch.quantize_per_tensor(R(1, C, H, W), 0.1, 0, torch.quint8)
    assert (
        "quantized::conv2d.new" in count(conv, x).uncounted_ops or "quantized::conv2d" in count(conv, x).uncounted_ops
    )


def test_ops_and_bytes_by_hand():
    model = nn.Sequential(nn.Conv2d(C, K, 3, padding=1), nn.ReLU(inplace=True), Call(lambda x: x.flatten(1).t()))
    counted = count(model, torch.randn(N, C, H, W))
    x, weight, out = N * C * H * W, K * C * 9 + K, N * K * H * W
    rows = {row.path: row for row in counted.layers}
    assert (rows["0"].ops, rows["0"].bytes_moved) == (1, 4 * (x + weight + out))
    assert (rows["1"].ops, rows["1"].bytes_moved) == (1, 4 * 2 * out)
    assert "2" not in rows  # views launch nothing
    assert counted.ops == 2


def test_expanded_tensors_are_read_once_and_halves_are_half():
    model = Call(lambda x: x + x[:, :1].expand(-1, C))
    assert count(model, torch.randn(N, C)).bytes_moved == 4 * (N * C + N + N * C)
    assert count(model, torch.randn(N, C, dtype=torch.bfloat16)).bytes_moved == 2 * (N * C + N + N * C)


def test_published_order_launches_many_and_moves_more():
    state, x = published.random_state(64, 64), torch.randn(1, 64, 28, 28)
    plain = count(nn.Conv2d(64, 64, 3, padding=1, bias=False), x)
    theirs = count(Call(lambda x: published.saconv(state, x)), x)
    ours = count(surgeon.SAConv2d(64, 64, 3, padding=1, bias=False), x)
    assert (plain.ops, theirs.macs, ours.macs) == (1, ours.macs, theirs.macs)
    assert theirs.ops > 20
    assert theirs.bytes_moved > ours.bytes_moved > 4 * plain.bytes_moved


def test_calls_are_counted():
    conv = nn.Conv2d(C, C, 3, padding=1)
    counted = count(nn.Sequential(conv, conv, nn.ReLU()), torch.randn(1, C, H, W))
    assert {row.path: row.calls for row in counted.layers} == {"0": 2, "2": 1}


def test_peak_of_live_tensors_by_hand():
    """x stays, a is there while b is made of it, and gone before c is."""
    x = torch.randn(1000)
    model = Call(lambda x: (x * 2).repeat(3).sum() + x.exp())
    a, b, c = 1000, 3000, 1000
    assert count(model, x).peak_live_bytes == 4 * (1000 + a + b)
    assert count(Call(lambda x: x.exp()), x).peak_live_bytes == 4 * (1000 + c)
    linear = nn.Linear(1000, 10, bias=False)
    assert count(linear, x).peak_live_bytes == 4 * (1000 + 10000 + 10)
