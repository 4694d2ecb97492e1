"""Conditions under which a command fails: ``latency>1.2x``, ``after.macs>6e9``, ``max_rel>1e-5``. Imports no torch."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from saconv_surgeon import records
from saconv_surgeon.errors import UsageError
from saconv_surgeon.records import ENOUGH, GateResult, interval_name

COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
UNITS = {
    "": 1.0,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "%": 1e-2,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "B": 1.0,
    "KiB": 1024.0,
    "MiB": 1024.0**2,
    "GiB": 1024.0**3,
}
FORM = re.compile(r"^\s*([^<>=\s]+?)\s*(>=|<=|>|<)\s*([-+]?[0-9.]+(?:e[-+]?[0-9]+)?)\s*([^\s0-9]*)\s*$", re.IGNORECASE)
SIDES = (("a", "b"), ("before", "after"))
"""What the two profiles of a record are called."""
PLACES = ("outputs", "equivalence", "explained", "latency", "training")
"""Records within a record, or within the profile that counts, whose figures have short names too."""
OF_OUTPUTS = ("max_rel", "max_abs", "cosine", "top1")
"""What a record would have if there had been outputs to compare."""
KNOWN = {
    f.name for record in map(vars(records).get, records.__all__) if is_dataclass(record) for f in fields(record)
} | {*("a", "b", "before", "after", "equivalence", "explained", "converted", "refused", "executed", "never_ran")}
"""Everything that a figure, or what it is in, may be called."""
USUAL = ("latency", "macs", "flops", "parameters", "activations", "bytes_moved", "peak_memory_bytes", "max_rel", "top1")
OTHER_NAMES = {"params": "parameters", "memory": "peak_memory_bytes", "bytes": "bytes_moved"}


@dataclass(frozen=True)
class Gate:
    """``name`` must not be ``comparison`` than ``threshold``; as a ratio, B's by A's or after by before."""

    text: str
    name: str
    comparison: str
    threshold: float
    is_ratio: bool


def parse(text: str) -> Gate:
    """The gate in ``text``.

    Raises:
        UsageError: It is not a gate.
    """
    found = FORM.match(text)
    unit = found[4] if found else ""
    is_ratio = unit in ("x", "×")
    try:
        scale = 1.0 if is_ratio else UNITS[unit]
        threshold = float(found[3]) if found else math.nan
        found = found if math.isfinite(threshold) else None
    except (KeyError, ValueError):
        found = None
    if found is None:
        raise UsageError(
            f'--fail-if {text!r} is not a gate; write a figure, >, >=, < or <=, and a number: "latency>1.2x" for a ratio, '
            '"after.macs>6e9", "latency>20ms" or "max_rel>1e-5" for a value'
        )
    name = OTHER_NAMES.get(found[1], found[1])
    if not all(part in KNOWN or part.isdecimal() for part in name.split(".")):
        raise UsageError(
            f"--fail-if {text!r}: no record has a figure {name!r}; there are {', '.join(USUAL)} and others, see --json"
        )
    return Gate(text.strip(), name, found[2], threshold * scale, is_ratio)


def evaluate(gate: Gate, record: Mapping[str, Any]) -> GateResult:
    """Whether ``gate`` holds for a record as plain dicts.

    If the record has the figure but no value for it, the gate fails: a figure that is not known proves nothing.

    Raises:
        UsageError: The record has no such figure.
    """
    value, found = _ratio(gate, record) if gate.is_ratio else _value(gate, record)
    if value is None or math.isnan(value):
        return GateResult(gate.text, None, failed=True, found=f"{gate.name} is not known: nothing says that it holds")
    return GateResult(gate.text, value, COMPARISONS[gate.comparison](value, gate.threshold), found)


def _ratio(gate: Gate, record: Mapping[str, Any]) -> tuple[float | None, str]:
    if gate.name == "latency":
        return _latency_ratio(gate, record)
    if gate.name == "training":
        return _paired(record.get("training_ratio"), "the training step", gate)
    for left, right in SIDES:
        if isinstance(record.get(left), Mapping) and isinstance(record.get(right), Mapping):
            before, after = (_number(_at(record[side], gate.name, gate)) for side in (left, right))
            shown = f"{gate.name}: {left} {_plain(before)}, {right} {_plain(after)}"
            if before is None or after is None:
                return None, shown
            ratio = after / before if before else 1.0 if not after else math.inf
            return ratio, f"{shown}, ×{ratio:.4g}"
    comparison = record.get("comparison")
    if isinstance(comparison, Mapping):
        change = next((c for c in comparison["totals"] if c["figure"] == gate.name), None)
        if change is not None:
            return _number(change["ratio"]), f"{gate.name}, now by before: ×{_plain(change['ratio'])}"
        raise _unknown(gate, [c["figure"] for c in comparison["totals"]])
    raise UsageError(
        f"--fail-if {gate.text!r} is a ratio, and there is one model only; leave the x out for a value, or give --compare"
    )


def _latency_ratio(gate: Gate, record: Mapping[str, Any]) -> tuple[float | None, str]:
    """The paired ratio; of several batch sizes, the one that is nearest to failing. Reports have only two medians."""
    measured = [r for r in record.get("latency_ratios") or [record.get("latency_ratio")] if r]
    if measured:
        nearest = (max if ">" in gate.comparison else min)(measured, key=lambda r: r["median"])
        return _paired(nearest, "latency", gate)
    if comparison := record.get("comparison"):
        changes = [c for c in comparison["totals"] if c["figure"].startswith("latency") and c["ratio"] is not None]
        if not changes:
            return None, "latency"
        worst = (max if ">" in gate.comparison else min)(changes, key=lambda c: c["ratio"])
        return worst["ratio"], f"{worst['figure']}, now by before, not timed in turn: ×{worst['ratio']:.4g}"
    value, found = _ratio(replace(gate, name="latency.median_s"), record)
    return value, f"{found} (not timed in turn)"


def _paired(ratio: Mapping[str, Any] | None, name: str, gate: Gate) -> tuple[float | None, str]:
    if ratio is None:
        return None, f"the ratio of {name}"
    n = ratio.get("n", ENOUGH)
    shown = (
        f"{name}: ×{ratio['median']:.4g}, {interval_name(n)} {ratio['low']:.4g}–{ratio['high']:.4g}, {ratio['verdict']}"
    )
    if ratio["low"] < gate.threshold < ratio["high"]:
        shown += f"; the threshold lies within the {'interval' if n >= ENOUGH else 'range'}"
    return _number(ratio["median"]), shown


def _value(gate: Gate, record: Mapping[str, Any]) -> tuple[float | None, str]:
    value = _at(record, gate.name, gate)
    return _number(value), f"{gate.name}: {_plain(_number(value))}"


def _at(record: Mapping[str, Any], name: str, gate: Gate) -> Any:
    """The field called ``name``: as a whole path, of the profile that counts, or of one of the known places."""
    profiles = [record[right] for _, right in SIDES if isinstance(record.get(right), Mapping)]
    roots = [record, *profiles]
    starts = [*roots, *(root.get(place) for root in roots for place in PLACES)]
    absent = False
    for start in starts:
        found, value = _walk(start, name)
        if found and (value is None or isinstance(value, (int, float))):
            return value
        if found and isinstance(value, Mapping) and "median_s" in value:
            return value["median_s"]
        absent = absent or (
            start is record and name.partition(".")[0] in record and record[name.partition(".")[0]] is None
        )
    if absent or (name in OF_OUTPUTS and any(place in record for place in PLACES)):
        return None
    raise _unknown(gate, _numeric_names(record))


def _walk(start: Any, name: str) -> tuple[bool, Any]:
    value = start
    for key in name.split("."):
        if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        elif isinstance(value, Mapping) and key in value:
            value = value[key]
        else:
            return False, None
    return True, value


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _plain(value: float | None) -> str:
    if value is None:
        return "not known"
    return f"{value:,.0f}" if value.is_integer() and value < 1e15 else f"{value:.6g}"


def _numeric_names(record: Mapping[str, Any]) -> list[str]:
    names = [n for n, v in record.items() if isinstance(v, (int, float))]
    for place in ("b", "after", *PLACES):
        if isinstance(record.get(place), Mapping):
            names += [f"{place}.{n}" for n, v in record[place].items() if isinstance(v, (int, float))]
    return names


def _unknown(gate: Gate, names: list[str]) -> UsageError:
    return UsageError(f"there is no figure {gate.name!r} here; there are {', '.join(names)}")
