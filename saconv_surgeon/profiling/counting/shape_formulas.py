"""What an operation costs, as pure functions of shapes.

One multiply–accumulate is 1 MAC and 2 FLOPs. A convolution's or a linear layer's bias is not counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Shape = Sequence[int]


@dataclass(frozen=True)
class Cost:
    """MACs, other floating-point operations, and elements produced by a convolution, linear layer or matrix product."""

    macs: int = 0
    other_flops: int = 0
    activations: int = 0

    @property
    def flops(self) -> int:
        """2·MACs and the other operations."""
        return 2 * self.macs + self.other_flops


def numel(shape: Shape) -> int:
    """Elements of a tensor."""
    return math.prod(shape)


def convolution(x: Shape, weight: Shape, out: Shape, *, transposed: bool) -> Cost:
    """A convolution: weight is (C_out, C_in/g, *k), transposed (C_in, C_out/g, *k). Dilation costs nothing."""
    sources = x if transposed else out
    return Cost(macs=numel(sources) * math.prod(weight[1:]), activations=numel(out))


def batches_summed(left: Shape, out: Shape) -> Cost:
    """(b, n, k) times (b, k, m), summed over b: ``addbmm``."""
    return Cost(macs=numel(left[:1]) * numel(out) * left[-1], activations=numel(out))


def inner_products(left: Shape, right: Shape, out: Shape) -> Cost:
    """Sums of the element-wise products of two broadcast operands."""
    return Cost(macs=numel(_broadcast(left, right)), activations=numel(out))


def matrix_product(left: Shape, out: Shape) -> Cost:
    """(…, n, k) times (…, k, m), also vectors: every output is a sum over the last axis of ``left``."""
    return Cost(macs=numel(out) * left[-1], activations=numel(out))


def attention(query: Shape, key: Shape, value: Shape) -> Cost:
    """Scaled dot-product attention: (…, L, E), (…, S, E), (…, S, E_v). Two matrix products and a softmax.

    The leading sizes are broadcast; if queries have more heads than keys, each key serves several.
    """
    rows = numel(_broadcast(query[:-2], key[:-2], value[:-2])) * query[-2]
    scores, out = rows * key[-2], rows * value[-1]
    return Cost(scores * query[-1] + out * key[-2], other_flops=SOFTMAX * scores, activations=scores + out)


def einsum(equation: str, shapes: Sequence[Shape], path: Sequence[int] | None = None) -> Cost:
    """As torch executes it: operands joined pair by pair, each by one batched product.

    Without a ``path`` from left to right; a path names the places of each pair, which is taken out and joined to the end.
    An index of one operand alone that is not wanted any more is summed first; a pair without a common index to sum over
    is multiplied element by element. An index of size 1 is broadcast.
    """
    terms, result = _parse_einsum(equation, shapes)
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for index, size in zip(term, shape, strict=True):
            sizes[index] = size if sizes.get(index, 1) == 1 else sizes[index]
    terms = [_without_ones(term, shape, sizes) for term, shape in zip(terms, shapes, strict=True)]
    if len(terms) == 1:
        summed = set(terms[0]) - set(result)
        return Cost(other_flops=math.prod(sizes[index] for index in set(terms[0]))) if summed else Cost()
    pairs = list(zip(path[::2], path[1::2], strict=True)) if path else [(0, 1)] * (len(terms) - 1)
    total = Cost()
    for pair in pairs:
        left, right = (terms[place] for place in sorted(pair))
        terms = [term for place, term in enumerate(terms) if place not in pair]
        wanted = set(result).union(*terms)
        summed = {index for index in left if index in right and index not in wanted}
        kept = {index for index in (*left, *right) if index in wanted}
        out = math.prod(sizes[index] for index in kept)
        depth = math.prod(sizes[index] for index in summed)
        step = Cost(macs=out * depth, activations=out) if summed else Cost(other_flops=out)
        total = Cost(total.macs + step.macs, total.other_flops + step.other_flops, total.activations + step.activations)
        joined = "".join(sorted(kept))
        terms = [*terms, joined] if path else [joined, *terms]
    return total


def bilinear(x1: Shape, x2: Shape, out: Shape) -> Cost:
    """y_k = Σ x1_i·W_kij·x2_j, each once for every row: the outer products of the inputs, then one matrix product."""
    products = numel(x1) * x2[-1]
    return Cost(products * out[-1], other_flops=products, activations=numel(out))


def recurrent(steps: int, weights: Sequence[Shape], per_gate: int) -> Cost:
    """An LSTM, GRU or RNN: every weight matrix is multiplied once for each of ``steps`` (time × batch).

    Biases are not counted. Of element-wise work, ``per_gate`` operations for each gate of each hidden unit: the sum of its two
    products, its non-linearity, its share of the new state.
    """
    matrices = [weight for weight in weights if len(weight) == 2]
    rows = sum(weight[0] for weight in matrices)  # each gate has a row for the input and one for the state
    macs = steps * sum(numel(weight) for weight in matrices)
    return Cost(macs, other_flops=steps * per_gate * (rows // 2), activations=steps * rows)


def fourier(x: Shape, axes: Sequence[int]) -> Cost:
    """5·n·log2(n) real operations for each transform of n elements, the textbook figure of the radix-2 algorithm."""
    length = math.prod(x[axis] for axis in axes)
    return Cost(other_flops=round(5 * numel(x) * math.log2(length)) if length > 1 else 0)


def elementwise(out: Shape, per_element: int = 1) -> Cost:
    """So many operations for every element of the (broadcast) result."""
    return Cost(other_flops=per_element * numel(out))


def reduction(x: Shape, per_element: int = 1) -> Cost:
    """So many operations for every element that goes in."""
    return Cost(other_flops=per_element * numel(x))


def pooling(kernel: Sequence[int], out: Shape, spatial: int) -> Cost:
    """A window moved over the map; a kernel of one number is meant for all ``spatial`` axes."""
    sizes = list(kernel) * (spatial if len(kernel) == 1 else 1)
    return Cost(other_flops=math.prod(sizes) * numel(out))


SOFTMAX = 5
"""Maximum, subtraction, exponential, sum, division."""


def _broadcast(*shapes: Shape) -> list[int]:
    """The sizes of the result, aligned at the last axis; empty if one of them is 0."""
    longest = max(map(len, shapes))
    padded = [[1] * (longest - len(shape)) + list(shape) for shape in shapes]
    return [0 if 0 in sizes else max(sizes) for sizes in zip(*padded, strict=True)]


def _without_ones(term: str, shape: Shape, sizes: dict[str, int]) -> str:
    """The indices of an operand that are not broadcast."""
    return "".join(index for index, size in zip(term, shape, strict=True) if size == sizes[index])


def _parse_einsum(equation: str, shapes: Sequence[Shape]) -> tuple[list[str], str]:
    """The indices of each operand and of the result, an ellipsis spelled out in capitals that the equation does not use."""
    left, arrow, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    spare = [chr(code) for code in range(0x100, 0x140)]
    filled = []
    for term, shape in zip(terms, shapes, strict=True):
        hidden = len(shape) - len(term.replace("...", ""))
        filled.append(term.replace("...", "".join(spare[len(spare) - hidden :])) if "..." in term else term)
    longest = max(
        (len(s) - len(t.replace("...", "")) for t, s in zip(terms, shapes, strict=True) if "..." in t), default=0
    )
    dots = "".join(spare[len(spare) - longest :]) if longest else ""
    if not arrow:
        once = sorted(index for index in set("".join(terms)) - {"."} if "".join(terms).count(index) == 1)
        return filled, dots + "".join(once)
    return filled, result.replace("...", dots)
