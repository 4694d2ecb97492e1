"""The table of operations: what each of them costs, for both engines.

An engine shows an operation as an :class:`~saconv_surgeon.profiling.counting.operation.Operation`; the table reads shapes and
settings from it and asks ``shape_formulas``. It is about dense tensors of real numbers; ``operand_kinds`` asks it for no others.
Element-wise work is counted by the elements of the result, so that broadcasting is included, and only if the result is floating:
arithmetic on sizes and indices is not work of the model. Names are torch's, as the operation is called: composite operations
(``linear``, ``einsum``, ``lstm``) are counted whole, and the parts that some of them are decomposed into are here for an engine
that sees nothing else. What is in none of the tables is reported as uncounted.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, prod

from saconv_surgeon.profiling.counting import shape_formulas
from saconv_surgeon.profiling.counting.free_operations import FREE
from saconv_surgeon.profiling.counting.operation import Formula, Operation
from saconv_surgeon.profiling.counting.shape_formulas import Cost
from saconv_surgeon.profiling.counting.sparse_operations import SPARSE_ONLY


def formula_of(name: str) -> Formula | None:
    """The formula for ``aten::linear`` and so on; None if none is known."""
    namespace, _, short = name.partition("::")
    return FORMULAS.get(short if namespace == "aten" else name)


def is_free(name: str) -> bool:
    """Whether an operation moves, selects, compares or makes data without computing on it."""
    namespace, _, short = name.partition("::")
    return namespace == "aten" and short in FREE


# ------------------------------------------------------------------ reading operations


def _convolution(op: Operation) -> Cost:
    """``_convolution`` and what it is decomposed into; the flag says whether it is transposed."""
    return shape_formulas.convolution(op.shape(0), op.shape(1), op.out, transposed=bool(op.value(6)))


def _plain_convolution(op: Operation) -> Cost:
    """``conv2d`` and so on, and ``padding="same"`` and ``"valid"``, which plain fvcore counts as nothing."""
    return shape_formulas.convolution(op.shape(0), op.shape(1), op.out, transposed=False)


def _transposed_convolution(op: Operation) -> Cost:
    return shape_formulas.convolution(op.shape(0), op.shape(1), op.out, transposed=True)


def _deformable_convolution(op: Operation) -> Cost:
    """A convolution of samples, each interpolated between four pixels (torchvision: input, weight, offset, mask …)."""
    cost = shape_formulas.convolution(op.shape(0), op.shape(1), op.out, transposed=False)
    samples = prod(op.shape(1)[1:]) * prod(op.out) // op.out[1]
    return Cost(cost.macs, cost.other_flops + 8 * samples, cost.activations)


def _product_of(operand: int) -> Formula:
    return lambda op: shape_formulas.matrix_product(op.shape(operand), op.out)


def _inner_products(op: Operation) -> Cost:
    return shape_formulas.inner_products(op.shape(0), op.shape(1), op.out)


def _batches_summed(op: Operation) -> Cost:
    return shape_formulas.batches_summed(op.shape(1), op.out)


def _outer(op: Operation) -> Cost:
    return shape_formulas.elementwise(op.out)


def _bilinear(op: Operation) -> Cost:
    return shape_formulas.bilinear(op.shape(0), op.shape(1), op.out)


def _distance(op: Operation) -> Cost:
    """``cdist``: a matrix product of the points and two operations for each distance.

    With another p than 2: differences, their absolute values and sums, and powers unless p is 0, 1 or infinite.
    """
    if op.value(2) not in (2, None):
        each = 3 if op.value(2) in (0, 1, inf) else 4
        return Cost(other_flops=each * shape_formulas.numel(op.out) * op.shape(0)[-1])
    cost = shape_formulas.matrix_product(op.shape(0), op.out)
    return Cost(cost.macs, 2 * shape_formulas.numel(op.out), cost.activations)


def _attention(op: Operation) -> Cost:
    return shape_formulas.attention(op.shape(0), op.shape(1), op.shape(2))


def _einsum(op: Operation) -> Cost:
    return shape_formulas.einsum(op.value(0), op.shapes(1), op.value(2))


def _recurrent(per_gate: int) -> Formula:
    """input, states, weights …; for packed sequences: data, batch sizes, states, weights …"""
    return lambda op: shape_formulas.recurrent(prod(op.shape(0)[:-1]), op.shapes(3) or op.shapes(2), per_gate)


def _elementwise(per_element: int = 1) -> Formula:
    """Of scalars nothing: a trace shows arithmetic on sizes as if it were on tensors without dimensions."""
    return lambda op: shape_formulas.elementwise(op.out, per_element) if op.is_floating and len(op.out) else Cost()


def _reduction(per_element: int = 1) -> Formula:
    return lambda op: shape_formulas.reduction(op.shape(0), per_element) if op.takes_floating(0) else Cost()


def _pooling(spatial: int) -> Formula:
    return lambda op: shape_formulas.pooling(op.value(1), op.out, spatial) if op.is_floating else Cost()


def _batch_norm(op: Operation) -> Cost:
    """input, weight, bias, mean, variance, training: running statistics make it one scale and one shift."""
    affine = op.has_tensor(1)
    return shape_formulas.elementwise(op.out, (5 if affine else 4) if op.value(5) else (2 if affine else 1))


def _frozen_batch_norm(op: Operation) -> Cost:
    return shape_formulas.elementwise(op.out, 2 if op.has_tensor(1) else 1)


def _norm(affine: int) -> Formula:
    """Mean, variance, subtraction, division, and one more with weights; ``affine`` is the index of the weights."""
    return lambda op: shape_formulas.elementwise(op.out, 5 if op.has_tensor(affine) else 4)


def _rms_norm(op: Operation) -> Cost:
    return shape_formulas.elementwise(op.out, 4 if op.has_tensor(2) else 3)


def _or_reduction(op: Operation) -> Cost | None:
    """``max(x)`` and ``min(x)`` reduce, ``max(x, y)`` compares element by element."""
    return (_elementwise() if op.has_tensor(1) else _reduction())(op)


def _fourier(default: Sequence[int] | None) -> Formula:
    """input, size, axes …; the real transforms go by the longer of what comes in and what comes out."""

    def count(op: Operation) -> Cost:
        longer = max(op.shape(0), op.out, key=shape_formulas.numel)
        given = op.value(2)
        axes = default if given is None else [given] if isinstance(given, int) else given
        return shape_formulas.fourier(longer, range(len(longer)) if axes is None else axes)

    return count


def _fourier_kernel(op: Operation) -> Cost:
    """input, axes …: what the transforms are decomposed into."""
    return shape_formulas.fourier(max(op.shape(0), op.out, key=shape_formulas.numel), op.value(1))


def _embedding_bag(op: Operation) -> Cost | None:
    """weight, indices, offsets, _, mode, _, weights, _, padding …: each row that is looked up is added, weighted, or compared.

    A mean divides every result. How many rows are padding, the shapes do not say.
    """
    if op.value(8) not in (None, -1):
        return None
    rows = shape_formulas.numel(op.shape(1)) * op.shape(0)[-1]
    divisions = shape_formulas.numel(op.out) if op.value(4) == 1 else 0
    return Cost(other_flops=(2 if op.has_tensor(6) else 1) * rows + divisions)


def _grid_sampler(op: Operation) -> Cost | None:
    """input, grid, mode (linear, nearest, cubic): linear between four or eight pixels, cubic between sixteen."""
    per_element = {0: 2 ** (len(op.out) - 2), 1: 0, 2: 32}.get(op.value(2))
    return None if per_element is None else shape_formulas.elementwise(op.out, per_element)


def _added_at_indices(source: int) -> Formula:
    """As many additions as the ``source`` has elements."""
    return lambda op: shape_formulas.elementwise(op.shape(source)) if op.is_floating else Cost()


def _put(op: Operation) -> Cost:
    """input, indices, values, accumulate."""
    return shape_formulas.elementwise(op.shape(2)) if op.value(3) and op.is_floating else Cost()


# ------------------------------------------------------------------ the tables

_ARITHMETIC = """
    add sub rsub subtract mul multiply div divide true_divide neg negative abs absolute pow float_power square sqrt rsqrt
    reciprocal exp expm1 exp2 log log1p log2 log10 sin cos tan atan atan2 arctan2 erf erfc erfinv special_erf sign sgn
    maximum minimum fmax fmin fmod remainder clamp clip clamp_min clamp_max round floor ceil trunc frac relu relu6
    leaky_relu prelu floor_divide _prelu_kernel rrelu elu selu celu gelu silu mish sigmoid log_sigmoid logsigmoid
    log_sigmoid_forward hardswish hardsigmoid hardtanh hardshrink softplus softsign softshrink tanh tanhshrink threshold
    logit sinh cosh asin acos arcsin arccos xlogy hypot polar angle deg2rad logaddexp special_expm1
    special_logit special_sinc
