"""Options that several commands share, and how their values are checked. Imports no torch."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from saconv_surgeon.comparing.gates import Gate, parse
from saconv_surgeon.errors import UsageError
from saconv_surgeon.records import Timing

F = TypeVar("F", bound=Callable[..., Any])

DTYPES = ("float32", "float16", "bfloat16", "float64")

weights_option = click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="Weights for the model: .safetensors (or its .index.json), or a state dict in .pt/.pth. "
    "Prefixes such as module. are understood.",
)
pretrained_option = click.option(
    "--pretrained",
    is_flag=True,
    help="With the weights that the model's library publishes (timm:…, torchvision:… and so on).",
)
mode_option = click.option(
    "--mode",
    type=click.Choice(("eval", "train")),
    default="eval",
    show_default=True,
    help="Run the model as in inference, or as in training, where auxiliary heads run too.",
)
trust_option = click.option(
    "--trust", is_flag=True, help="Load files that run code when they are loaded, as pickled models do."
)
SEEDS = click.IntRange(0, 2**32 - 1)
"""What torch, Python and numpy all take."""

base_option = click.option(
    "--base", metavar="MODEL", help="The original model, where MODEL is the folder of a conversion."
)


def _json_to(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """With ``-``, stdout is for the record alone: whatever the user's own code prints goes to stderr."""
    if value == "-":
        context.meta[STDOUT] = sys.stdout
        context.with_resource(redirect_stdout(sys.stderr))
    return value


STDOUT = "saconv_surgeon.stdout"
"""Where a context keeps the real one."""
json_option = click.option(
    "--json",
    "json_to",
    callback=_json_to,
    metavar="FILE|-",
    help="Write the record as JSON to FILE; with - to stdout, the report then to stderr.",
)


