"""Targets with branches, and the wavelet convolution, in float64: from their definitions, with no code of the package."""

from types import SimpleNamespace

import torch
from torch import nn

from tests import oracle
from tests.oracle_targets import deform_conv2d


def state_of(layer):
    return {name: value.detach().double() for name, value in layer.state_dict().items()}


def norm(state, name, x, eps=1e-5):
    mean, var, scale, shift = (
        state[f"{name}.{key}"][:, None, None] for key in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(var + eps) * scale + shift


def at_centre(layer, x, weight, dilation=None):
    """A smaller kernel whose middle is where that of the layer's own kernel is."""
    size, own = tuple(weight.shape[2:]), oracle.pair(layer.dilation)
    dilation = own if dilation is None else dilation
    pads = []
    for axis in (0, 1):
        top, bottom = oracle.padding_per_axis(layer)[axis]
        assert top == bottom
        less = own[axis] * (layer.kernel_size[axis] - 1) - dilation[axis] * (size[axis] - 1)
        assert less % 2 == 0
        pads.append(top - less // 2)
    return oracle.convolve(like(layer, size, dilation, tuple(pads)), x, weight, None, 1)[0]


def like(layer, size, dilation, padding, **other):
    settings = {
        "kernel_size": size,
        "dilation": dilation,
        "padding": padding,
        "stride": oracle.pair(layer.stride),
        "padding_mode": layer.padding_mode,
        "groups": layer.groups,
        "in_channels": layer.in_channels,
        "out_channels": layer.out_channels,
    }
    return SimpleNamespace(**{**settings, **other})


def with_norm(layer, state, x, weight):
    y = oracle.convolve(layer, x, weight, state.get("bias"), 1)[0]
    return norm(state, "bn", y) if "bn.weight" in state else y


def repvgg(layer, x):
    state, x = state_of(layer), x.double()
    y = with_norm(layer, state, x, state["weight"])
    y = y + norm(state, "point.bn", at_centre(layer, x, state["point.conv.weight"]))
    if "identity.norm.weight" in state:
        one = torch.zeros(layer.out_channels, layer.in_channels // layer.groups, 1, 1, dtype=torch.float64)
        for o in range(layer.out_channels):
            one[o, o % one.shape[1]] = 1
        y = y + norm(state, "identity.norm", at_centre(layer, x, one))
    return y


def acb(layer, x):
    state, x = state_of(layer), x.double()
    y = with_norm(layer, state, x, state["weight"])
    for name in ("column", "row"):
        y = y + norm(state, f"{name}.bn", at_centre(layer, x, state[f"{name}.conv.weight"]))
    return y


def dbb(layer, x):
    state, x = state_of(layer), x.double()
    y = with_norm(layer, state, x, state["weight"])
    if "point.conv.weight" in state:
        y = y + norm(state, "point.bn", at_centre(layer, x, state["point.conv.weight"]))
    (top, bottom), (left, right) = oracle.padding_per_axis(layer)
    rows, columns = range(-top, x.shape[2] + bottom), range(-left, x.shape[3] + right)
    padded = oracle.read(x, rows, columns, layer.padding_mode)
    valid = like(layer, layer.kernel_size, oracle.pair(layer.dilation), (0, 0))

    def pointwise(values, weight):
        c_out = weight.shape[0]
        one = like(layer, (1, 1), (1, 1), (0, 0), stride=(1, 1), out_channels=c_out)
        return oracle.convolve(one, values, weight, None, 1)[0]

    if "average.avgbn.weight" in state:
        seen = padded
        if "average.conv.weight" in state:
            seen = norm(state, "average.bn.bn", pointwise(padded, state["average.conv.weight"]))
        mean = torch.zeros(layer.out_channels, 1, *layer.kernel_size, dtype=torch.float64)
        mean += 1 / (layer.kernel_size[0] * layer.kernel_size[1])
        alone = like(
            layer, layer.kernel_size, (1, 1), (0, 0), groups=layer.out_channels, in_channels=layer.out_channels
        )
        y = y + norm(state, "average.avgbn", oracle.convolve(alone, seen, mean, None, 1)[0])
    first = state["sequence.conv1.weight"]
    if not layer.groups == layer.in_channels == layer.out_channels:  # the identity is added
        first = first.clone()
        for o in range(first.shape[0]):
            first[o, o % first.shape[1]] += 1
    between = norm(state, "sequence.bn1.bn", pointwise(padded, first))
    second = like(valid, layer.kernel_size, oracle.pair(layer.dilation), (0, 0), in_channels=first.shape[0])
    out = oracle.convolve(second, between, state["sequence.conv2.weight"], None, 1)[0]
    return y + norm(state, "sequence.bn2", out)


def refconv(layer, x):
    """W + W * R: each plane of the kernel gets a sum over those of the other groups at its place (section 3.2)."""
    state, x = state_of(layer), x.double()
    weight, learnt = state["weight"], state["convmap.weight"]
    planes = weight.flatten(0, 1)
    count, height, width = planes.shape
    per_group = learnt.shape[1]
    kernel = planes.clone()
    for p in range(count):
        first = p // per_group * per_group
        for q in range(per_group):
            for i in range(height):
                for j in range(width):
                    for u in (-1, 0, 1):
                        for v in (-1, 0, 1):
                            if 0 <= i + u < height and 0 <= j + v < width:
                                kernel[p, i, j] += learnt[p, q, u + 1, v + 1] * planes[first + q, i + u, j + v]
    return oracle.convolve(layer, x, kernel.reshape(weight.shape), state.get("bias"), 1)[0]


def dilated_reparam(layer, x):
    state, x = state_of(layer), x.double()
    y = with_norm(layer, state, x, state["weight"])
    names = {key.partition(".")[0] for key in state if key.startswith("k")}
    for name in names:
        dilation = int(name.partition("_")[2])
        small = at_centre(layer, x, state[f"{name}.conv.weight"], (dilation, dilation))
        y = y + norm(state, f"{name}.bn", small)
    return y


def wtconv(layer, x):
    state, x = state_of(layer), x.double()
    base = oracle.convolve(layer, x, state["weight"], state.get("bias"), 1)[0] * state["base_scale.weight"]
    seen = wavelets(layer, state, x, 0)
    one = torch.ones(layer.out_channels, 1, 1, 1, dtype=torch.float64)
    strided = at_centre(layer, seen, one) if layer.padding_mode == "zeros" else None
    assert strided is not None
    return base + strided


def wavelets(layer, state, x, level):
    """Haar: sums and differences of the pixels of each 2×2 square, halved."""
    height, width = x.shape[-2:]
    even = torch.zeros(*x.shape[:2], height + height % 2, width + width % 2, dtype=torch.float64)
    even[..., :height, :width] = x
    a, b, c, d = (even[..., i::2, j::2] for i in (0, 1) for j in (0, 1))
    signs = ((1, 1, 1, 1), (1, 1, -1, -1), (1, -1, 1, -1), (1, -1, -1, 1))
    bands = [sum(s * part for s, part in zip(row, (a, b, c, d))) / 2 for row in signs]
    weight, scale = state[f"wavelet_convs.{level}.weight"], state[f"wavelet_scale.{level}.weight"]
    size = tuple(weight.shape[2:])
    pads = tuple((k - 1) // 2 for k in size)
    found = []
    for i, band in enumerate(bands):
        own = like(layer, size, (1, 1), pads, stride=(1, 1), padding_mode="zeros")
        found.append(oracle.convolve(own, band, weight[i::4], None, 1)[0] * scale[:, i::4])
    if level + 1 < layer.levels:
        found[0] = found[0] + wavelets(layer, state, bands[0], level + 1)
    out = torch.zeros_like(even)
    for k, (i, j) in enumerate((i, j) for i in (0, 1) for j in (0, 1)):
        out[..., i::2, j::2] = sum(row[k] * band for row, band in zip(signs, found)) / 2
    return out[..., :height, :width]


def dcnv2(layer, x):
    state, x = state_of(layer), x.double()
    predicted = oracle.convolve(
        like(
            layer,
            layer.kernel_size,
            layer.dilation,
            layer.padding,
            groups=1,
            out_channels=state["conv_offset.weight"].shape[0],
        ),
        x,
        state["conv_offset.weight"],
        state["conv_offset.bias"],
        1,
    )[0]
    taps = layer.kernel_size[0] * layer.kernel_size[1]
    (top, bottom), (left, right) = oracle.padding_per_axis(layer)
    rows, columns = range(-top, x.shape[2] + bottom), range(-left, x.shape[3] + right)
    padded = oracle.read(x, rows, columns, layer.padding_mode)
    offsets, masks = predicted[:, : 2 * taps], 1 / (1 + (-predicted[:, 2 * taps :]).exp())
    return deform_conv2d(
        padded, offsets, state["weight"], state.get("bias"), layer.stride, (0, 0), layer.dilation, masks
    )


def shake(layer, seed=0, size=0.3):
    """Moves everything that training moves: parameters, and the statistics of norms, whose variances stay positive."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in layer.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor, low, high in (
                    (module.running_mean, -0.5, 0.5),
                    (module.running_var, 0.5, 2.0),
                    (module.weight, 0.3, 1.5),
                    (module.bias, -0.5, 0.5),
                ):
                    values = torch.empty(tensor.shape, dtype=torch.float64).uniform_(low, high, generator=generator)
                    tensor.copy_(values)
            else:
                for parameter in module.parameters(recurse=False):
                    scale = size / max(parameter[0].numel(), 1) ** 0.5
                    noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * scale
                    parameter.copy_(parameter.double() + noise)
    return layer
