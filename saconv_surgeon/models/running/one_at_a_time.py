"""Public calls wait for each other, and leave the settings of the process as they were.

Surgery runs models with other settings (grad mode, the fast path of attention, TensorFloat-32, the stance of the compiler), and
torch.fx traces by exchanging methods of ``nn.Module``. All of that holds for the process, not for a thread.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, ParamSpec, TypeVar

import torch
from torch.nn.modules import module as torch_module

from saconv_surgeon.models.running.state import preserved_randomness
from saconv_surgeon.models.tree.wrappers import COMPILER

P = ParamSpec("P")
R = TypeVar("R")

LOCKS = [threading.RLock()]
"""The one lock. Re-entrant: what a call hands to the user, such as ``on_step``, may call again in the same thread."""


def _renew() -> None:
    LOCKS[0] = threading.RLock()


os.register_at_fork(after_in_child=_renew)  # another thread may hold it, which the child does not have

SWITCHES: tuple[tuple[Callable[[], Any], Callable[[Any], object]], ...] = (
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.backends.mha.get_fastpath_enabled, torch.backends.mha.set_fastpath_enabled),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    *(
        (functools.partial(getattr, torch.backends.cudnn, name), functools.partial(setattr, torch.backends.cudnn, name))
        for name in ("enabled", "benchmark", "deterministic", "allow_tf32")
    ),
)
"""How each is read and set."""
GLOBAL_HOOKS = tuple(k for k, v in vars(torch_module).items() if k.startswith("_global_") and isinstance(v, dict))


def one_at_a_time(call: Callable[P, R]) -> Callable[P, R]:
    """``call``, which waits until no other thread is in one of these, and leaves the process and its random state as they were.

    In inference mode it works outside of that, so that what it makes can be trained.
    """

    @functools.wraps(call)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        outside = torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext()
        with LOCKS[0], outside, process_kept(), preserved_randomness():
            return call(*args, **kwargs)

    return run


@contextmanager
def process_kept() -> Iterator[None]:
    """Afterwards switches of torch, hooks for all modules and the filters of warnings are as they were."""
    kept = []
    for read, write in SWITCHES:
        with suppress(Exception):  # not every build of torch has all
            kept.append((read, write, read()))
    filters = list(warnings.filters)
    hooks = {name: dict(getattr(torch_module, name)) for name in GLOBAL_HOOKS}
    stance = _stance()
    try:
        yield
    finally:
        for read, write, value in kept:
            with suppress(Exception):
                if read() != value:
                    write(value)
        if list(warnings.filters) != filters:
            warnings.filters[:] = filters  # type: ignore[index]
            warnings._filters_mutated()  # type: ignore[attr-defined]
        for name, before in hooks.items():
            held = getattr(torch_module, name)
            if held.keys() != before.keys():
                held.clear()
                held.update(before)
        if stance is not None and _stance() is not stance:
            sys.modules[COMPILER].eval_frame._set_stance(stance)


def _stance() -> Any:
    """Of the compiler; None if it is not loaded."""
    return getattr(getattr(sys.modules.get(COMPILER), "eval_frame", None), "_stance", None)
