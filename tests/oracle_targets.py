"""The other targets in float64, written from their definitions and sharing no code with the package."""

import math
from types import SimpleNamespace

import torch

from tests import oracle

# ------------------------------------------------------------------ spconv


def spconv(layer, x, *, fused=True):
    """What an ``SPConv2d`` should give for ``x`` in eval mode; with ``fused=False`` its two branches."""
    state = {name: value.detach().double() for name, value in layer.state_dict().items()}
    x = x.detach().double()
    c_in, c_out = x.shape[1], state["conv1x1.weight"].shape[0]
    r = math.floor(c_in * layer.ratio.numerator / layer.ratio.denominator)
    seen = [channel[0] for channel in zip(*[iter(x.split(1, 1))])]
    assert len(seen) == c_in
    spatial = torch.cat(
        [
            oracle.convolve(like(layer, x[:, src], dst), x[:, src], weight, None, 1)[0]
            for src, dst, weight in groups(state, r, c_out)
        ],
        1,
    )
    pooled = under(layer, x, spatial.shape[-2:])
    u = norm(state, "bn1", spatial + mix(pooled[:, :r], state["pwc.weight"]))
    v = norm(state, "bn2", mix(pooled[:, r:], state["conv1x1.weight"]) + state["conv1x1.bias"][:, None, None])
    if not fused:
        return u, v
    first, second = (t.mean((2, 3)).exp() for t in (u, v))
    return u * (first / (first + second))[..., None, None] + v * (second / (first + second))[..., None, None]


def groups(state, r, c_out):
    """Input channels, output channels and kernel of both groups; the first has the odd one."""
    ins, outs = math.ceil(r / 2), math.ceil(c_out / 2)
    if "gwc.weight" in state:
        weights = state["gwc.weight"][:outs], state["gwc.weight"][outs:]
    else:
        weights = state["gwc.0.weight"], state["gwc.1.weight"]
    yield slice(0, ins), slice(0, outs), weights[0]
    yield slice(ins, r), slice(outs, c_out), weights[1]


def like(layer, x, rows):
    return SimpleNamespace(
        padding=layer.padding,
        dilation=layer.dilation,
        stride=layer.stride,
        kernel_size=layer.kernel_size,
        padding_mode=layer.padding_mode,
        groups=1,
        in_channels=x.shape[1],
        out_channels=rows.stop - rows.start,
    )


def under(layer, x, sizes):
    """The mean of the pixels in the s×s window around the centre of each output's kernel.

    Between two pixels the later window is taken, and at stride 1 the earlier pixel.
    """
    pads, index = oracle.padding_per_axis(layer), []
    for axis in (0, 1):
        s, side = layer.stride[axis], x.shape[2 + axis]
        span = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
        windows = []
        for o in range(sizes[axis]):
            start = (math.ceil if s > 1 else math.floor)(o * s - pads[axis][0] + span / 2 - (s - 1) / 2)
            windows.append([i for i in range(start, start + s) if 0 <= i < side])
        index.append(windows)
    rows = [[x[:, :, i][:, :, :, j].mean((2, 3)) for j in index[1]] for i in index[0]]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def mix(x, weight):
    return torch.einsum("nchw,oc->nohw", x, weight[:, :, 0, 0])


