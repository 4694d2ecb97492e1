"""What some operators take for granted about their arguments, checked before they are run.

Each check gets the arguments of a call by name, and says what is wrong with them, if anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

MOST_PARTS = 100_000
"""Tensors that one call gives."""
Check = Callable[[Mapping[str, Any]], str | None]


def problem_of(func: Any, args: Any, kwargs: Mapping[str, Any]) -> str | None:
    """What is wrong with a call of an operator, None if nothing is known to be."""
    name = func._schema.name.partition("::")[2]
    check = CHECKS.get(name)
    if check is None:
        return None
    given = {argument.name: argument.default_value for argument in func._schema.arguments}
    given |= dict(zip(given, args, strict=False)) | dict(kwargs)
    wrong = check(given)
    return None if wrong is None else f"{name} {wrong}"


def _batch_norm(given: Mapping[str, Any]) -> str | None:
    channels = given["input"].shape[1] if given["input"].dim() > 1 else -1
    names = ("weight", "bias", "running_mean", "running_var")
    parts = [given.get(name) for name in names]
    wrong = any(part is not None and tuple(part.shape) != (channels,) for part in parts)
    return "has statistics or weights of another number of channels than its input" if wrong else None


def _weight_norm(given: Mapping[str, Any]) -> str | None:
    v, g, dim = given["v"], given["g"], given["dim"]
    fits = dim in (0, v.dim() - 1) and v.dim() > 0 and g.numel() == v.shape[dim]
    return None if fits else "has another number of lengths than of directions"


def _attention(given: Mapping[str, Any]) -> str | None:
    query, key, value = given["query"], given["key"], given["value"]
    mask = given.get("attn_mask")
    fits = (
        all(t.dim() == 4 for t in (query, key, value))
        and query.shape[:2] == key.shape[:2] == value.shape[:2]
        and key.shape[2] == value.shape[2]
        and query.shape[3] == key.shape[3] == value.shape[3]
    )
    if fits and mask is not None:
        whole = (*query.shape[:3], key.shape[2])
        fits = mask.dim() <= 4 and all(
            side in (1, wanted) for side, wanted in zip(reversed(mask.shape), reversed(whole), strict=False)
        )
    return None if fits else "has queries, keys, values or a mask of sizes that do not belong together"


def _antialiased(given: Mapping[str, Any]) -> str | None:
    sides = given["input" if "input" in given else "self"].shape[-2:]
    scales = (given.get("scales_h"), given.get("scales_w"))
    for scale, side, target in zip(scales, sides, given["output_size"], strict=False):
        if scale is not None and not 0.5 <= scale * side / max(target, 1) <= 2:
            return f"enlarges {side} pixels to {target} with a scale of {scale:g}"
    return None


def _transform(given: Mapping[str, Any]) -> str | None:
    axes = given["self"].dim()
    return None if all(0 <= d < axes for d in given["dim"]) else "transforms an axis that its input does not have"


def _grid(given: Mapping[str, Any]) -> str | None:
    known = all(given[name] in (0, 1, 2) for name in ("interpolation_mode", "padding_mode"))
    return None if known else "has a mode that does not exist"


def _division(given: Mapping[str, Any]) -> str | None:
    """The smallest whole number divided by -1 ends the process."""
    if given.get("rounding_mode") != "trunc" or not _is_whole(given["self"]) or not _is_whole(given["other"]):
        return None
    return "divides whole numbers by -1" if bool(torch.as_tensor(given["other"] == -1).any()) else None


def _is_whole(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not value.is_floating_point() and not value.is_complex()
    return isinstance(value, int)


def _parts(given: Mapping[str, Any]) -> str | None:
    whole, dim, size = given["self"], given.get("dim") or 0, given.get("split_size", 1)
    count = (whole.shape[dim] if whole.dim() else 1) // max(size, 1) if isinstance(size, int) else 0
    return f"makes {count} tensors of one" if count > MOST_PARTS else None


def _repeats(given: Mapping[str, Any]) -> str | None:
    return _too_many(int(given["repeats"].sum()) if isinstance(given.get("repeats"), Tensor) else 0)


def _bins(given: Mapping[str, Any]) -> str | None:
    values = given["self"]
    return _too_many(max(int(values.max()) if values.numel() else 0, given.get("minlength") or 0))


def _too_many(count: int) -> str | None:
    return f"makes {count} values" if count > 1 << 28 else None


CHECKS: dict[str, Check] = {
    **dict.fromkeys(
        (
            *("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_functional"),
            *("_native_batch_norm_legit_no_training", "_batch_norm_with_update", "_batch_norm_no_update"),
        ),
        _batch_norm,
    ),
    "_weight_norm_interface": _weight_norm,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    **dict.fromkeys(("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"), _antialiased),
    **dict.fromkeys(("_fft_c2r", "_fft_r2c", "_fft_c2c"), _transform),
    **dict.fromkeys(("grid_sampler_2d", "grid_sampler_3d"), _grid),
    **dict.fromkeys(("div", "div_", "divide", "divide_"), _division),
    **dict.fromkeys(("split", "unsafe_split", "unbind", "split_copy", "unbind_copy"), _parts),
    "repeat_interleave": _repeats,
    "bincount": _bins,
}
