"""SAConv in float64, written from the equations and sharing no code with the package.

Every step is spelled out: each tap of a kernel is one shifted read of the map, positions outside the map are resolved by the
padding mode, the switch averages all C channels before it projects them. Slow on purpose.
"""

import math

import torch

RATE = 3


def saconv(layer, x):
    """What ``layer`` should give for ``x`` (N, C, H, W), in float64, from its state dict and its constructor arguments.

    Parts that are not in the state dict are left out.
    """
    state = {name: value.detach().double() for name, value in layer.state_dict().items()}
    x = x.detach().double()
    if "pre_context.weight" in state:
        x = x + context(x, state["pre_context.weight"], state["pre_context.bias"])
    weight = standardised(state["weight"], state["weight_gamma"], state["weight_beta"])
    bias = state.get("bias")
    y, left_top = convolve(layer, x, weight, bias, 1)
    if "switch.weight" in state:
        y = blend(layer, x, y, weight + state["weight_diff"], state, left_top)
    return (
        y + context(y, state["post_context.weight"], state["post_context.bias"])
        if "post_context.weight" in state
        else y
    )


def blend(layer, x, narrow, wide_weight, state, left_top):
    """S·narrow + (1 - S)·wide."""
    wide, _ = convolve(layer, x, wide_weight, state.get("bias"), RATE)
    switch = switch_at(layer, x, state["switch.weight"], state["switch.bias"], narrow.shape[-2:], left_top)
    return switch * narrow + (1 - switch) * wide


def context(x, weight, bias):
    """A·GAP(x) + a, as (N, C, 1, 1)."""
    pooled = x.sum((2, 3)) / (x.shape[2] * x.shape[3])
    return (pooled @ weight[:, :, 0, 0].T + bias)[:, :, None, None]


def standardised(v, gamma, beta):
    """γ (v - mean) / sqrt(var + 1e-5) + β, filter by filter, var unbiased (0 for a single element)."""
    filters = []
    for f in v:
        mean = f.sum() / f.numel()
        var = ((f - mean) ** 2).sum() / max(f.numel() - 1, 1)
        filters.append((f - mean) / math.sqrt(float(var) + 1e-5))
    return gamma * torch.stack(filters) + beta


def pair(value):
    return value if isinstance(value, (tuple, list)) else (value, value)


def padding_per_axis(layer):
    """((top, bottom), (left, right)) of the narrow branch."""
    if layer.padding == "valid":
        return (0, 0), (0, 0)
    spans = [d * (k - 1) for d, k in zip(pair(layer.dilation), layer.kernel_size)]
    if layer.padding == "same":
        return tuple((s // 2, s - s // 2) for s in spans)
    return tuple((p, p) for p in pair(layer.padding))


def source_index(i, size, mode):
    """Which position of an axis a padded position stands for; None is a zero."""
    if 0 <= i < size:
        return i
    if mode == "zeros":
        return None
    if mode == "replicate":
        return min(max(i, 0), size - 1)
    if mode == "circular":
        return i % size
    assert mode == "reflect"
    return -i if i < 0 else 2 * (size - 1) - i


def read(x, rows, columns, mode):
    """x at every (row, column), positions outside resolved by the padding mode: (N, C, len(rows), len(columns))."""
    height, width = x.shape[-2:]
    out = x
    for axis, positions, size in ((2, rows, height), (3, columns, width)):
        taken = [source_index(i, size, mode) for i in positions]
        index = torch.tensor([0 if i is None else i for i in taken], dtype=torch.long)
        shape = [1, 1, 1, 1]
        shape[axis] = len(taken)
        inside = torch.tensor([i is not None for i in taken]).reshape(shape)
        out = torch.where(inside, out.index_select(axis, index), torch.zeros((), dtype=out.dtype))
    return out


def convolve(layer, x, weight, bias, rate):
    """The convolution with ``rate`` times the dilation, centred where the narrow one is."""
    pads = padding_per_axis(layer)
    dilation, stride, (kh, kw) = pair(layer.dilation), pair(layer.stride), layer.kernel_size
    sizes, starts = [], []
    for axis in (0, 1):
        span = dilation[axis] * (layer.kernel_size[axis] - 1)
        sizes.append((x.shape[2 + axis] + sum(pads[axis]) - span - 1) // stride[axis] + 1)
        centre = span / 2 - pads[axis][0]  # of the first output
        start = centre - rate * span / 2
        assert start == int(start)
        starts.append(int(start))
    out = torch.zeros(x.shape[0], layer.out_channels, *sizes, dtype=torch.float64)
    per_group_in, per_group_out = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    for i in range(kh):
        for j in range(kw):
            rows = [starts[0] + o * stride[0] + rate * dilation[0] * i for o in range(sizes[0])]
            columns = [starts[1] + o * stride[1] + rate * dilation[1] * j for o in range(sizes[1])]
            taps = read(x, rows, columns, layer.padding_mode)
            for g in range(layer.groups):
                src = slice(g * per_group_in, (g + 1) * per_group_in)
                dst = slice(g * per_group_out, (g + 1) * per_group_out)
                out[:, dst] += torch.einsum("nchw,oc->nohw", taps[:, src], weight[dst, :, i, j])
    if bias is not None:
        out += bias[:, None, None]
    return out, (pads[0][0], pads[1][0])


def switch_at(layer, x, weight, bias, sizes, left_top):
    """S at the centre of each output: 5×5 mean of every channel over a reflected map, then projected."""
    height, width = x.shape[-2:]
    modes = ["reflect" if side > 2 else "replicate" for side in (height, width)]
    pooled = torch.zeros_like(x)
    for i in range(-2, 3):
        for j in range(-2, 3):
            shifted = read(x, [r + i for r in range(height)], range(width), modes[0])
            pooled += read(shifted, range(height), [c + j for c in range(width)], modes[1])
    projected = (pooled / 25 * weight[0, :, 0, 0][:, None, None]).sum(1, keepdim=True) + bias
    index = []
    for axis in (0, 1):
        offset = pair(layer.dilation)[axis] * (layer.kernel_size[axis] - 1) // 2 - left_top[axis]
        stride = pair(layer.stride)[axis]
        last = x.shape[2 + axis] - 1
        index.append(
            torch.tensor([min(max(o * stride + offset, 0), last) for o in range(sizes[axis])], dtype=torch.long)
        )
    return projected.index_select(2, index[0]).index_select(3, index[1])


def shake(layer, seed=0, size=0.3):
    """Moves every parameter, the new ones included, and γ and β, away from their start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*layer.named_parameters(), *layer.named_buffers()]:
            if name.startswith(("bn.", "act.")):
                continue
            scale = size / math.sqrt(max(tensor[0].numel(), 1)) if tensor.dim() == 4 and "gamma" not in name else size
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64) * scale
            tensor.copy_(tensor.double() + noise)
    return layer


def relative_error(found, wanted):
    """max|a-b| / max|b|."""
    scale = float(wanted.abs().max()) or 1.0
    return float((found.detach().double() - wanted).abs().max()) / scale
