"""Numbers, sizes and names as people read them."""

from __future__ import annotations

from collections.abc import Sequence

from saconv_surgeon.errors import visible as visible  # for all of the reports
from saconv_surgeon.records import CallShape, ConvArguments

UNKNOWN = "n/a"
NAMES_SHOWN = 6
PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def count(value: float | None) -> str:
    """``25557032`` → ``25.56 M``; whole numbers below a thousand as they are."""
    if value is None:
        return UNKNOWN
    for size, prefix in PREFIXES:
        if abs(value) >= 0.99995 * size:
            return f"{value / size:.4g} {prefix}"
    return f"{value:.4g}"


def seconds(value: float | None) -> str:
    """``0.01234`` → ``12.3 ms``."""
    if value is None:
        return UNKNOWN
    for size, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"


def rate(value: float | None) -> str:
    """``512.3`` → ``512/s``; three digits."""
    return UNKNOWN if value is None else f"{value:.3g}/s" if value < 1000 else f"{count(value)}/s"


def memory(value: float | None) -> str:
    """``1572864`` → ``1.5 MiB``."""
    if value is None:
        return UNKNOWN
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if value >= 1024**power:
            return f"{value / 1024**power:.3g} {unit}"
    return f"{value:.0f} B"


def ratio(before: float | None, after: float | None) -> str:
    """``×2.04``: after/before; ``=`` if nothing changed."""
    if before is None or after is None:
        return UNKNOWN
    if before == after:
        return "="
    return f"×{after / before:.3g}" if before else "new"


def bars(before: float, after: float, most: float, length: int) -> str:
    """Two values as one bar: the solid part is in both, the light one was added, the dotted one was removed."""
    whole, both = (round(length * value / most) if most else 0 for value in (max(before, after), min(before, after)))
    return "█" * both + ("▒" if after >= before else "·") * (whole - both)


def error(value: float | None) -> str:
    """``1.2e-07``; 0 as 0."""
    return UNKNOWN if value is None else f"{value:.2g}"


def plural(n: int, noun: str) -> str:
    """``1 tensor``, ``2 tensors``."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def percent(value: float | None) -> str:
    """``0.0341`` → ``3.4 %``."""
    return UNKNOWN if value is None else f"{100 * value:.1f} %"


def share(value: float | None) -> str:
    """``0.000341`` → ``0.034 %``: two digits, however small."""
    return UNKNOWN if value is None else f"{100 * value:.2g} %" if value < 0.1 else f"{100 * value:.0f} %"


def names(of: Sequence[str], shown: int = NAMES_SHOWN) -> str:
    """The first few, and how many more there are."""
    listed = ", ".join(of[:shown])
    return listed if len(of) <= shown else f"{listed} and {len(of) - shown} more"


def convolution(arguments: ConvArguments | None) -> str:
    """``64→128 3×3 /2 d2 g32``: channels, kernel, then only what is not the default."""
    if arguments is None:
        return ""
    a = arguments
    parts = [f"{a.in_channels}→{a.out_channels}", "×".join(map(str, a.kernel_size))]
    if set(a.stride) != {1}:
        parts.append(f"/{_one_or_all(a.stride)}")
    if set(a.dilation) != {1}:
        parts.append(f"d{_one_or_all(a.dilation)}")
    if a.groups != 1:
        parts.append(f"g{a.groups}")
    if isinstance(a.padding, str):
        parts.append(a.padding)
    if a.padding_mode != "zeros":
        parts.append(a.padding_mode)
    return " ".join(parts)


def maps(shapes: Sequence[CallShape]) -> str:
    """``2 × 56×56→28×28``, one for each pair of sizes that was seen; a count of one is left out."""
    seen: dict[str, int] = {}
    for call in shapes:
        name = f"{_size(call.input)}→{_size(call.output)}"
        seen[name] = seen.get(name, 0) + call.calls
    return ", ".join(f"{n} × {name}" if n > 1 else name for name, n in seen.items())


def shape(sizes: Sequence[int]) -> str:
    """``1×3×224×224``."""
    return "×".join(map(str, sizes)) or "scalar"


def _size(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes[-2:]))


def _one_or_all(values: Sequence[int]) -> str:
    return str(values[0]) if len(set(values)) == 1 else "×".join(map(str, values))
