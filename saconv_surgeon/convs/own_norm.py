"""``OwnNorm``: a layer that may have a norm and an activation of its own, as in published blocks."""

from __future__ import annotations

from torch import nn

from saconv_surgeon.convs.converted import ConvertedLayer


class OwnNorm(ConvertedLayer):
    """What ``bn`` and ``act``, which may be None, mean for the way back to a convolution. Comes before the other base class."""

    bn: nn.Module | None
    act: nn.Module | None

    def computes_its_weight(self) -> bool:
        """See :class:`ConvertedLayer`."""
        own = [part for part in (self.bn, self.act) if part is not None and type(part) is not nn.Identity]
        return not own and self.is_at_rest()

    def to_conv2d(self) -> nn.Conv2d:
        """See :class:`ConvertedConv2d`. Also raises if the layer has a norm or an activation of its own."""
        if self.bn is not None or self.act is not None:
            raise ValueError(
                f"{type(self).__name__} has a norm or an activation of its own; no plain convolution equals it"
            )
        return super().to_conv2d()

    @property
    def takes_norm(self) -> bool:
        """See :class:`ConvertedLayer`: only if it has no norm and no activation of its own."""
        return self.bn is None and self.act is None
