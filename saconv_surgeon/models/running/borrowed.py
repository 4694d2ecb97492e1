"""Whether a copy of a model still uses the model itself, through a global variable for one: training it would train the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from saconv_surgeon.errors import ModelError
from saconv_surgeon.models.tree.writes import storage_of


@contextmanager
def own_tensors_only(model: nn.Module, copied: nn.Module) -> Iterator[None]:
    """For a run of ``copied`` inside: refuses it afterwards if it used parameters or buffers of ``model`` that it does not hold.

    Raises:
        ModelError: It did; names the first.
    """
    names = {storage_of(t): name for name, t in reversed([*model.named_parameters(), *model.named_buffers()])}
    for t in (*copied.parameters(), *copied.buffers()):  # some copy themselves so that they share a part that is frozen
        names.pop(storage_of(t), None)
    names.pop(None, None)
    watch = _Use({key: name for key, name in names.items() if key is not None})
    with watch:
        yield
    if watch.used is not None:
        path, _, attribute = watch.used.rpartition(".")
        raise ModelError(
            f"a copy of {type(model).__name__} still uses {attribute!r} of your model's own {path or 'root'!r}: its code reaches "
            "that module through a global variable, a class attribute or something else that is not copied with the model, and "
            "surgery works on a copy; reach it through self"
        )


class _Use(TorchDispatchMode):
    """Notes the first operation on one of the tensors, by their memory."""

    supports_higher_order_operators = True

    def __init__(self, names: dict[int, str]) -> None:
        super().__init__()
        self.names = names
        self.used: str | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.used is None and self.names:
            given = (storage_of(t) for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, Tensor))
            self.used = next((self.names[key] for key in given if key is not None and key in self.names), None)
        return func(*args, **(kwargs or {}))
