"""Peak memory: what the allocator saw on a CUDA device, elsewhere the tensors that are alive, counted as they come and go."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes


def cuda_peak_bytes(call: Callable[[], object], device: torch.device, resident: Iterable[Tensor]) -> int:
    """The most memory that ``call`` has allocated on a CUDA device at any one time, with ``resident``: its weights and inputs.

    Anything else on the device, such as the model that this one is compared with, is not counted.
    """
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before + storage_bytes(t for t in resident if t.is_cuda)


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the storage of ``tensors``, each piece once."""
    return sum({storage._cdata: storage.nbytes() for storage in _storages(tensors)}.values())


class LiveTensors:
    """Follows the storage of tensors: each new one is added by the caller, and its release is noticed.

    ``peak_bytes`` is the most that was alive at once, ``resident`` included; work space inside kernels is not seen.
    """

    def __init__(self, resident: Iterable[Tensor] = ()) -> None:
        self.alive: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self.bytes = self.peak_bytes = 0
        self.saw(resident)

    def saw(self, tensors: Iterable[Tensor]) -> None:
        """These tensors exist now."""
        for storage in _storages(tensors):
            if storage._cdata in self.alive:
                continue
            size, key = storage.nbytes(), storage._cdata
            self.alive[key] = weakref.ref(storage, self._forget(key, size))
            self.bytes += size
        self.peak_bytes = max(self.peak_bytes, self.bytes)

    def _forget(self, key: int, size: int) -> Callable[[weakref.ref[torch.UntypedStorage]], None]:
        def forget(_: weakref.ref[torch.UntypedStorage]) -> None:
            if self.alive.pop(key, None) is not None:
                self.bytes -= size

        return forget


def watching(live: LiveTensors) -> AbstractContextManager[object]:
    """Inside, the results of all operations, forward and backward, are added to ``live``."""
    return _Watch(live)


class _Watch(TorchDispatchMode):
    def __init__(self, live: LiveTensors) -> None:
        super().__init__()
        self.live = live

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.live.saw(leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor))
        return result


def strided_parts(t: Tensor) -> list[Tensor]:
    """The tensors that hold the memory of ``t``: itself, the values of a nested one, the indices and values of a sparse one."""
    if t.layout is torch.strided and not t.is_nested:
        return [t]
    with _disable_current_modes():
        if t.is_nested:
            return [t.values()]
        if t.layout is torch.sparse_coo:
            return [t._indices(), t._values()]
        if t.layout in (torch.sparse_csr, torch.sparse_bsr):
            return [t.crow_indices(), t.col_indices(), t.values()]
        if t.layout in (torch.sparse_csc, torch.sparse_bsc):
            return [t.ccol_indices(), t.row_indices(), t.values()]
    return []


def _storages(tensors: Iterable[Tensor]) -> Iterator[torch.UntypedStorage]:
    return (part.untyped_storage() for t in tensors for part in strided_parts(t))
