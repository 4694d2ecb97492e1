"""Where tensors leave torch: what is computed with them elsewhere is not seen by anything that counts."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor
from torch.overrides import TorchFunctionMode

WAYS_OUT = {
    Tensor.numpy: "torch.Tensor.numpy",
    Tensor.__array__: "torch.Tensor.__array__",
    Tensor.__dlpack__: "torch.Tensor.__dlpack__",
    Tensor.data_ptr: "torch.Tensor.data_ptr",
}


class Uncounted(Protocol):
    """Takes what cannot be counted."""

    def add_uncounted(self, name: str) -> None:
        """The cost of this is unknown."""


class LeavingTorch(TorchFunctionMode):
    """Tells ``sink`` when a floating tensor of more than one element is handed to NumPy or another library."""

    def __init__(self, sink: Uncounted) -> None:
        super().__init__()
        self.sink = sink

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        way = WAYS_OUT.get(func)
        if way is not None and (args[0].is_floating_point() or args[0].is_complex()) and args[0].numel() > 1:
            self.sink.add_uncounted(way)
        return func(*args, **(kwargs or {}))
