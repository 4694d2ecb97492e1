"""How models are traced: convolutions and norms stay whole, and the sizes of a model's own tensors are known."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.proxy import ParameterProxy
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from saconv_surgeon.convs.affine import is_known
from saconv_surgeon.convs.converted import ConvertedLayer

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)


class StateProxy(ParameterProxy):
    """Stands for a parameter or a buffer; its size and kind are known, so that a model may decide by them.

    torch's own is for parameters only, and gives all sizes or none.
    """

    def __init__(self, tracer: fx.Tracer, node: fx.Node, name: str, tensor: Tensor) -> None:
        fx.Proxy.__init__(self, node, tracer)
        self.param = tensor  # type: ignore[assignment]
        self.name = name

    def size(self, dim: int | None = None) -> Any:
        """See ``torch.Tensor.size``."""
        return self.param.size() if dim is None else self.param.size(dim)

    @property
    def dtype(self) -> torch.dtype:
        """See ``torch.Tensor.dtype``."""
        return self.param.dtype

    @property
    def device(self) -> torch.device:
        """See ``torch.Tensor.device``."""
        return self.param.device

    def __len__(self) -> int:
        return len(self.param)


class ConvTracer(fx.Tracer):
    """Keeps every convolution and norm whole, also those of classes that live outside torch.nn."""

    def __init__(self) -> None:
        super().__init__()
        self.proxy_buffer_attributes = True  # a buffer that forward updates must not be updated by tracing

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """See ``torch.fx.Tracer``."""
        whole = isinstance(m, (_ConvNd, ConvertedLayer, *NORMS)) or is_known(m)
        return whole or super().is_leaf_module(m, module_qualified_name)

    def create_proxy(
        self,
        kind: str,
        target: Any,
        args: Any,
        kwargs: Any,
        name: Any = None,
        type_expr: Any = None,
        factory: Any = None,
    ) -> fx.Proxy:
        """See ``torch.fx.Tracer``."""
        if kind == "get_attr":
            holder, _, attribute = str(target).rpartition(".")
            module = self.root.get_submodule(holder)
            tensor = module._parameters.get(attribute, module._buffers.get(attribute))
            if tensor is not None:
                return super().create_proxy(
                    kind,
                    target,
                    args,
                    kwargs,
                    name,
                    type_expr,
                    lambda node: StateProxy(self, node, str(target), tensor),
                )
        return super().create_proxy(kind, target, args, kwargs, name, type_expr, factory)
