"""What belongs to tensors besides their values: whether they want a gradient, and the gradient that they have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from saconv_surgeon.models.tree.tensor_values import put_back


class Gradients:
    """``requires_grad`` and ``.grad`` of ``tensors`` as they are now; of lazy ones and results of operations, nothing."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self.kept = [(t, t.requires_grad, t.grad, _copied(t.grad)) for t in tensors if _has_gradient(t)]

    def restore(self) -> None:
        """The same gradient objects with the values that they had. A forward may freeze layers, or go backward itself."""
        for tensor, wanted, gradient, value in self.kept:
            if not tensor.is_leaf:  # written to in place by something with a history
                tensor.detach_()
            if tensor.requires_grad is not wanted:
                tensor.requires_grad_(wanted)
            if gradient is not None and value is not None:
                put_back(gradient, value)
            if tensor.grad is not gradient:
                tensor.grad = gradient


@contextmanager
def gradients_kept(model: nn.Module) -> Iterator[None]:
    """Afterwards the parameters of ``model`` want the gradients that they wanted and have those that they had."""
    kept = Gradients(model.parameters())
    try:
        yield
    finally:
        with torch.no_grad():
            kept.restore()


def _has_gradient(tensor: Tensor) -> bool:
    return tensor.is_leaf and not tensor._is_view() and not tensor.is_inference() and not nn.parameter.is_lazy(tensor)


def _copied(gradient: Tensor | None) -> Tensor | None:
    return None if gradient is None else gradient.detach().clone()