def _gates(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[Gate, ...]:
    return tuple(map(parse, value))


def result_options(command: F) -> F:
    """Reports as files, and gates."""
    return _chain(
        command,
        click.option(
            "--report",
            "reports",
            multiple=True,
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Write the report to a file too: .html, .md (for a pull request), .csv (the layers) or .svg; repeatable.",
        ),
        click.option(
            "--fail-if",
            "gates",
            multiple=True,
            callback=_gates,
            metavar="GATE",
            help='Exit code 1 where this is so: "latency>1.2x", "after.macs>6e9", "max_rel>1e-5"; repeatable.',
        ),
        json_option,
    )


overwrite_option = click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")


def proof_options(command: F) -> F:
    """How equality is proved, and what happens where it is not."""
    return _chain(
        command,
        click.option("--dry-run", is_flag=True, help="Everything but saving."),
        click.option("--force", is_flag=True, help="Save even if the outputs moved; the exit code stays 1."),
        click.option(
            "--trials",
            type=click.IntRange(min=1),
            default=3,
            show_default=True,
            help="Inputs that the proof compares on.",
        ),
    )


def input_options(command: F) -> F:
    """What the model is run on, and where."""
    return _chain(
        command,
        click.option(
            "--input",
            "inputs",
            multiple=True,
            metavar="SIZE|FILE:NAME",
            help="Size of an input, as in 1x3x224x224; repeat it for several inputs. Or file.py:make_inputs for anything else. "
            "Default: example_inputs() beside the factory.",
        ),
        click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
        click.option("--dtype", type=click.Choice(DTYPES), help="Cast model and inputs. Default: as the model is."),
        click.option("--channels-last", is_flag=True, help="Lay out weights and inputs in channels_last."),
        click.option(
            "--seed",
            type=SEEDS,
            default=0,
            show_default=True,
            help="For random weights and inputs.",
        ),
    )


def selection_options(command: F) -> F:
    """Which convolutions to convert."""
    return _chain(
        command,
        click.option(
            "--to",
            "target",
            default="saconv",
            show_default=True,
            metavar="TARGET",
            help="What to convert to: saconv, saconv-deform, aws, spconv, or what another package offers.",
        ),
        click.option(
            "--ratio", metavar="α", help="spconv: the share of representative channels, as in 1/2, 1/4 or 0.125."
        ),
        click.option(
            "--option",
            "settings",
            multiple=True,
            metavar="NAME=VALUE",
            callback=_settings,
            help="An option of the target, by name; repeatable.",
        ),
        click.option(
            "--absorb",
            is_flag=True,
            help="Take the norm and the activation behind a convolution into the new layer, where it alone feeds them.",
        ),
        click.option(
            "--include", multiple=True, metavar="GLOB", help="Only these module paths (* crosses dots); repeatable."
        ),
        click.option("--exclude", multiple=True, metavar="GLOB", help="Not these module paths; repeatable."),
        click.option(
            "--min-stride",
            type=click.IntRange(min=1),
            metavar="N",
            help="Only layers whose output map is at least N times smaller than the input (DetectoRS' stages 2-4: 8).",
        ),
        click.option(
            "--allow-depthwise", is_flag=True, help="Depthwise convolutions too: their contexts cost C² weights."
        ),
    )


def start_options(command: F) -> F:
    """Where layers begin that cannot equal their convolutions."""
    return _chain(
        command,
        click.option(
            "--init",
            type=click.Choice(("project", "calibrate", "random")),
            help="spconv: begin with what the layer can express of the kernel, with a least-squares fit to --data, or at random. "
            "Default: project; with --data, calibrate.",
        ),
        click.option(
            "--data",
            metavar="FILE:NAME",
            help="spconv: file.py:make_batches, a function that gives batches: inputs of the model, labels behind them or not.",
        ),
    )


def timing_options(command: F) -> F:
    """Whether and how time is measured, and what counts as a full account."""
    return _chain(
        command,
        click.option(
            "--latency/--no-latency", default=True, show_default=True, help="Measure the time of a forward pass."
        ),
        click.option(
            "--budget",
            type=click.FloatRange(min=0.1),
            callback=finite,
            default=4.0,
            show_default=True,
            metavar="SECONDS",
            help="How long to measure, for all batch sizes together; training steps as long again.",
        ),
        click.option(
            "--batch",
            "batches",
            callback=_batches,
            metavar="N,N,…",
            help="Measure at these batch sizes, as in 1,8,32. Default: the inputs as they are.",
        ),
        click.option("--autocast", type=click.Choice(("bfloat16", "float16")), help="Measure under torch.autocast."),
        click.option("--compile", "compiled", is_flag=True, help="Measure what torch.compile makes of the model."),
        click.option(
            "--threads", type=click.IntRange(1, MOST_THREADS), metavar="N", help="CPU threads to measure with."
        ),
        click.option(
            "--train", "training", is_flag=True, help="A training step as well: forward, backward, what autograd keeps."
        ),
        click.option("--strict", is_flag=True, help="Exit code 1 where an operation is not counted."),
    )


MOST_THREADS = max(4 * (os.cpu_count() or 1), 64)
"""More than so many make a thread pool fall over."""
layer_latency_option = click.option(
    "--layer-latency/--no-layer-latency",
    "per_layer",
    default=True,
    show_default=True,
    help="Time every layer, in passes of their own.",
)
TIMING = {
    "budget": "--budget",
    "batches": "--batch",
    "autocast": "--autocast",
    "compiled": "--compile",
    "threads": "--threads",
    "training": "--train",
}
"""Fields of ``records.Timing``, and the options that set them."""


def timing_of(options: dict[str, Any]) -> Timing | None:
    """The settings among ``options``; None where time is not to be measured.

    Raises:
        UsageError: Settings of a measurement that is not to be made.
    """
    without = "--abstract" if options.get("abstract") else None if options["latency"] else "--no-latency"
    if without is not None:
        context = click.get_current_context()
        asked = next((option for field, option in TIMING.items() if is_given(context, field)), None)
        if asked is not None:
            raise UsageError(f"{asked} says how to measure time; it does not go together with {without}")
        return None
    chosen = {field: options[field] for field in (*TIMING, "per_layer") if field != "budget"}
    return Timing(budget_s=options["budget"], **chosen)


def is_given(context: click.Context, name: str) -> bool:
    """Whether the user typed the option that is called ``name``."""
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def finite(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """A number that is one: ranges let nan through."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is no number to work with")
    return value


def _settings(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in value]
    wrong = next((text for text, (name, sign, _) in zip(value, pairs, strict=True) if not (name and sign)), None)
    if wrong is not None:
        raise click.BadParameter(f"{wrong!r} is not of the form name=value")
    if len({name for name, _, _ in pairs}) < len(pairs):
        raise click.BadParameter("the same name was given twice")
    return {name: text for name, _, text in pairs}


def target_options_of(options: dict[str, Any]) -> dict[str, str]:
    """What the user says about the target, by name: ``--ratio`` is short for ``--option ratio=``.

    Raises:
        UsageError: Both say something about the same.
    """
    settings: dict[str, str] = dict(options["settings"])
    if options["ratio"] is not None:
        if "ratio" in settings:
            raise UsageError("--ratio and --option ratio=… were both given")
        settings["ratio"] = options["ratio"]
    return settings


def _batches(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...]:
    sizes = [] if value is None else value.split(",")
    if not all(size.strip().isdecimal() and int(size) > 0 for size in sizes):
        raise click.BadParameter(f"{value!r} is no list of batch sizes such as 1,8,32")
    return tuple(dict.fromkeys(int(size) for size in sizes))


def talk_options(command: F) -> F:
    """How much to say."""
    return _chain(
        command,
        click.option("-q", "--quiet", is_flag=True, help="No report, only errors."),
        click.option("-v", "--verbose", is_flag=True, help="Every row of every table."),
    )


def _chain(command: F, *decorators: Callable[[F], F]) -> F:
    for decorate in reversed(decorators):
        command = decorate(command)
    return command
