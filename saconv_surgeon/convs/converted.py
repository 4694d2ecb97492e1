"""``ConvertedLayer``: the base class of all layers that surgery puts in."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Self

from torch import Tensor, fx, nn

from saconv_surgeon.convs.affine import Affine
from saconv_surgeon.errors import ModelError

INHERITED = ("weight", "bias")
"""The parameters of an ``nn.Conv2d``."""
NORM, ACTIVATION = "bn", "act"
"""Names of the submodules of a layer that has a norm and an activation of its own, as in published blocks."""
BLOCK_PARTS = (NORM, ACTIVATION)
"""In the order in which they run."""


class ConvertedLayer(nn.Module):
    """A layer that replaces an ``nn.Conv2d``: the base class of every target's layer, also in other packages.

    Census, counts, diffs and reports treat it as one layer, whatever its submodules. It maps one tensor, (N, C_in, H, W), to one
    tensor, (N, C_out, H_out, W_out), of the same size as the convolution's output.
    """

    path: str | None = None
    """The path of the layer in the model, for messages."""
    absorbed: Mapping[str, str] = {}
    """The former paths of modules that are now parts of this layer: ``{"bn": path, "act": path}``."""
    keeps_kernel: bool = True
    """Whether ``weight`` starts as the kernel of the convolution, so that what an optimiser has learnt of that holds for it."""
    norm_is_last: bool = True
    """Whether a norm that the layer has absorbed sees all that the layer computes, as it did when it followed the convolution."""
    renamed: Mapping[str, str] = {}
    """What the convolution that it was made from called its own parts: ``{"bn": "norm", "act": "activation"}``."""

    @classmethod
    def from_conv2d(cls, conv: nn.Conv2d, **options: Any) -> Self:
        """A layer that replaces ``conv``, which is left unchanged and shares no tensor with it.

        ``options`` are the options of the target, as it parses them.
        """
        raise NotImplementedError

    @classmethod
    def taking(cls, conv: nn.Conv2d, **options: Any) -> Self:
        """As :meth:`from_conv2d`, for a convolution that is thrown away: the layer may take over its tensors."""
        return cls.from_conv2d(conv, **options)

    def options(self) -> dict[str, str]:
        """The options of the target that the layer was made with, as a plan records them."""
        return {}

    def published_names(self, source: str) -> Mapping[str, str] | None:
        """What the published layer of ``source`` calls this layer's tensors, for :func:`saconv_surgeon.load_published`.

        By the beginning of ours the beginning of theirs: the longest that fits counts, and other names are the same there.
        None if that source has no such layer.
        """
        return None

    def why_not_published(self, source: str) -> str | None:
        """Why the published layer of ``source`` could not compute what this one does; None if it could."""
        return None

    def is_at_rest(self) -> bool:
        """Whether the layer, without its own norm and activation, still computes the convolution that it was made from.

        False if that is not known, as for a layer that never equals a convolution.
        """
        return False

    def computes_its_weight(self) -> bool:
        """Whether an ``nn.Conv2d`` with the layer's ``weight`` and ``bias`` computes what the layer does."""
        return False

    def to_conv2d(self) -> nn.Conv2d:
        """The plain convolution that a layer at rest computes.

        Raises:
            ValueError: There is none.
        """
        raise ValueError(f"{type(self).__name__} equals no plain convolution")

    def contributions(self, x: Tensor) -> Mapping[str, Tensor]:
        """What each part adds to the output for the input x, (N, C_in, H, W), before an activation; empty if that is not known.

        Each is as large as the output, or can be expanded to it; the first is what the convolution alone gives.
        """
        return {}

    def silenced(self) -> Self | None:
        """A copy that computes the first of its :meth:`contributions` alone, for ``fold --tolerance``.

        None if nothing is saved by it, as where all parts merge into one kernel.
        """
        return None

    @property
    def is_folded(self) -> bool:
        """Whether the layer is a result of :meth:`folded`, with nothing more to fold."""
        return False

    @property
    def takes_norm(self) -> bool:
        """Whether :meth:`folded` can take in the norm that follows the layer."""
        return False

    def folded(self, then: Affine | None = None, *, own_norm: bool = True) -> nn.Module:
        """The fastest module for inference that computes the layer in eval mode, followed by ``then``.

        The layer is left unchanged and shares no tensor with the result. By default a plain convolution if the layer is at rest,
        otherwise a copy of the layer.

        Args:
            then: The norm that follows the layer, if ``takes_norm``.
            own_norm: Also fold a norm that is part of the layer.
        """
        if self.is_at_rest():
            with suppress(ValueError):
                return self.to_conv2d()
        return copy.deepcopy(self)

    def fit(self, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        """Sets the parameters so that the layer gives ``outputs`` for ``inputs`` as nearly as it can.

        Needed for targets that have ``"calibrate"`` among their ``inits``.
        """
        raise NotImplementedError

    def __prepare_scriptable__(self) -> nn.Module:
        """What ``torch.jit.script`` asks a module for.

        Raises:
            ModelError: Always: the layers are not written in the part of Python that it compiles.
        """
        raise ModelError(
            f"{type(self).__name__}{f' at {self.path!r}' if self.path else ''} cannot be compiled by torch.jit.script; "
            "use torch.jit.trace, torch.export or torch.compile, or fold the model first (saconv-surgeon fold)"
        )

    def is_new(self, name: str) -> bool:
        """Whether the parameter called ``name`` was added by surgery."""
        return name not in INHERITED and name.partition(".")[0] not in BLOCK_PARTS


def as_one_node(layer: ConvertedLayer, given: fx.Proxy) -> Any:
    """The call of ``layer`` as one node of the graph that torch.fx is tracing, as that of an ``nn.Conv2d``.

    Raises:
        ModelError: The layer itself is traced.
    """
    tracer: Any = given.tracer
    if tracer.root is layer:
        raise ModelError(f"{type(layer).__name__} is one operation for torch.fx; trace the model that holds it")
    return tracer.create_proxy("call_module", tracer.path_of_module(layer), (given,), {})
