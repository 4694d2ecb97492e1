"""The table of operations: what each costs, read from the nodes of fvcore's trace.

Element-wise work is counted by the elements of the result, so that broadcasting is seen, and only where that is floating:
arithmetic on sizes and indices is no work of the model. What a trace shows of an operation that is in none of the tables is
reported as uncounted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from fvcore.nn.flop_count import _DEFAULT_SUPPORTED_OPS
from fvcore.nn.jit_handles import get_shape

from saconv_surgeon.profiling import formulas
from saconv_surgeon.profiling.formulas import Cost

Values = list[Any]
Formula = Callable[[Values, Values], Cost]
Handler = Callable[[Values, Values], Counter[str]]
FLOATING = ("Float", "Double", "Half", "BFloat16", "ComplexFloat", "ComplexDouble")


def handlers() -> dict[str, Handler | None]:
    """For ``FlopCountAnalysis.set_op_handle``: operation → handler; None for operations that compute nothing.

    A handler gives ``macs``, ``flops``, ``activations``, and ``fvcore``: what plain fvcore would have counted.
    """
    table: dict[str, Handler | None] = {f"aten::{name}": _handler(f"aten::{name}", f) for name, f in FORMULAS.items()}
    return table | {f"aten::{name}": None for name in FREE}


def _handler(op: str, formula: Formula) -> Handler:
    plain = _DEFAULT_SUPPORTED_OPS.get(op)

    def count(inputs: Values, outputs: Values) -> Counter[str]:
        cost = formula(inputs, outputs)
        return Counter(
            macs=cost.macs,
            flops=cost.flops,
            activations=cost.activations,
            fvcore=0 if plain is None else _total(plain(inputs, outputs)),
        )

    return count


def _total(counted: Any) -> int:
    return int(sum(counted.values()) if isinstance(counted, Counter) else counted)


# ------------------------------------------------------------------ reading nodes


def _shape(value: Any) -> list[int]:
    return get_shape(value) or []


def _items(value: Any) -> list[Any]:
    """The elements of a list in the trace, whose own value the trace does not keep."""
    return list(value.node().inputs())


def _floating(value: Any) -> bool:
    kind = value.type()
    return kind.kind() == "TensorType" and kind.scalarType() in FLOATING


def _convolution(inputs: Values, outputs: Values) -> Cost:
    transposed = bool(inputs[6].toIValue())
    return formulas.convolution(_shape(inputs[0]), _shape(inputs[1]), _shape(outputs[0]), transposed=transposed)


def _convolution_mode(inputs: Values, outputs: Values) -> Cost:
    """``padding="same"`` and ``"valid"``, which plain fvcore counts as nothing."""
    return formulas.convolution(_shape(inputs[0]), _shape(inputs[1]), _shape(outputs[0]), transposed=False)


def _product_of(operand: int) -> Formula:
    return lambda inputs, outputs: formulas.matrix_product(_shape(inputs[operand]), _shape(outputs[0]))


def _dot(inputs: Values, outputs: Values) -> Cost:
    return Cost(macs=formulas.numel(_shape(inputs[0])), activations=1)


def _attention(inputs: Values, outputs: Values) -> Cost:
    query, key, value = (_shape(v) for v in inputs[:3])
    return formulas.attention(query, key, value)


def _einsum(inputs: Values, outputs: Values) -> Cost:
    return formulas.einsum(inputs[0].toIValue(), [_shape(v) for v in _items(inputs[1])])


def _elementwise(per_element: int = 1) -> Formula:
    def count(inputs: Values, outputs: Values) -> Cost:
        return formulas.elementwise(_shape(outputs[0]), per_element) if _floating(outputs[0]) else Cost()

    return count


def _reduction(per_element: int = 1) -> Formula:
    def count(inputs: Values, outputs: Values) -> Cost:
        return formulas.reduction(_shape(inputs[0]), per_element) if _floating(inputs[0]) else Cost()

    return count


def _pooling(spatial: int) -> Formula:
    def count(inputs: Values, outputs: Values) -> Cost:
        kernel = [item.toIValue() for item in _items(inputs[1])]
        return formulas.pooling(kernel, _shape(outputs[0]), spatial)

    return count


def _as_fvcore(op: str) -> Formula:
    """Norms and resampling, for which fvcore has counts per element."""
    plain = _DEFAULT_SUPPORTED_OPS[op]
    return lambda inputs, outputs: Cost(other_flops=_total(plain(inputs, outputs)))


def _or_reduction(inputs: Values, outputs: Values) -> Cost:
    """``max(x)`` and ``min(x)`` reduce, ``max(x, y)`` compares element by element."""
    two = len(inputs) > 1 and inputs[1].type().kind() == "TensorType"
    return (_elementwise() if two else _reduction())(inputs, outputs)


# ------------------------------------------------------------------ the tables

_ARITHMETIC = """
    add sub rsub mul div true_divide neg abs pow square sqrt rsqrt reciprocal exp expm1 exp2 log log1p log2 sin cos
    tan atan atan2 erf sign maximum minimum fmod remainder clamp clamp_min clamp_max round floor ceil frac relu relu6
    leaky_relu prelu rrelu elu selu celu gelu silu mish sigmoid log_sigmoid hardswish hardsigmoid hardtanh hardshrink
    softplus softsign softshrink tanh tanhshrink threshold logit sinh cosh asin acos xlogy hypot
