"""Operations that call functions: ``torch.cond``, ``map``, ``scan``, ``while_loop``, ``flex_attention``.

What they cost is what the functions do that they really call, so they run as Python, with everything that counts switched on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch._ops import HigherOrderOperator
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from saconv_surgeon.profiling.counting.call import described, tensors_in
from saconv_surgeon.profiling.counting.flop_counter_table import Sink
from saconv_surgeon.profiling.counting.operation_table import is_free
from saconv_surgeon.profiling.counting.user_formulas import Registered, user_cost

NAMESPACE = "higher_order"


class HigherOrder(TorchDispatchMode):
    """Runs operations that call functions by their own Python, or says that they are not counted. To be entered last.

    Nested tensors are not counted either: the modes below cannot take operations on them apart.
    """

    supports_higher_order_operators = True

    def __init__(self, sink: Sink, by_user: Mapping[str, Registered]) -> None:
        super().__init__()
        self.sink, self.by_user = sink, by_user

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if isinstance(func, HigherOrderOperator):
            return self._run(func, args, kwargs)
        if any(t.is_nested for t in tensors_in((args, kwargs))):
            name = func._overloadpacket._qualified_op_name
            if not is_free(name) and not func.is_view:
                self.sink.add_uncounted(name)
            return _unseen(func, args, kwargs)
        return func(*args, **kwargs)

    def _run(self, func: HigherOrderOperator, args: Any, kwargs: Any) -> Any:
        name = f"{NAMESPACE}::{func.name()}"
        if name in self.by_user:
            result = _unseen(func, args, kwargs)
            given = [described(each) for each in (*args, *kwargs.values())]
            self.sink.add_by_user(name, user_cost(name, self.by_user[name], given, described(result)))
            return result
        python = _python_of(func)
        if python is not None:
            try:
                with self:
                    return python(*args, **kwargs)
            except AssertionError as error:
                if REFUSAL not in str(error):
                    raise
        self.sink.add_uncounted(name)
        return _unseen(func, args, kwargs)


REFUSAL = "Mode should never be enabled"
"""What the Python of some operations says first."""


def _unseen(func: Any, args: Any, kwargs: Any) -> Any:
    with _disable_current_modes():
        return func(*args, **kwargs)


def _python_of(func: HigherOrderOperator) -> Callable[..., Any] | None:
    """The Python of an operation that calls functions; None if it has none."""
    if func.name() in PYTHON:
        return PYTHON[func.name()]
    if any(base.__name__ == "BaseHOP" for base in type(func).__mro__):
        return lambda function, *operands, **options: function(*operands)
    python = func.py_kernels.get(torch._C.DispatchKey.CompositeExplicitAutograd)
    return python if callable(python) else None


def _cond(predicate: Any, true: Callable[..., Any], false: Callable[..., Any], operands: Any = ()) -> Any:
    return true(*operands) if predicate else false(*operands)


def _scan(step: Callable[..., Any], init: Any, xs: Any, additional: Any = ()) -> Any:
    """torch's own loop; the operation itself only checks that no mode is on."""
    from torch._higher_order_ops.scan import generic_scan

    return generic_scan(step, init, xs, additional_inputs=additional)


PYTHON: dict[str, Callable[..., Any]] = {
    "cond": _cond,
    "scan": _scan,
    "strict_mode": lambda function, operands: function(*operands),
    "invoke_subgraph": lambda function, _, *operands: function(*operands),
}
"""Those whose own Python refuses to run under a mode."""


@contextmanager
def as_python() -> Iterator[None]:
    """Inside, compiled functions run as the Python that they were compiled from: nothing that counts looks into compiled code.

    Operations that call functions compile them first, and torch would remember that it could not under the modes that count.
    The compiler, which takes a second to import, is not imported unless something compiles.
    """
    with ExitStack() as stack:
        if "torch._dynamo" in sys.modules:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        else:
            compiles = torch.compile

            def compile_later(*args: Any, **kwargs: Any) -> Any:
                if torch.compile is compile_later:
                    torch.compile = compiles
                    stack.enter_context(torch.compiler.set_stance("force_eager"))
                return compiles(*args, **kwargs)

            torch.compile = compile_later
            stack.callback(_put_back, compile_later, compiles)
        yield


def _put_back(changed: Any, original: Any) -> None:
    if torch.compile is changed:
        torch.compile = original