def norm(state, name, x, eps=1e-5):
    mean, var, scale, shift = (
        state[f"{name}.{key}"][:, None, None] for key in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(var + eps) * scale + shift


# ------------------------------------------------------------------ deformable saconv


def deform_conv2d(input, offset, weight, bias=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1), mask=None):
    """Dai et al., equation 2: every tap reads the map at its own moved place, between pixels, zero outside.

    The signature is torchvision's; offsets are (y, x) for each tap in turn. With ``mask`` (N, taps, h, w) what a tap reads is
    multiplied by it (DCNv2, equation 1).
    """
    n, c_in = input.shape[:2]
    c_out, per_group, kh, kw = weight.shape
    groups = c_in // per_group
    stride, padding, dilation = map(oracle.pair, (stride, padding, dilation))
    out_h, out_w = offset.shape[-2:]
    y0 = torch.arange(out_h, dtype=input.dtype)[:, None] * stride[0] - padding[0]
    x0 = torch.arange(out_w, dtype=input.dtype)[None, :] * stride[1] - padding[1]
    out = input.new_zeros(n, c_out, out_h, out_w)
    for tap in range(kh * kw):
        y = y0 + tap // kw * dilation[0] + offset[:, 2 * tap]
        x = x0 + tap % kw * dilation[1] + offset[:, 2 * tap + 1]
        taken = sampled(input, y, x)
        if mask is not None:
            taken = taken * mask[:, tap : tap + 1]
        for g in range(groups):
            src, dst = slice(g * per_group, (g + 1) * per_group), slice(g * c_out // groups, (g + 1) * c_out // groups)
            out[:, dst] = out[:, dst] + torch.einsum(
                "nchw,oc->nohw", taken[:, src], weight[dst, :, tap // kw, tap % kw]
            )
    return out if bias is None else out + bias[:, None, None]


def sampled(image, y, x):
    """The image (N, C, H, W) at real places (N, h, w), bilinear, zero outside."""
    n, c, height, width = image.shape
    result = image.new_zeros(n, c, *y.shape[-2:])
    for dy in (0, 1):
        for dx in (0, 1):
            row, column = y.floor() + dy, x.floor() + dx
            share = (1 - (y - row).abs()) * (1 - (x - column).abs())
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            place = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
            values = image.flatten(2).gather(2, place.flatten(1)[:, None].expand(-1, c, -1)).reshape(result.shape)
            result = result + torch.where(inside, share, torch.zeros_like(share))[:, None] * values
    return result


def deformable(layer, x):
    """What a ``DeformableSAConv2d`` should give for ``x``, from its state dict: the published order of operations, in float64."""
    state = {name: value.detach().double() for name, value in layer.state_dict().items()}
    x = x.detach().double()
    x = x + oracle.context(x, state["pre_context.weight"], state["pre_context.bias"])
    seen = pooled_five(x)
    weight = oracle.standardised(state["weight"], state["weight_gamma"], state["weight_beta"])
    bias, mode = state.get("bias"), layer.padding_mode
    branches = []
    for name, kernel, rate in (("offset_s", weight, 1), ("offset_l", weight + state["weight_diff"], 3)):
        reads = SimpleNamespace(
            padding=1, dilation=(1, 1), stride=layer.stride, kernel_size=(3, 3), padding_mode="zeros", groups=1,
            in_channels=x.shape[1], out_channels=18,
        )  # fmt: skip
        offset, _ = oracle.convolve(reads, seen, state[f"{name}.weight"], state[f"{name}.bias"], 1)
        dilation = tuple(rate * d for d in oracle.pair(layer.dilation))
        given, padding = x, dilation
        if mode != "zeros":
            rows = range(-dilation[0], x.shape[2] + dilation[0])
            columns = range(-dilation[1], x.shape[3] + dilation[1])
            given, padding = oracle.read(x, rows, columns, mode), (0, 0)
        branches.append(deform_conv2d(given, offset, kernel, bias, layer.stride, padding, dilation))
    switch = (seen * state["switch.weight"][0, :, 0, 0][:, None, None]).sum(1, keepdim=True) + state["switch.bias"]
    switch = switch[:, :, :: layer.stride[0], :: layer.stride[1]]
    y = switch * branches[0] + (1 - switch) * branches[1]
    return y + oracle.context(y, state["post_context.weight"], state["post_context.bias"])


def pooled_five(x):
    """The mean over 5×5 of a map whose edges are reflected."""
    height, width = x.shape[-2:]
    total = torch.zeros_like(x)
    for i in range(-2, 3):
        for j in range(-2, 3):
            total += oracle.read(x, [r + i for r in range(height)], [c + j for c in range(width)], "reflect")
    return total / 25
