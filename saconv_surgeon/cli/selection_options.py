"""Options about the conversion: the target, the convolutions, how layers are initialized, the proof. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, get_args

import click

from saconv_surgeon.cli.takes import Declared, option, option_in
from saconv_surgeon.convs.targets.known_targets import TARGETS
from saconv_surgeon.convs.targets.mixes import MIXES
from saconv_surgeon.errors import UsageError
from saconv_surgeon.records import Init

if TYPE_CHECKING:
    from saconv_surgeon.surgery.decisions import Selection


def _target_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """For the completion of a shell; after a comma, the next of several targets."""
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in (*TARGETS, *MIXES) if name.startswith(last)]


TARGET_OPTIONS = "saconv_surgeon.target_options"
"""The entry of a context that collects the options of the target."""


def _collected(context: click.Context) -> dict[str, str]:
    options: dict[str, str] = context.meta.setdefault(TARGET_OPTIONS, {})
    return options


def _from_flag(name: str, context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        _collect(context, name, value)


def _from_pairs(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    """The dict in which flags put their values too, before or after this is called."""
    pairs = [text.partition("=") for text in value]
    wrong = next((text for text, (name, sign, _) in zip(value, pairs, strict=True) if not (name and sign)), None)
    if wrong is not None:
        raise click.BadParameter(f"{wrong!r} is not of the form name=value")
    if len({name for name, _, _ in pairs}) < len(pairs):
        raise click.BadParameter("the same name was given twice")
    for name, _, text in pairs:
        _collect(context, name, text)
    return _collected(context)


def _collect(context: click.Context, name: str, value: str) -> None:
    options = _collected(context)
    if name in options:
        raise UsageError(f"--{name} and --option {name}=… were both given")
    options[name] = value


def _target_flags() -> tuple[Declared, ...]:
    """A flag for each option of a target of this package; ``--option`` sets those of other packages."""
    described: dict[str, list[str]] = {}
    for target in TARGETS.values():
        for name, each in target.options.items():
            described.setdefault(name, []).append(f"{target.name}: {each.help}.")
    return tuple(
        Declared(
            (f"--{name}",),
            {"metavar": "VALUE", "expose_value": False, "callback": partial(_from_flag, name), "help": " ".join(texts)},
        )
        for name, texts in described.items()
    )


@dataclass(frozen=True)
class SelectionOptions:
    """What to convert to, and which convolutions."""

    SECTION: ClassVar = "What to convert"

    target: str = option(
        "--to",
        default="saconv",
        show_default=True,
        metavar="TARGET",
        shell_complete=_target_names,
        help=f"What to convert to: {', '.join(TARGETS)}, what another package offers, or a mix: "
        f"{'; '.join(f'{mix.name}, {mix.summary}' for mix in MIXES.values())}.",
    )
    target_options: dict[str, str] = option(
        "--option",
        before=_target_flags(),
        multiple=True,
        metavar="NAME=VALUE",
        callback=_from_pairs,
        help="An option of the target, by name; repeatable. Of a mix, for those of its targets that have it.",
    )
    absorb: bool = option(
        "--absorb",
        is_flag=True,
        help="Take the norm and the activation after a convolution into the new layer, if it alone feeds them.",
    )
    include: tuple[str, ...] = option(
        "--include", multiple=True, metavar="GLOB", help="Only these module paths (* crosses dots); repeatable."
    )
    exclude: tuple[str, ...] = option(
        "--exclude", multiple=True, metavar="GLOB", help="Not these module paths; repeatable."
    )
    min_stride: int | None = option(
        "--min-stride",
        type=click.IntRange(min=1),
        metavar="N",
        help="Only layers whose output map is at least N times smaller than the input (DetectoRS' stages 2-4: 8).",
    )
    allow_depthwise: bool = option(
        "--allow-depthwise", is_flag=True, help="Depthwise convolutions too: their contexts cost C² weights."
    )

    def selection(self) -> Selection:
        """The same for the library."""
        from saconv_surgeon.surgery.decisions import Selection

        return Selection(
            self.include, self.exclude, self.min_stride, self.allow_depthwise, self.absorb, self.target_options
        )


@dataclass(frozen=True)
class CandidateOptions(SelectionOptions):
    """As :class:`SelectionOptions`, for a choice among several targets for every layer."""

    target: str = option(
        "--to",
        default="saconv",
        show_default=True,
        metavar="TARGET,…",
        shell_complete=_target_names,
        help="What a layer may become, besides what it is: saconv stands for its parts (contexts, branches) and the whole; "
        f"targets: {', '.join(TARGETS)}, or what other packages offer.",
    )


INEXACT = ", ".join(target.name for target in TARGETS.values() if target.inits)


@dataclass(frozen=True)
class InitOptions:
    """How layers are initialized that cannot equal their convolutions."""

    SECTION: ClassVar = "What to convert"

    init: Init | None = option(
        "--init",
        type=click.Choice(get_args(Init)),
        help=f"{INEXACT}: start from what the layer can express of the kernel, from a least-squares fit to --data, or at random. "
        "Default: project; with --data, calibrate.",
    )
    data: str | None = option(
        "--data",
        metavar="FILE:NAME",
        help=f"{INEXACT}: file.py:make_batches, a function that gives batches: inputs of the model, labels after them or not.",
    )


@dataclass(frozen=True)
class ProofOptions:
    """How equality is proved, and what happens if it is not."""

    SECTION: ClassVar = "Proof"

    dry_run: bool = option("--dry-run", section="Save", is_flag=True, help="Everything but saving.")
    force: bool = option(
        "--force", section="Save", is_flag=True, help="Save even if the outputs moved; the exit code stays 1."
    )
    trials: int = option(
        "--trials", type=click.IntRange(min=1), default=3, show_default=True, help="Inputs that the proof compares on."
    )
    redraw: str | None = option(
        "--redraw",
        metavar="FILE:NAME",
        help="file.py:make, a function make(inputs, trial) that returns the inputs of each trial after the first. Default: "
        "floating values at random, integers shuffled.",
    )


OVERWRITE = "Replace outputs that exist."
overwrite_option = option_in("Save", "--overwrite", is_flag=True, help=OVERWRITE)


@dataclass(frozen=True)
class WritingOptions:
    """What is written of a conversion, and whether over what is there."""

    SECTION: ClassVar = "Save"

    delta: bool = option(
        "--delta",
        is_flag=True,
        help="Write to the folder only what surgery added and training moved; to use it, the original's weights are needed.",
    )
    overwrite: bool = option("--overwrite", is_flag=True, help=OVERWRITE)
