"""Checkpoints of the published layers, loaded so that they give what they gave there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from saconv_surgeon.convs.saconv import SAConv2d

Source = Literal["seed", "mmcv", "detectors"]


def load_published(layer: SAConv2d, state_dict: Mapping[str, Tensor], source: Source) -> None:
    """Loads the state dict of one published layer into ``layer``. ``state_dict`` is not modified.

    The names are the same as here. The published layers have a ``bias`` that their forward never uses (MMCV's and DetectoRS'
    ``SAC`` pass zeros, the seed's block passes None), so it is loaded as zero; ``load_state_dict`` would take it at its word.

    Args:
        layer: As large as the published one; with ``bn`` if that is the seed's block.
        state_dict: Its ``state_dict()``, without a prefix.
        source: ``"seed"`` (the article's Conv–BN–SiLU block), ``"mmcv"`` or ``"detectors"``.

    Raises:
        ValueError: An unknown source, or keys or shapes that do not fit. ``layer`` is then unchanged.
    """
    if source not in get_args(Source):
        raise ValueError(f"unknown source {source!r}; there is: {', '.join(get_args(Source))}")
    offsets = [key for key in state_dict if key.startswith(("offset_s.", "offset_l."))]
    if offsets:
        raise ValueError(
            f"this layer was published with deformable branches ({offsets[0]} …), which SAConv2d does not have"
        )
    live = {key: value for key, value in state_dict.items() if key != "bias"}
    if layer.bias is not None:
        live["bias"] = torch.zeros_like(layer.bias)
    own = layer.state_dict()
    problems = [
        *(f"{key} is missing" for key in own if key not in live and not key.endswith("num_batches_tracked")),
        *(f"{key} is unknown" for key in live if key not in own),
        *(
            f"{key} is {tuple(live[key].shape)}, needed {tuple(own[key].shape)}"
            for key in own
            if key in live and live[key].shape != own[key].shape
        ),
    ]
    if problems:
        raise ValueError(f"the {source} state dict does not fit: {'; '.join(problems)}")
    layer.load_state_dict(live, strict=False)
