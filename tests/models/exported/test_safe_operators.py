"""Which operators a program may call without being trusted: nothing that takes its arguments for granted."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from saconv_surgeon.models.exported.safe_operators import is_safe_operator

REFUSED = [
    # told by which strides a tensor lies in memory
    *(
        "_reshape_alias",
        "_reshape_alias_copy",
        "as_strided_",
        "as_strided_scatter",
        "as_strided_copy",
        "new_empty_strided",
    ),
    # what memory a tensor has
    *("set_", "set_.source_Tensor", "set_.source_Storage_storage_offset", "set_.source_Tensor_storage_offset"),
    *("resize_", "resize_as_", "resize", "_resize_output", "set_data", "swap_tensors"),
    # indices as they are
    *(
        "_index_put_impl_",
        "_index_put_impl",
        "_unsafe_index_put",
        "_unsafe_masked_index",
        "_unsafe_masked_index_put_accumulate",
    ),
    *(
        "max_pool2d_with_indices_backward",
        "adaptive_max_pool2d_backward",
        "embedding_dense_backward",
        "embedding_renorm_",
    ),
    *("ctc_loss.IntList", "_ctc_loss", "segment_reduce", "_pack_padded_sequence", "_pad_packed_sequence"),
    *("fractional_max_pool2d", "_sobol_engine_draw", "_embedding_bag_backward"),
    # other representations
    *("_nested_view_from_buffer", "_sparse_coo_tensor_unsafe", "sparse_coo_tensor.indices_size", "_to_sparse"),
    *("sparse_csr_tensor.crow_col_value_size", "_sparse_csr_tensor_unsafe", "to_mkldnn", "_mkldnn_reshape"),
    *("_make_per_tensor_quantized_tensor", "quantize_per_channel", "_weight_int4pack_mm", "_thnn_fused_lstm_cell"),
    *("batch_norm_update_stats", "mkldnn_rnn_layer", "slow_conv3d", "_transformer_encoder_layer_fwd"),
    # files
    *("from_file", "from_file.out", "save"),
    # results that are written to whatever is given
    *("add.out", "atan2.out", "as_strided_copy.out"),
    "no_such_operator",
    "__class__",
]
NEEDED = [
    *(
        "add.Tensor",
        "add_.Tensor",
        "relu_",
        "conv2d",
        "conv2d.padding",
        "convolution",
        "batch_norm",
        "linear",
        "matmul",
    ),
    *("copy_", "fill_.Scalar", "masked_fill_.Scalar", "index_put_", "zero_", "squeeze_.dim", "unsqueeze_", "t_"),
    *("_unsafe_view", "_to_copy", "_softmax", "_native_batch_norm_legit_no_training", "_assert_tensor_metadata"),
    *("scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu", "layer_norm", "group_norm"),
    *(
        "as_strided",
        "empty_strided",
        "upsample_bilinear2d.vec",
        "_upsample_bicubic2d_aa.vec",
        "grid_sampler",
        "embedding",
    ),
    *(
        "sym_size.int",
        "slice.Tensor",
        "scatter_.src",
        "nonzero",
        "fft_rfft2",
        "_fft_r2c",
        "einsum",
        "lstm.input",
        "max.dim",
    ),
]


def named(name):
    return f"torch.ops.aten.{name}" + ("" if "." in name else ".default")


@pytest.mark.parametrize("name", REFUSED)
def test_operators_that_look_at_nothing(name):
    assert not is_safe_operator(named(name))


@pytest.mark.parametrize("name", NEEDED)
def test_operators_that_models_are_made_of(name):
    assert is_safe_operator(named(name))


@pytest.mark.parametrize(
    "target",
    [
        *(
            "torch.ops.quantized.linear.default",
            "torch.ops.quantized.embedding_byte.default",
            "torch.ops.prims.as_strided.default",
        ),
        *(
            "torch.ops.prims.copy_to.default",
            "torch.ops.prims.resize.default",
            "torch.ops.torchvision.roi_align.default",
        ),
        *("torch.ops.higher_order.while_loop", "torch.ops.higher_order.scan", "torch.ops.higher_order.map_impl"),
        *("torch.ops.higher_order.call_torchbind", "torch.ops.higher_order.triton_kernel_wrapper_mutation"),
        *("torch.ops.inductor.resize_storage_bytes_.default", "torch.ops.profiler._record_function_enter.default"),
        *("torch.ops.load_library", "torch.ops.aten", "torch.ops.mkldnn._linear_pointwise.default", "os.system"),
    ],
)
def test_other_namespaces(target):
    assert not is_safe_operator(target)


@pytest.mark.parametrize("name", ["cond", "wrap_with_autocast", "wrap_with_set_grad_enabled"])
def test_parts_of_programs(name):
    assert is_safe_operator(f"torch.ops.higher_order.{name}")


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.attention, self.group = nn.MultiheadAttention(8, 2, batch_first=True), nn.GroupNorm(2, 8)
        self.up = nn.ConvTranspose2d(8, 8, 2, 2)

    def forward(self, x):
        x = F.hardswish(self.norm(self.conv(x)), inplace=True)
        tokens = x.flatten(2).transpose(1, 2)
        x = x + self.attention(tokens, tokens, tokens)[0].transpose(1, 2).reshape(x.shape)
        x = F.interpolate(self.up(self.group(x)), scale_factor=0.5, mode="bicubic", antialias=True)
        y = torch.fft.irfft2(torch.fft.rfft2(x), s=x.shape[-2:])
        y[:, 0] = torch.where(y[:, 0] > 0, y[:, 0], y[:, 1].cumsum(-1))
        return F.grid_sample(y, torch.zeros(1, 4, 4, 2), align_corners=False), torch.roll(x, 1, 2).topk(2, -1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("level", ["as exported", "functional", "decomposed"])
def test_all_that_a_model_is_exported_as(level):
    program = torch.export.export(Block().eval(), (torch.ones(1, 3, 8, 8),))
    if level != "as exported":
        program = program.run_decompositions({} if level == "functional" else None)
    called = {node.target for node in program.graph.nodes if isinstance(node.target, torch._ops.OpOverload)}
    assert len(called) > 15
    assert [str(op) for op in called if not is_safe_operator(f"torch.ops.{op}")] == []
