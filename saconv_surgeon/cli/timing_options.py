"""Options about the measurement. Imports no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import click

from saconv_surgeon.cli.takes import finite, is_given, option
from saconv_surgeon.errors import UsageError
from saconv_surgeon.records import Profile, Timing
from saconv_surgeon.records.progress import OnStep

P = TypeVar("P", Profile, Profile | None)

MOST_THREADS = max(4 * (os.cpu_count() or 1), 64)
"""With more, a thread pool fails."""


def _batches(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...]:
    sizes = [] if value is None else value.split(",")
    if not all(size.strip().isdecimal() and int(size) > 0 for size in sizes):
        raise click.BadParameter(f"{value!r} is not a list of batch sizes such as 1,8,32")
    return tuple(dict.fromkeys(int(size) for size in sizes))


@dataclass(frozen=True)
class TimingOptions:
    """Whether and how time is measured, and whether everything has to be counted."""

    SECTION: ClassVar = "Measure"

    latency: bool = option(
        "--latency/--no-latency", default=True, show_default=True, help="Measure the time of a forward pass."
    )
    budget: float = option(
        "--budget",
        type=click.FloatRange(min=0.1),
        callback=finite,
        default=4.0,
        show_default=True,
        metavar="SECONDS",
        help="How long to measure, for all batch sizes together; training steps as long again.",
    )
    batches: tuple[int, ...] = option(
        "--batch",
        callback=_batches,
        metavar="N,N,…",
        help="Measure at these batch sizes, as in 1,8,32. Default: the inputs as they are.",
    )
    autocast: str | None = option(
        "--autocast", type=click.Choice(("bfloat16", "float16")), help="Measure under torch.autocast."
    )
    compiled: bool = option("--compile", is_flag=True, help="Measure what torch.compile makes of the model.")
    threads: int | None = option(
        "--threads", type=click.IntRange(1, MOST_THREADS), metavar="N", help="CPU threads to measure with."
    )
    training: bool = option(
        "--train", is_flag=True, help="A training step as well: forward, backward, what autograd keeps."
    )
    strict: bool = option("--strict", is_flag=True, help="Exit code 1 if an operation is not counted.")
    per_layer: bool = option(
        "--layer-latency/--no-layer-latency",
        default=True,
        show_default=True,
        help="Time every layer, in passes of their own.",
    )
    roofline: bool = option(
        "--roofline",
        is_flag=True,
        help="Set each layer against what the machine can do at most, which is measured on the spot.",
    )
    energy: bool = option(
        "--energy", is_flag=True, help="Joules per sample, where the machine can tell; takes half a minute."
    )

    @property
    def seconds(self) -> float:
        """How long to measure."""
        return self.budget

    def says_how_to_measure(self, field: str) -> bool:
        """Whether the option of ``field`` is a setting of a measurement as it was given."""
        return field in SETTINGS_OF_TIME

    def timing(self, *, abstract: bool = False) -> Timing | None:
        """The same for the library; None if time is not to be measured.

        Raises:
            UsageError: Settings of a measurement that is not to be made.
        """
        without = "--abstract" if abstract else None if self.latency else "--no-latency"
        if without is None:
            return Timing(
                self.seconds,
                self.batches,
                self.autocast,
                self.compiled,
                self.threads,
                self.training,
                self.per_layer,
                roofline=self.roofline,
                energy=self.energy,
            )
        context = click.get_current_context()
        fields = {field: name for field, name in SETTINGS_OF_TIME.items() if self.says_how_to_measure(field)}
        asked = next((name for field, name in fields.items() if is_given(context, field)), None)
        if asked is not None:
            raise UsageError(f"{asked} says how to measure time; it does not go together with {without}")
        return None


@dataclass(frozen=True)
class FieldOptions:
    """Whether receptive fields are told."""

    SECTION: ClassVar = "Measure"
    receptive_field: bool = option(
        "--receptive-field",
        is_flag=True,
        help="What each stage sees of the input: theoretical and effective receptive field.",
    )

    def told(self, record: P, model: Any, inputs: Any, seed: int, on_step: OnStep) -> P:
        """The profile ``record`` of ``model`` with its receptive fields, if they were asked for."""
        if record is None or not self.receptive_field:
            return record
        from saconv_surgeon import api

        on_step("looking at receptive fields", 0.0)
        return replace(record, receptive_field=api.receptive_field(model, inputs, seed=seed))


SETTINGS_OF_TIME = {
    "budget": "--budget",
    "batches": "--batch",
    "autocast": "--autocast",
    "compiled": "--compile",
    "threads": "--threads",
    "training": "--train",
    "roofline": "--roofline",
    "energy": "--energy",
}
"""Options that say how time is measured, by their fields."""
