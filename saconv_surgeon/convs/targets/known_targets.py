"""The targets of this package and of others, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saconv_surgeon.convs.targets.mixes import MIXES
from saconv_surgeon.convs.targets.target import Target
from saconv_surgeon.convs.targets.to_acb import ACB
from saconv_surgeon.convs.targets.to_aws import AWS
from saconv_surgeon.convs.targets.to_dbb import DBB
from saconv_surgeon.convs.targets.to_dcnv2 import DCNV2
from saconv_surgeon.convs.targets.to_dilated_reparam import DILATED_REPARAM
from saconv_surgeon.convs.targets.to_refconv import REFCONV
from saconv_surgeon.convs.targets.to_repvgg import REPVGG
from saconv_surgeon.convs.targets.to_saconv import SACONV
from saconv_surgeon.convs.targets.to_saconv_deform import SACONV_DEFORM
from saconv_surgeon.convs.targets.to_spconv import SPCONV
from saconv_surgeon.convs.targets.to_wtconv import WTCONV
from saconv_surgeon.errors import UsageError, first_line

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

TARGETS = {
    target.name: target
    for target in (
        *(SACONV, SACONV_DEFORM, AWS, SPCONV),
        *(REFCONV, DBB, ACB, REPVGG, DILATED_REPARAM, WTCONV, DCNV2),
    )
}
"""What ``--to`` takes; a target is added here and in a file of its own, and is known to the whole command line."""
ENTRY_POINTS = "saconv_surgeon.targets"
"""The entry-point group in which other packages offer a ``Target``."""


def find_target(name: str) -> Target:
    """The target called ``name``, of this package or of another that offers one.

    Raises:
        UsageError: There is none, or the package that offers it is broken.
    """
    if name in TARGETS:
        return TARGETS[name]
    if name == "all":
        raise UsageError("--to all is for inspect, which sets all targets side by side; name one to convert to")
    if name in MIXES:
        targets = ", ".join(rule.target for rule in MIXES[name].rules)
        raise UsageError(f"{name!r} is a mix of targets ({targets}), and one layer becomes one of them")
    offered = offered_targets()
    if name not in offered:
        raise UsageError(
            f"no conversion target {name!r}; there is: {', '.join([*sorted({*TARGETS, *offered}), *MIXES])}"
        )
    return _loaded(offered[name])


def offered_targets() -> dict[str, EntryPoint]:
    """The targets of other packages by name, not imported yet."""
    from importlib.metadata import entry_points  # takes a sixth of the time that --help has

    return {entry.name: entry for entry in entry_points(group=ENTRY_POINTS) if entry.name not in {*TARGETS, *MIXES}}


def _loaded(entry: EntryPoint) -> Target:
    try:
        target = entry.load()
    except Exception as error:
        raise UsageError(
            f"the conversion target {entry.name!r}, {entry.value}, cannot be imported "
            f"({type(error).__name__}: {first_line(error)})"
        ) from error
    if not isinstance(target, Target) or target.name != entry.name:
        raise UsageError(
            f"the conversion target {entry.name!r}, {entry.value}, is not a saconv_surgeon.Target of that name but {target!r:.80}"
        )
    return target
