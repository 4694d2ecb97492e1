"""Which operators a program that nobody vouches for may call: those that compute, and look at their arguments before they do.

An operator is judged by what torch says about it: its schema, its tags, and whether users can call it under its own name. What
torch calls with arguments that it has checked itself (private operators, those of backward passes and of single backends) may
read and write beyond its tensors when a file calls it.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import torch
from torch.nn import functional

PRIVATE = frozenset(
    # what exporting and decomposing make of public operators; each checks what it is given, or guarded_run does
    "_adaptive_avg_pool2d _adaptive_avg_pool3d _assert_async _assert_scalar _assert_tensor_metadata _cdist_forward "
    "_conj _conj_physical _convolution _embedding_bag _euclidean_dist _fft_c2c _fft_c2r _fft_r2c _functional_assert_async "
    "_functional_assert_scalar _functional_sym_constrain_range _functional_sym_constrain_range_for_size "
    "_linalg_det _linalg_eigh _linalg_slogdet _linalg_svd _local_scalar_dense _log_softmax _native_batch_norm_legit "
    "_native_batch_norm_legit_functional _native_batch_norm_legit_no_training _neg_view _pdist_forward _prelu_kernel "
    "_safe_softmax _scaled_dot_product_attention_math _scaled_dot_product_flash_attention_for_cpu _shape_as_tensor _softmax "
    "_stack _to_copy _to_cpu _trilinear _unsafe_index _unsafe_view _upsample_bicubic2d_aa _upsample_bilinear2d_aa "
    "_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d _weight_norm _weight_norm_interface "
    "__and__ __or__ __xor__ __lshift__ __rshift__ __iand__ __ior__ __ixor__ __ilshift__ __irshift__".split()
)
UNCHECKED = re.compile(
    # values, found to be used as indices or sizes as they are
    r"ctc_loss|segment_reduce|resize(_as)?|slow_conv\w*|thnn_conv2d|conv_depthwise3d|fractional_max_pool[23]d|sparse\w*|\w*_sparse\w*|hspmm|s?smm|sspaddmm|coalesce|to_dense|lstm_mps|data"
    # of one backend or one representation
    r"|(cudnn|miopen|mkldnn|fbgemm|quantized|mps|xla|q)_\w+|\w*mkldnn\w*|batch_norm_(backward|elemt|gather|stats|update)\w*"
    r"|choose_qparams\w*|quantize_per_\w+|dequantize|int_repr|qscheme|\w*nested\w*|to_padded_tensor|(un)?flatten_dense_tensors"
    r"|(crow|ccol|col|row)_indices(_copy)?|indices(_copy)?|values(_copy)?|\w*backward\w*|from_file|save|pin_memory|record_stream"
)
"""Public names of ``aten`` that are refused all the same."""
NAMESPACES = frozenset({"aten", "prims", "prim", "quantized_decomposed", "torchvision", "higher_order"})
HIGHER_ORDER = frozenset(
    "cond wrap_with_set_grad_enabled wrap_with_autocast hints_wrapper wrap strict_mode out_dtype flex_attention "
    "invoke_subgraph tag_activation_checkpoint".split()
)
"""What runs parts of the program; no loops, since nothing bounds how often they go round."""
TORCHVISION = frozenset({"nms", "deform_conv2d"})
"""The others read the image whose number a box gives, whatever that number is."""
UNSAFE_ARGUMENTS = frozenset({"unsafe", "check_invariants", "filename", "shared", "rois"})
UNSAFE_TYPES = ("Storage", "Stream", "__torch__")
PLACES = (torch, torch.Tensor, functional, torch.special, torch.linalg, torch.fft, torch._C._nn)
TARGET = re.compile(r"torch\.ops\.(\w+)\.(\w+)(?:\.(\w+))?")


@cache
def is_safe_operator(target: str) -> bool:
    """Whether ``target``, as in ``torch.ops.aten.add.Tensor``, is an operator that a program may call."""
    found = TARGET.fullmatch(target)
    if found is None or found[1] not in NAMESPACES:
        return False
    namespace, name, overload = found.groups()
    if namespace == "higher_order":
        return name in HIGHER_ORDER and overload is None
    if namespace == "torchvision":
        return name in TORCHVISION
    if namespace == "prim":
        return name in ("device", "dtype", "layout")
    if namespace == "quantized_decomposed":  # written in Python, of public operators
        return not name.startswith("_")
    operator = _operator(namespace, name, overload or "default")
    return operator is not None and _is_safe(operator, namespace, name, overload or "default")


def _operator(namespace: str, name: str, overload: str) -> Any:
    """The overload, None if this torch has none of that name."""
    if not torch._C._dispatch_has_kernel(f"{namespace}::{name}{'' if overload == 'default' else f'.{overload}'}"):
        return None
    try:
        return getattr(getattr(getattr(torch.ops, namespace), name), overload)
    except (AttributeError, RuntimeError):
        return None


def _is_safe(operator: Any, namespace: str, name: str, overload: str) -> bool:
    schema, tags = operator._schema, operator.tags
    if any(a.name in UNSAFE_ARGUMENTS or any(t in str(a.type) for t in UNSAFE_TYPES) for a in schema.arguments):
        return False
    if namespace != "aten":
        return not schema.is_mutable and "backward" not in name and not _lays_out_storage(schema)
    if UNCHECKED.fullmatch(name):
        return False
    if _lays_out_storage(schema):
        return (
            torch.Tag.core in tags and not schema.is_mutable
        )  # as_strided and its like, which torch bounds by the storage
    if name.startswith("__i") and name.endswith("__"):
        return name in PRIVATE
    if schema.is_mutable:
        return _is_safe_in_place(schema, tags, name, overload)
    if name.startswith("_"):
        return name in PRIVATE or (torch.Tag.core in tags and _is_public(name.strip("_")))
    return torch.Tag.core in tags or _is_public(name)


def _lays_out_storage(schema: Any) -> bool:
    """Whether an operator is told by which strides a tensor lies in memory."""
    names = {argument.name for argument in schema.arguments}
    makes_tensors = any("Tensor" in str(result.type) for result in schema.returns)
    return makes_tensors and bool(names & {"size", "sizes"}) and bool(names & {"stride", "strides", "storage_offset"})


def _is_safe_in_place(schema: Any, tags: Any, name: str, overload: str) -> bool:
    """Whether it changes values only, as a safe operator computes them that changes nothing; not what memory a tensor has."""
    written = [a for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    if any(argument.is_out for argument in written):
        return False  # grows to what is written to it
    if name in PRIVATE:
        return True
    if not name.endswith("_") or len(written) != 1:
        return False
    twin = _operator("aten", name[:-1], overload)
    if twin is None or not is_safe_operator(f"torch.ops.aten.{name[:-1]}.{overload}"):
        return False
    is_view = any(r.alias_info is not None for r in twin._schema.returns)
    return is_view or torch.Tag.inplace_view not in tags


def _is_public(name: str) -> bool:
    """Whether users call it by this name, or by that of its form in place."""
    for prefix in ("special_", "linalg_", "fft_"):
        if name.startswith(prefix):
            return hasattr(getattr(torch, prefix[:-1]), name.removeprefix(prefix))
    hidden = {
        "zero",
        "copy",
        "uniform",
        "normal",
        "exponential",
        "lift_fresh",
        "lift_fresh_copy",
        "slice",
        "numpy_T",
        "alias",
    }
    return name in hidden or any(hasattr(place, name) for place in PLACES) or name.startswith("sym_")
