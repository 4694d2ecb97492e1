"""The published order of operations, written from the papers' description: the second baseline.

Runs only where 2p = d(k-1), without a bias that counts, on maps of more than two pixels, as the published layers do.
"""

import torch
from torch.nn import functional as F

from tests.oracle_targets import deform_conv2d


def standardised(state, eps=1e-5):
    v = state["weight"]
    mean = v.mean((1, 2, 3), keepdim=True)
    deviation = torch.sqrt(v.flatten(1).var(1).reshape(-1, 1, 1, 1) + eps)
    return state["weight_gamma"] * (v - mean) / deviation + state["weight_beta"]


def saconv(state, x, *, stride=1, padding=1, dilation=1, groups=1):
    """Pool the C-channel map, project, blend as S·small + (1-S)·large."""
    average = F.adaptive_avg_pool2d(x, 1)
    x = x + F.conv2d(average, state["pre_context.weight"], state["pre_context.bias"]).expand_as(x)
    pooled = F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), 5, stride=1)
    switch = F.conv2d(pooled, state["switch.weight"], state["switch.bias"], stride=stride)
    weight = standardised(state)
    small = F.conv2d(x, weight, None, stride, padding, dilation, groups)
    large = F.conv2d(x, weight + state["weight_diff"], None, stride, 3 * padding, 3 * dilation, groups)
    y = switch * small + (1 - switch) * large
    return y + F.conv2d(
        F.adaptive_avg_pool2d(y, 1), state["post_context.weight"], state["post_context.bias"]
    ).expand_as(y)


def block(state, x, **options):
    """The seed's block: the layer, batch norm in eval mode, SiLU."""
    y = saconv(state, x, **options)
    norm = [state[f"bn.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
    return F.silu(F.batch_norm(y, *norm))


def random_state(c_in=4, c_out=6, kernel=3, groups=1, *, bias=True, bn=False, seed=0):
    """A state dict in the published layout, as training might leave it."""
    g = torch.Generator().manual_seed(seed)
    rand = lambda *shape: torch.randn(*shape, generator=g) * 0.3
    state = {
        "weight": rand(c_out, c_in // groups, kernel, kernel),
        "weight_gamma": 1 + rand(c_out, 1, 1, 1),
        "weight_beta": rand(c_out, 1, 1, 1),
        "weight_diff": rand(c_out, c_in // groups, kernel, kernel),
        "switch.weight": rand(1, c_in, 1, 1),
        "switch.bias": 1 + rand(1),
        "pre_context.weight": rand(c_in, c_in, 1, 1),
        "pre_context.bias": rand(c_in),
        "post_context.weight": rand(c_out, c_out, 1, 1),
        "post_context.bias": rand(c_out),
    }
    if bias:
        state["bias"] = rand(c_out)
    if bn:
        state |= {"bn.weight": 1 + rand(c_out), "bn.bias": rand(c_out), "bn.running_mean": rand(c_out)}
        state |= {"bn.running_var": 1 + rand(c_out).abs(), "bn.num_batches_tracked": torch.tensor(7)}
    return state


def deformable(state, x, *, stride=1):
    """The layer with ``use_deform=True``: both branches read at moved places, the offsets come from the averaged map."""
    average = F.adaptive_avg_pool2d(x, 1)
    x = x + F.conv2d(average, state["pre_context.weight"], state["pre_context.bias"]).expand_as(x)
    pooled = F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), 5, stride=1)
    switch = F.conv2d(pooled, state["switch.weight"], state["switch.bias"], stride=stride)
    weight, branches = standardised(state), []
    for name, kernel, rate in (("offset_s", weight, 1), ("offset_l", weight + state["weight_diff"], 3)):
        offset = F.conv2d(pooled, state[f"{name}.weight"], state[f"{name}.bias"], stride, 1)
        branches.append(deform_conv2d(x, offset, kernel, None, (stride,) * 2, (rate,) * 2, (rate,) * 2))
    y = switch * branches[0] + (1 - switch) * branches[1]
    return y + F.conv2d(
        F.adaptive_avg_pool2d(y, 1), state["post_context.weight"], state["post_context.bias"]
    ).expand_as(y)
