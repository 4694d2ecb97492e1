"""The table of operations against counts by hand."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import saconv_surgeon as surgeon
from saconv_surgeon.profiling.counting.free_operations import FREE
from saconv_surgeon.profiling.counting.operation_table import formula_of
from tests.profiling.counting.counted import C, Call, H, K, N, R, W, count, torch_macs


@pytest.mark.parametrize(
    ("model", "shape", "macs"),
    [
        (nn.Conv2d(C, K, 3, padding=1), (N, C, H, W), N * K * H * W * C * 9),
        (nn.Conv2d(C, K, 3, stride=2, padding=1), (N, C, H, W), N * K * 5 * 6 * C * 9),
        (nn.Conv2d(C, K, 3, padding="same", dilation=2), (N, C, H, W), N * K * H * W * C * 9),
        (nn.Conv2d(C, K, 3, padding="valid"), (N, C, H, W), N * K * 8 * 10 * C * 9),
        (nn.Conv2d(C, 12, 3, padding=1, groups=3), (N, C, H, W), N * 12 * H * W * 2 * 9),
        (nn.Conv2d(C, C, 5, padding=2, groups=C), (N, C, H, W), N * C * H * W * 25),
        (nn.ConvTranspose2d(C, K, 4, stride=2, padding=1), (N, C, H, W), N * C * H * W * K * 16),
        (nn.ConvTranspose2d(C, 12, 4, stride=2, groups=3), (N, C, H, W), N * C * H * W * 4 * 16),
        (nn.Conv1d(C, K, 3), (N, C, H), N * K * 8 * C * 3),
        (nn.Conv3d(C, K, 3), (N, C, 5, 6, 7), N * K * 3 * 4 * 5 * C * 27),
        (nn.Linear(C, K), (N, 5, C), N * 5 * C * K),
        (Call(lambda x: F.conv2d(x, torch.ones(K, C, 3, 3))), (N, C, H, W), N * K * 8 * 10 * C * 9),
        (Call(lambda x: torch.einsum("nchw,nkhw->nck", x, x)), (N, C, H, W), N * C * C * H * W),
        (Call(lambda x: torch.einsum("bij,bjk,bkl->bil", x, x, x)), (N, H, H), 2 * N * H**3),
        (Call(lambda x: torch.einsum("...ij,...kj->...ik", x, x)), (N, 3, H, W), N * 3 * H * H * W),
        (Call(lambda x: x @ x.mT), (N, H, W), N * H * W * H),
        (Call(lambda x: torch.baddbmm(x, x, x)), (N, H, H), N * H**3),
        (Call(lambda x: F.scaled_dot_product_attention(x, x, x)), (N, 4, 10, 8), 2 * N * 4 * 10 * 10 * 8),
    ],
)
def test_macs_by_hand(model, shape, macs):
    x = torch.randn(shape)
    counted = count(model, x)
    assert counted.macs == macs
    assert counted.macs == torch_macs(model, x)
    assert counted.uncounted_ops == {}
    assert counted.note is None


def test_multihead_attention_by_hand():
    length, size, heads = 10, 16, 4
    x = torch.randn(N, length, size)
    model = nn.MultiheadAttention(size, heads, batch_first=True)
    projections = N * length * size * size * 4
    products = 2 * N * length * length * size
    assert count(model, x, x, x).macs == projections + products == torch_macs(model, x, x, x)


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("options", [{"padding": 1}, {"padding": "same"}, {"stride": 2, "padding": 1}, {}])
def test_saconv_by_hand(groups, options):
    model = surgeon.SAConv2d(8, 8, 3, groups=groups, **options)
    x = torch.randn(N, 8, H, W)
    outputs = model(x).numel()
    convolutions = 2 * outputs * (8 // groups) * 9
    switch, contexts = N * H * W * 8, 2 * N * 8 * 8
    counted = count(model, x)
    assert counted.macs == convolutions + switch + contexts == torch_macs(model, x)
    assert counted.uncounted_ops == {}
    (row,) = counted.layers
    assert (row.path, row.type, row.macs) == ("", "SAConv2d", counted.macs)
    assert row.parameters == sum(p.numel() for p in model.parameters())


def test_flops_by_hand():
    """2·MACs, 2 for each element of the norm, 1 for each of ReLU, the kernel for each of the pool, and a broadcast add."""
    model = nn.Sequential(
        nn.Conv2d(C, K, 3, padding=1), nn.BatchNorm2d(K), nn.ReLU(), nn.AvgPool2d(2), Call(lambda x: x + x[:, :1])
    )
    whole, pooled = N * K * H * W, N * K * (H // 2) * (W // 2)
    counted = count(model, torch.randn(N, C, H, W))
    assert counted.flops == 2 * whole * C * 9 + 2 * whole + whole + 4 * pooled + pooled
    assert counted.activations == whole


def test_arithmetic_on_sizes_is_not_counted():
    counted = count(Call(lambda x: x.reshape(x.shape[0] * x.shape[1], -1)), torch.randn(N, C, H))
    assert counted.flops == 0
    assert counted.uncounted_ops == {}


def recurrent_macs(model, steps):
    return steps * sum(p.numel() for name, p in model.named_parameters() if name.startswith("weight"))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2}])
def test_recurrent_layers_by_hand(kind, options):
    model = kind(C, K, batch_first=True, **options)
    counted = count(model, torch.randn(N, 5, C))
    assert counted.macs == recurrent_macs(model, N * 5)
    assert counted.cross_check.agrees
    assert counted.uncounted_ops == {}


def test_lstm_with_projection_and_packed_sequence_by_hand():
    model = nn.LSTM(C, K, proj_size=3, batch_first=True)
    assert count(model, torch.randn(N, 5, C)).macs == recurrent_macs(model, N * 5)

    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(C, K, batch_first=True)

        def forward(self, x):
            packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 2]), batch_first=True)
            return self.lstm(packed)[0].data

    packed = Packed()
    assert count(packed, torch.randn(2, 5, C)).macs == recurrent_macs(packed.lstm, 5 + 2)


@pytest.mark.parametrize(
    ("model", "inputs", "macs"),
    [
        (Call(lambda x, w: x @ w), (torch.randn(N, H, C), torch.randn(C)), N * H * C),
        (Call(torch.dot), (torch.randn(H), torch.randn(H)), H),
        (nn.Bilinear(C, K, 3), (torch.randn(N, C), torch.randn(N, K)), N * C * K * 3),
        (Call(torch.cdist), (torch.randn(N, H, C), torch.randn(N, W, C)), N * H * W * C),
        (nn.Linear(C, 1), (torch.randn(C),), C),
    ],
    ids=["mv", "dot", "bilinear", "cdist", "linear-1d"],
)
def test_products_that_the_counter_misses_by_hand(model, inputs, macs):
    counted = count(model, *inputs)
    assert counted.macs == macs
    assert counted.cross_check.agrees
    assert counted.uncounted_ops == {}


@pytest.mark.parametrize(
    ("call", "inputs", "macs"),
    [
        (lambda a, b: torch.einsum("...ij,...jk->...ik", a, b), (R(5, 3, 4), R(1, 4, 6)), 5 * 3 * 4 * 6),
        (lambda a, b: torch.einsum("bij,bjk->bik", a, b), (R(1, 3, 4), R(5, 4, 6)), 5 * 3 * 4 * 6),
        (lambda a, b: torch.einsum("bij,bjk->bik", a, b), (R(5, 3, 1), R(5, 4, 6)), None),
        (lambda a, b: torch.einsum("ij,ij->i", a, b), (R(3, 4), R(3, 4)), 12),
        (lambda a, b, c: torch.addbmm(a, b, c), (R(3, 5), R(10, 3, 4), R(10, 4, 5)), 10 * 3 * 4 * 5),
        (lambda a, b, c: a.addbmm_(b, c), (R(3, 5), R(10, 3, 4), R(10, 4, 5)), 10 * 3 * 4 * 5),
        (F.scaled_dot_product_attention, (R(1, 4, 10, 8), R(2, 4, 12, 8), R(2, 4, 12, 6)), 2 * 4 * 10 * 12 * (8 + 6)),
        (
            lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True),
            (R(2, 8, 10, 4), R(2, 2, 10, 4), R(2, 2, 10, 4)),
            2 * 2 * 8 * 10 * 10 * 4,
        ),
        (torch.linalg.vecdot, (R(1, 4), R(5, 4)), 20),
        (lambda a, b: torch._int_mm(a.to(torch.int8), b.to(torch.int8)), (R(32, 16), R(16, 32)), 32 * 16 * 32),
        (lambda a, b: torch.chain_matmul(a, b), (R(3, 4), R(4, 5)), 60),
    ],
)
@pytest.mark.filterwarnings("ignore:torch.chain_matmul")
def test_products_that_broadcast_by_hand(call, inputs, macs):
    counted = count(Call(call), *inputs)
    if macs is not None:
        assert counted.macs == macs
    assert counted.uncounted_ops == {}
    assert counted.macs == sum(row.macs for row in counted.layers)


@pytest.mark.parametrize(
    ("call", "inputs", "flops"),
    [
        (lambda a: torch.einsum("ij->i", a), (R(5, 3),), 15),
        (lambda a: torch.einsum("ii->", a), (R(5, 5),), 5),
        (lambda a: torch.einsum("ij->ji", a), (R(5, 3),), 0),
        (torch.fft.fft, (R(1000, 8),), 5 * 8000 * 3),
        (torch.fft.fft2, (R(10, 8, 8),), 5 * 640 * 6),
        (lambda a: torch.fft.rfft(a, dim=0), (R(16, 3),), 5 * 48 * 4),
        (torch.fft.fftn, (R(4, 4),), 5 * 16 * 4),
        (lambda w, i: F.embedding_bag(i, w, mode="sum"), (R(3000, 64), torch.tensor([[1, 2]])), 2 * 64),
        (lambda a: F.interpolate(a, scale_factor=2, mode="bicubic"), (R(1, 2, 3, 3),), 32 * 2 * 36),
        (lambda a: F.interpolate(a, scale_factor=2, mode="bilinear"), (R(1, 2, 3, 3),), 4 * 2 * 36),
        (lambda a: F.rms_norm(a, (4,)), (R(3, 4),), 3 * 12),
        (lambda a, w: F.rms_norm(a, (4,), w), (R(3, 4), R(4)), 4 * 12),
        (lambda a: F.fold(a, (4, 4), 2), (R(1, 4, 9),), 36),
        (lambda a: a // 2.0, (R(3, 4),), 12),
        (lambda a: F.layer_norm(a, (4,)), (R(3, 4),), 4 * 12),
        (lambda a: F.group_norm(a, 2), (R(2, 4, 3),), 4 * 24),
    ],
)
def test_other_work_by_hand(call, inputs, flops):
    counted = count(Call(call), *inputs)
    assert (counted.flops, counted.macs) == (flops, 0)
    assert counted.uncounted_ops == {}
    assert counted.cross_check.agrees


def test_lstm_flops_and_activations_by_hand():
    """Per step: 8 rows of gates for the input, 8 for the state; four operations for each of the 4·K gates."""
    counted = count(nn.LSTM(C, K, batch_first=True), R(N, 5, C))
    steps = N * 5
    assert counted.activations == steps * 2 * 4 * K
    assert counted.flops == 2 * counted.macs + steps * 4 * 4 * K


def test_deformable_convolution_formula_by_hand():
    """No torchvision here: the formula on a call that is made up. Each of 9·C samples takes eight operations."""

    class MadeUp:
        out = (N, K, 8, 10)
        is_floating = True

        def shape(self, i):
            return ((N, C, H, W), (K, C, 3, 3))[i]

    cost = formula_of("torchvision::deform_conv2d")(MadeUp())
    assert cost.macs == N * K * 8 * 10 * C * 9
    assert cost.other_flops == 8 * C * 9 * N * 8 * 10


def test_copies_of_views_are_as_free_as_the_views():
    names = {
        name.split("::")[1].split(".")[0] for name in torch._C._dispatch_get_all_op_names() if name.startswith("aten::")
    }
    copies = {name for name in names if name.endswith("_copy") and name.removesuffix("_copy") in FREE}
    assert {"select_copy", "view_copy", "unbind_copy"} <= copies
    assert copies <= FREE
