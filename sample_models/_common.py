"""What the samples share: weights that would show an error."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

M = TypeVar("M", bound=nn.Module)


def seeded(build: Callable[[], M], seed: int = 0) -> M:
    """What ``build`` makes, with weights drawn from ``seed`` and norms as after training; the global random state stays."""
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would reseed the caller's GPU generators too, which the fork does not bring back.
        torch.default_generator.manual_seed(seed)
        model = build()
        for module in model.modules():
            if isinstance(module, _NormBase):
                if module.affine:
                    nn.init.uniform_(module.weight, 0.5, 1.5)
                    nn.init.normal_(module.bias, std=0.2)
                if module.running_mean is not None and module.running_var is not None:
                    nn.init.normal_(module.running_mean, std=0.2)
                    nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


def image(*shape: int, seed: int = 1) -> torch.Tensor:
    """A random image batch."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
