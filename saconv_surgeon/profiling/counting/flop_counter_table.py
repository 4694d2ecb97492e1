"""The table of operations as ``FlopCounterMode`` wants it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch.utils.flop_counter import flop_registry

from saconv_surgeon.profiling.counting.call import Call
from saconv_surgeon.profiling.counting.free_operations import FREE
from saconv_surgeon.profiling.counting.operand_kinds import cost_of
from saconv_surgeon.profiling.counting.operation import Formula, Operation
from saconv_surgeon.profiling.counting.operation_table import FORMULAS
from saconv_surgeon.profiling.counting.shape_formulas import Cost
from saconv_surgeon.profiling.counting.user_formulas import Registered, user_cost


class Sink(Protocol):
    """Takes what is found."""

    def add_cost(self, cost: Cost) -> None:
        """An operation costs this."""

    def add_uncounted(self, name: str) -> None:
        """The cost of this operation is unknown."""

    def add_by_user(self, name: str, cost: Cost) -> None:
        """A formula of the user's says that an operation costs this."""


def packet_of(name: str) -> Any:
    """The operation called ``name`` if torch has it now; None if it does not.

    Not remembered: libraries that are imported later, as torchvision often is, bring their own.
    """
    namespace, _, short = name.rpartition("::")
    packet = getattr(getattr(torch.ops, namespace or "aten"), short, None)
    return packet if isinstance(packet, torch._ops.OpOverloadPacket) else None


def custom_mapping(sink: Sink, by_user: dict[str, Registered]) -> dict[Any, Callable[..., int]]:
    """For ``FlopCounterMode``: by packet, to be counted, and by overload, to be counted whole instead of taken apart."""
    mapping: dict[Any, Callable[..., int]] = {}
    for name, formula in ({**dict.fromkeys(FREE), **FORMULAS}).items():
        packet = packet_of(name)
        if packet is not None:
            mapping |= _for_all_overloads(packet, _counting(packet, name, formula, sink))
    for op, torchs in flop_registry.items():
        if op not in mapping and isinstance(op, torch._ops.OpOverloadPacket):
            mapping[op] = _counting(op, op.__name__, _as_torch_counts(torchs), sink)
    for name, registered in by_user.items():
        packet = packet_of(name)
        if packet is not None:
            mapping |= _for_all_overloads(packet, _counting_by_user(packet, name, registered, sink))
    return mapping


def _for_all_overloads(packet: Any, count: Callable[..., int]) -> dict[Any, Callable[..., int]]:
    return {packet: count, **{getattr(packet, overload): count for overload in packet.overloads()}}


def _counting(packet: Any, name: str, formula: Formula | None, sink: Sink) -> Callable[..., int]:
    def count(*args: Any, out_val: Any, **kwargs: Any) -> int:
        if formula is None:
            return 0
        cost = cost_of(name, formula, Call.of(packet, args, kwargs, out_val))
        if cost is None:
            sink.add_uncounted(packet._qualified_op_name)
            return 0
        sink.add_cost(cost)
        return cost.flops

    return _given_tensors(count)


def _counting_by_user(packet: Any, name: str, registered: Registered, sink: Sink) -> Callable[..., int]:
    def count(*args: Any, out_val: Any, **kwargs: Any) -> int:
        call = Call.of(packet, args, kwargs, out_val, defaults=True)
        cost = user_cost(name, registered, call.described_arguments, call.described_result)
        sink.add_by_user(name, cost)
        return cost.flops

    return _given_tensors(count)


def _as_torch_counts(formula: Callable[..., int]) -> Formula:
    """What this table does not have and torch's has: kernels of attention and products of 8-bit matrices."""

    def count(op: Operation) -> Cost:
        assert isinstance(op, Call)
        args, kwargs = op.given
        return Cost(macs=formula(*args, **kwargs, out_val=op.result) // 2)

    return count


def _given_tensors(count: Callable[..., int]) -> Callable[..., int]:
    count._get_raw = True  # type: ignore[attr-defined]  # how FlopCounterMode is told to hand over tensors, not shapes
    return count
