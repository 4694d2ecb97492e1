"""What all layers that surgery puts in have in common."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Self

from torch import Tensor, nn

from saconv_surgeon.convs.affine import Affine

INHERITED = ("weight", "bias")
"""The parameters of an ``nn.Conv2d``."""
NORM, ACTIVATION = "bn", "act"
"""Names of the submodules of a layer that has a norm and an activation of its own, as in published blocks."""
BLOCK_PARTS = (NORM, ACTIVATION)
"""In the order in which they run."""


class ConvertedLayer(nn.Module):
    """A layer that takes the place of an ``nn.Conv2d``: base class of every target's layer, also of third parties'.

    The census, the counts, the differences and the reports treat it as one part, whatever it is made of. It maps one tensor,
    (N, C_in, H, W), to one, (N, C_out, H_out, W_out), of the sizes that the convolution gives.
    """

    path: str | None = None
    """Where surgery has put the layer, for messages."""
    absorbed: Mapping[str, str] = {}
    """Where the modules that are parts of this layer now were before: ``{"bn": path, "act": path}``."""

    @classmethod
    def from_conv2d(cls, conv: nn.Conv2d, **options: Any) -> Self:
        """The layer that takes the place of ``conv``, which is left unchanged and shares no tensor with it.

        ``options`` are the target's own, as its table entry parses them.
        """
        raise NotImplementedError

    @classmethod
    def taking(cls, conv: nn.Conv2d, **options: Any) -> Self:
        """As :meth:`from_conv2d`, of a convolution that is thrown away: the layer may have its very tensors."""
        return cls.from_conv2d(conv, **options)

    def options(self) -> dict[str, str]:
        """The options that the layer was made with, as a plan records them."""
        return {}

    def is_at_rest(self) -> bool:
        """Whether the layer still computes the plain convolution that it was made from (its norm and activation aside).

        False where that cannot be told, as for a layer that never equals a convolution.
        """
        return False

    def to_conv2d(self) -> nn.Conv2d:
        """The plain convolution that a layer at rest computes.

        Raises:
            ValueError: There is none.
        """
        raise ValueError(f"{type(self).__name__} equals no plain convolution")

    @property
    def is_folded(self) -> bool:
        """Whether the layer is what :meth:`folded` gives: there is nothing more to fold."""
        return False

    @property
    def takes_norm(self) -> bool:
        """Whether :meth:`folded` can take in the norm behind the layer."""
        return False

    def folded(self, then: Affine | None = None, *, own_norm: bool = True) -> nn.Module:
        """The fastest module for inference that computes what the layer computes in eval mode, and ``then`` behind it.

        The layer is left unchanged and shares no tensor with it. Here: the plain convolution of a layer at rest, else a copy.

        Args:
            then: The norm behind the layer, where ``takes_norm``.
            own_norm: Fold a norm that is part of the layer as well.
        """
        if self.is_at_rest():
            with suppress(ValueError):
                return self.to_conv2d()
        return copy.deepcopy(self)

    def fit(self, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        """Sets the parameters so that the layer comes as close to ``outputs``, given ``inputs``, as it can; targets that have
        ``calibrate`` among their ``inits`` need it.
        """
        raise NotImplementedError

    def is_new(self, name: str) -> bool:
        """Whether the parameter called ``name`` was added by surgery."""
        return name not in INHERITED and name.partition(".")[0] not in BLOCK_PARTS
