"""What users and other packages say their own operations cost: by a call, or by an entry point."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from saconv_surgeon.errors import UsageError, first_line
from saconv_surgeon.profiling.counting.shape_formulas import Cost, numel

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINTS = "saconv_surgeon.operations"
"""The entry-point group in which other packages offer formulas."""
UserFormula = Callable[..., "int | OperationCost"]
_NAME = re.compile(r"\w+::\w+")


class OperationCost(Cost):
    """What one call of an operation costs: ``macs``, ``other_flops`` and ``activations``, all for its whole batch.

    ``flops`` follows: 2·``macs`` + ``other_flops``. ``activations`` are elements produced by a convolution, a linear layer or a
    matrix product.
    """


@dataclass(frozen=True)
class Registered:
    """A formula that did not come with this package, and where it came from."""

    formula: UserFormula
    source: str


class FormulaHandle:
    """A formula that was registered by :func:`count_operation`. ``remove()``, or the end of a ``with`` block, takes it back."""

    def __init__(self, name: str, own: Registered, before: Registered | None) -> None:
        self._name, self._own, self._before = name, own, before

    def remove(self) -> None:
        """The operation is counted as before; nothing if another formula has taken the place of this one, or it was removed."""
        if _CALLED.get(self._name) is not self._own:
            return
        del _CALLED[self._name]
        if self._before is not None:
            _CALLED[self._name] = self._before

    def __enter__(self) -> FormulaHandle:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.remove()


_CALLED: dict[str, Registered] = {}


def count_operation(operation: Any, formula: UserFormula) -> FormulaHandle:
    """From now on, ``formula`` says what each call of ``operation`` costs, in ``profile``, ``convert``, ``diff`` and ``price``.

    Reports and records name the operations that were counted so (``counted_by_formulas``).

    Args:
        operation: Its name with its namespace, as ``"mylib::gather_mm"``, or the operation, ``torch.ops.mylib.gather_mm``. It
            need not exist yet. A formula for one of torch's own (``"aten::…"``) replaces that of this package.
        formula: Called as ``formula(*arguments, out)`` with the arguments in the order of the operation's schema. In place of a
            tensor stands its shape, a tuple of integers; numbers, flags, strings and None are as they are, lists are lists of
            these. ``out`` is the shape of the result; of several, a list of them. It returns the multiply–accumulates of this
            call, for its whole batch, as an integer (1 MAC is 2 FLOPs); or an :class:`OperationCost`, for an operation that has
            other FLOPs as well.

    Returns:
        A handle: ``remove()``, or the end of a ``with`` block, takes the formula back.

    Raises:
        UsageError: ``operation`` is not such a name, or ``formula`` cannot be called. While counting: the formula raised, or
            returned something else.
    """
    name = _name_of(operation)
    if not callable(formula):
        raise UsageError(f"the formula for {name} is {formula!r:.80}; give a function of shapes that returns MACs")
    registered = Registered(formula, _described(formula))
    handle = FormulaHandle(name, registered, _CALLED.get(name))
    _CALLED[name] = registered
    return handle


def user_formulas() -> dict[str, Registered]:
    """By name of the operation, every formula of users and other packages; one that was given by a call goes first."""
    return {**_offered()[0], **_CALLED}


def broken_formulas() -> dict[str, str]:
    """By entry point, what is wrong with those that other packages offer and that cannot be used."""
    return _offered()[1]


def user_cost(name: str, registered: Registered, arguments: list[Any], out: Any) -> Cost:
    """What ``registered`` says of a call.

    Raises:
        UsageError: It raised, or did not return a number.
    """
    who = f"the formula for {name}, {registered.source},"
    try:
        found = registered.formula(*arguments, out)
    except Exception as error:
        seen = ", ".join(map(repr, (*arguments, out)))
        raise UsageError(
            f"{who} raised {type(error).__name__}: {first_line(error)}; it was called as formula({seen:.200}), and gets the "
            "shapes of the arguments and then that of the result"
        ) from error
    if isinstance(found, Cost) and min(found.macs, found.other_flops, found.activations) >= 0:
        return found
    if isinstance(found, int) and not isinstance(found, bool) and found >= 0:
        written = numel(out) if isinstance(out, tuple) else sum(map(numel, out or ()))
        return Cost(found, activations=written if found else 0)
    raise UsageError(
        f"{who} returned {found!r:.80}; give MACs, an integer from 0 up, or a saconv_surgeon.OperationCost"
    )


# ------------------------------------------------------------------ entry points


def _offered() -> tuple[dict[str, Registered], dict[str, str]]:
    """The formulas of other packages, and what is wrong with the others."""
    from importlib.metadata import entry_points

    found: dict[str, Registered] = {}
    wrong: dict[str, str] = {}
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: (entry.name, entry.value)):
        formulas = _loaded(entry)
        if isinstance(formulas, str):
            wrong[entry.name] = formulas
            continue
        taken = [name for name in formulas if name in found]
        if taken:
            wrong[entry.name] = (
                f"{entry.value} has formulas for {', '.join(taken)}, as {found[taken[0]].source} has: that counts"
            )
        found = {**formulas, **found}
    return found, wrong


def _loaded(entry: EntryPoint) -> Mapping[str, Registered] | str:
    """What an entry point offers: a formula, for the operation that it is named after, or a mapping of several."""
    try:
        offered = entry.load()
    except (Exception, SystemExit) as error:
        return f"{entry.value} cannot be imported ({type(error).__name__}: {first_line(error)})"
    formulas = {entry.name: offered} if callable(offered) else offered
    if not isinstance(formulas, Mapping) or not all(map(callable, formulas.values())):
        return f"{entry.value} is not a formula or a mapping of names to formulas but {offered!r:.80}"
    try:
        return {_name_of(name): Registered(formula, entry.value) for name, formula in formulas.items()}
    except UsageError as error:
        return f"{entry.value}: {error}"


def _name_of(operation: Any) -> str:
    packet = getattr(operation, "overloadpacket", operation)
    name = getattr(packet, "_qualified_op_name", operation)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(
            f"{operation!r:.80} names no operation; give its namespace and its name, as 'mylib::gather_mm', or "
            "torch.ops.mylib.gather_mm"
        )
    return name


def _described(formula: Any) -> str:
    name = getattr(formula, "__qualname__", type(formula).__qualname__)
    return f"{getattr(formula, '__module__', None) or type(formula).__module__}:{name}"