""".split()

_SEVERAL = {
    "lerp": 3,
    "addcmul": 2,
    "addcdiv": 2,
    "glu": 2,
    "cosine_similarity": 6,
    "cross": 3,
    "linalg_cross": 3,
    "softmin": 5,
    **dict.fromkeys(("softmax", "_softmax", "_safe_softmax", "log_softmax", "_log_softmax"), shape_formulas.SOFTMAX),
}

_REDUCTIONS = {
    **dict.fromkeys(
        ("mean", "sum", "prod", "amax", "amin", "aminmax", "cumsum", "cumprod", "logcumsumexp", "nansum"), 1
    ),
    **dict.fromkeys(("argmax", "argmin", "trace", "median", "nanmean", "cummax", "fold", "col2im"), 1),
    **dict.fromkeys(("norm", "linalg_vector_norm", "linalg_norm", "frobenius_norm", "logsumexp"), 2),
    **dict.fromkeys(("linalg_matrix_norm", "renorm"), 2),
    **dict.fromkeys(("var", "std", "var_mean", "std_mean"), 3),
    **{f"{kind}_pool{n}d": 1 for kind in ("adaptive_avg", "_adaptive_avg", "adaptive_max") for n in (1, 2, 3)},
}

FORMULAS: dict[str, Formula] = {
    **dict.fromkeys(("_convolution", "convolution", "convolution_overrideable"), _convolution),
    **dict.fromkeys(("_convolution_mode", "conv1d", "conv2d", "conv3d"), _plain_convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _transposed_convolution),
    "torchvision::deform_conv2d": _deformable_convolution,
    **dict.fromkeys(("linear", "mm", "mv", "bmm", "matmul", "linalg_matmul", "inner", "_int_mm"), _product_of(0)),
    **dict.fromkeys(("addmm", "addmv", "baddbmm", "_addmm_activation"), _product_of(1)),
    **dict.fromkeys(("hspmm", "_sparse_sparse_matmul"), _product_of(0)),
    **dict.fromkeys(("_sparse_addmm", "sspaddmm"), _product_of(1)),
    **SPARSE_ONLY,
    **{f"{name}_": _product_of(1) for name in ("addmm", "addmv", "baddbmm")},
    **dict.fromkeys(("addbmm", "addbmm_"), _batches_summed),
    **dict.fromkeys(("dot", "vdot", "linalg_vecdot"), _inner_products),
    **dict.fromkeys(("outer", "ger"), _outer),
    "bilinear": _bilinear,
    **dict.fromkeys(("cdist", "_cdist_forward", "_euclidean_dist"), _distance),
    "einsum": _einsum,
    "scaled_dot_product_attention": _attention,
    **{
        f"_scaled_dot_product_{kind}": _attention
        for kind in ("flash_attention_for_cpu", "flash_attention", "efficient_attention", "cudnn_attention")
    },
    "lstm": _recurrent(4),
    "gru": _recurrent(4),
    "rnn_tanh": _recurrent(2),
    "rnn_relu": _recurrent(2),
    **{name: _elementwise() for base in _ARITHMETIC for name in (base, f"{base}_")},
    **{name: _elementwise(n) for base, n in _SEVERAL.items() for name in (base, f"{base}_")},
    **{name: _reduction(n) for name, n in _REDUCTIONS.items()},
    "_weight_norm": _reduction(4),  # square, sum, divide, multiply
    "max": _or_reduction,
    "min": _or_reduction,
    **{f"{kind}_pool{n}d": _pooling(n) for kind in ("avg", "max", "lp") for n in (1, 2, 3)},
    **{f"max_pool{n}d_with_indices": _pooling(n) for n in (1, 2, 3)},
    **dict.fromkeys(("batch_norm", "native_batch_norm", "_native_batch_norm_legit"), _batch_norm),
    **dict.fromkeys(("cudnn_batch_norm", "miopen_batch_norm"), _batch_norm),
    "_native_batch_norm_legit_no_training": _frozen_batch_norm,
    "instance_norm": _norm(1),
    "native_group_norm": _norm(1),
    "group_norm": _norm(2),
    "layer_norm": _norm(2),
    "native_layer_norm": _norm(2),
    "rms_norm": _rms_norm,
    "local_response_norm": _elementwise(4),
    **dict.fromkeys(("grid_sampler", "grid_sampler_2d", "grid_sampler_3d"), _grid_sampler),
    **dict.fromkeys(("scatter_add", "scatter_add_", "index_add", "index_add_"), _added_at_indices(3)),
    **dict.fromkeys(("index_put", "index_put_", "_index_put_impl_"), _put),
    "upsample_linear1d": _elementwise(2),
    "upsample_bilinear2d": _elementwise(4),
    "_upsample_bilinear2d_aa": _elementwise(4),
    "upsample_bicubic2d": _elementwise(32),
    "_upsample_bicubic2d_aa": _elementwise(32),
    "upsample_trilinear3d": _elementwise(8),
    **{
        f"fft_{inverse}{real}fft{n}": _fourier(axes)
        for inverse in ("", "i")
        for real in ("", "r")
        for n, axes in (("", (-1,)), ("2", (-2, -1)), ("n", None))
    },
    **dict.fromkeys(("_fft_c2c", "_fft_r2c", "_fft_c2r"), _fourier_kernel),
    **dict.fromkeys(("embedding_bag", "_embedding_bag", "_embedding_bag_forward_only"), _embedding_bag),
}
