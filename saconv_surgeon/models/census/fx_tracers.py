"""How models are traced with torch.fx: convolutions and norms stay whole, and sizes are known.

:class:`ConvTracer` knows the sizes of the model's own tensors. :class:`SizedTracer`, slower, knows all sizes, for models that
decide, count or reshape by the sizes of their maps. Plain tracing stops at ``if x.shape[2] % 2`` or ``b, n, c = x.shape``, since
nothing is known of a placeholder; here every operation also runs on fake tensors, which have sizes but no values. What depends on
values still stops it.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.proxy import ParameterProxy
from torch.nn.modules.conv import _ConvNd
from torch.utils import _pytree as pytree

from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.convs.known_norms_and_activations import stays_whole

METADATA = frozenset(
    "shape size ndim dim numel nelement stride is_contiguous element_size storage_offset dtype device layout is_floating_point "
    "is_complex get_device is_cuda is_sparse requires_grad".split()
)
"""What a tensor can answer without its values."""

MOST_NODES = 50_000


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
        whole = isinstance(m, (_ConvNd, ConvertedLayer)) or stays_whole(m)
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
        if len(self.graph.nodes) > MOST_NODES:
            raise RuntimeError(
                "the trace has no end"
            )  # a loop that runs until it finds a tensor finds placeholders only
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


class SizedProxy(fx.Proxy):
    """Stands for a value whose size and kind are known, if its tracer could work them out."""

    def __getattr__(self, name: str) -> Any:
        value = self._seen()
        if isinstance(value, Tensor) and name in METADATA:
            return getattr(value, name)
        return super().__getattr__(name)

    def __len__(self) -> int:
        return len(self._seen())

    def __iter__(self) -> Iterator[Any]:
        value = self._seen()
        if isinstance(value, (Tensor, tuple, list)):
            return iter([self[i] for i in range(len(value))])  # type: ignore[index]
        return iter(super().__iter__())

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, key, value), {})

    def _seen(self) -> Any:
        tracer = self.__dict__["tracer"]
        return tracer.values.get(self.__dict__["node"])


class SizedTracer(ConvTracer):
    """Traces on ``examples``: for each parameter of the root's ``forward``, tensors on the meta device in any nesting."""

    def __init__(self, examples: Mapping[str, Any]) -> None:
        super().__init__()
        self.examples = examples
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.values: dict[fx.Node, Any] = {}
        self.computing = False

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """See ``torch.fx.Tracer``."""
        return SizedProxy(node, self)

    def create_proxy(self, *args: Any, **kwargs: Any) -> fx.Proxy:
        """See ``torch.fx.Tracer``."""
        made = super().create_proxy(*args, **kwargs)
        try:
            with self.fake, torch.no_grad():
                self.values[made.node] = self._value(made.node)
        except Exception:  # the values decide, or an input is not known: then nothing is known of this either
            self.values.pop(made.node, None)
        return made

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        """See ``torch.fx.Tracer``."""
        return forward(*args, **kwargs) if self.computing else super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """See ``torch.fx.Tracer``."""
        return attr_val if self.computing else super().getattr(attr, attr_val, parameter_proxy_cache)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """See ``torch.fx.Tracer``."""
        value = self.values.get(obj.node)
        return bool(value) if isinstance(value, (bool, int, float)) else super().to_bool(obj)

    def _value(self, node: fx.Node) -> Any:
        """What a node gives, on fake tensors."""
        if node.op == "placeholder":
            example = self.examples[str(node.target).lstrip("*")]
            return pytree.tree_map_only(Tensor, lambda t: torch.empty(t.shape, dtype=t.dtype), example)
        if node.op == "get_attr":
            holder, _, name = str(node.target).rpartition(".")
            module = self.root.get_submodule(holder)
            return {**module._parameters, **module._buffers}[name]
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), self.values.__getitem__)
        self.computing = True
        try:
            if node.op == "call_module":
                return self.root.get_submodule(str(node.target))(*args, **kwargs)
            if node.op == "call_method":
                return getattr(args[0], str(node.target))(*args[1:], **kwargs)
            return node.target(*args, **kwargs)  # type: ignore[operator]
        finally:
            self.computing = False