""".split()

_SEVERAL = {
    "lerp": 3,
    "addcmul": 2,
    "addcdiv": 2,
    "glu": 2,
    "softmax": 5,
    "_softmax": 5,
    "log_softmax": 5,
    "_log_softmax": 5,
}

_REDUCTIONS = {
    **dict.fromkeys(("mean", "sum", "prod", "amax", "amin", "cumsum", "logcumsumexp", "nansum", "argmax", "argmin"), 1),
    **dict.fromkeys(("norm", "linalg_vector_norm", "frobenius_norm", "logsumexp"), 2),
    **dict.fromkeys(("var", "std", "var_mean", "std_mean"), 3),
    **dict.fromkeys(("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"), 1),
    **dict.fromkeys(("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"), 1),
}

FORMULAS: dict[str, Formula] = {
    "_convolution": _convolution,
    "_convolution_mode": _convolution_mode,
    "linear": _product_of(0),
    "addmm": _product_of(1),
    "addmv": _product_of(1),
    "mm": _product_of(0),
    "mv": _product_of(0),
    "dot": _dot,
    "vdot": _dot,
    "_weight_norm": _reduction(4),  # square, sum, divide, multiply
    "bmm": _product_of(0),
    "matmul": _product_of(0),
    "baddbmm": _product_of(1),
    "addbmm": _product_of(1),
    "einsum": _einsum,
    "scaled_dot_product_attention": _attention,
    **{name: _elementwise() for base in _ARITHMETIC for name in (base, f"{base}_")},
    **{name: _elementwise(n) for base, n in _SEVERAL.items() for name in (base, f"{base}_")},
    **{name: _reduction(n) for name, n in _REDUCTIONS.items()},
    "max": _or_reduction,
    "min": _or_reduction,
    **{f"{kind}_pool{n}d": _pooling(n) for kind in ("avg", "max") for n in (1, 2, 3)},
    **{f"max_pool{n}d_with_indices": _pooling(n) for n in (1, 2, 3)},
    **{name: _as_fvcore(f"aten::{name}") for name in ("batch_norm", "group_norm", "layer_norm", "instance_norm")},
    "grid_sampler": _as_fvcore("aten::grid_sampler"),
    "upsample_linear1d": _elementwise(2),
    "upsample_bilinear2d": _as_fvcore("aten::upsample_bilinear2d"),
    "upsample_bicubic2d": _elementwise(32),
    "upsample_trilinear3d": _elementwise(8),
}

FREE = frozenset(
    """
    view reshape _unsafe_view view_as flatten unflatten permute transpose t numpy_T mT squeeze unsqueeze expand
    expand_as broadcast_to movedim swapaxes swapdims select slice narrow split split_with_sizes chunk unbind
    tensor_split unfold_copy index index_select gather scatter scatter_ take take_along_dim cat concat stack hstack
    vstack dstack roll flip rot90 repeat repeat_interleave tile pad constant_pad_nd reflection_pad1d reflection_pad2d
    replication_pad1d replication_pad2d reflection_pad3d replication_pad3d pixel_shuffle pixel_unshuffle
    channel_shuffle unfold im2col col2im fold upsample_nearest1d upsample_nearest2d upsample_nearest3d clone
    contiguous copy_ to type_as detach alias dropout dropout_ feature_dropout identity zeros ones full zeros_like
    ones_like full_like empty empty_like new_zeros new_ones new_full new_empty arange linspace eye scalar_tensor
    tensor lift_fresh size numel dim Int Float Bool ScalarImplicit FloatImplicit IntImplicit item fill_ zero_
    masked_fill masked_fill_ masked_select where index_put index_put_ eq ne lt le gt ge __and__ __or__ __xor__
    logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_not isnan isinf isfinite any all
    nonzero nonzero_numpy meshgrid tril triu floor_divide floordiv rand randn rand_like randn_like randint bernoulli
    bernoulli_ normal_ uniform_ set_ resize_ resolve_conj resolve_neg real imag view_as_real view_as_complex ones_ cpu
    cuda float half double
    """.split()
)
