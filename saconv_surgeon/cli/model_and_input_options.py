"""Options about the model: where it comes from, what it is run on, in which mode. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, get_args

import click

from saconv_surgeon.cli.takes import option, option_in
from saconv_surgeon.errors import UsageError
from saconv_surgeon.records import Mode

DTYPES = ("float32", "float16", "bfloat16", "float64")
SEEDS = click.IntRange(0, 2**32 - 1)
"""What torch, Python and numpy all accept."""

_weights = partial(
    option,
    "--weights",
    type=click.Path(path_type=Path),
    help="Weights for the model: .safetensors (or its .index.json), or a state dict in .pt/.pth. "
    "Prefixes such as module. are understood.",
)
_pretrained = partial(
    option,
    "--pretrained",
    is_flag=True,
    help="With the weights that the model's library publishes (timm:…, torchvision:… and so on).",
)
_base = partial(option, "--base", metavar="MODEL", help="The original model, if MODEL is the folder of a conversion.")
_base_weights = partial(
    option,
    "--base-weights",
    type=click.Path(path_type=Path),
    help="Weights of the original, if MODEL is a folder without them (--delta). Default: the file that they came from.",
)
_trust = partial(
    option, "--trust", is_flag=True, help="Load files that run code when they are loaded, as pickled models do."
)


@dataclass(frozen=True)
class ModelOptions:
    """Where a model and its weights come from, besides its name."""

    SECTION: ClassVar = "Model"

    weights: Path | None = _weights()
    pretrained: bool = _pretrained()
    base: str | None = _base()
    base_weights: Path | None = _base_weights()
    trust: bool = _trust()


@dataclass(frozen=True)
class TrainedModelOptions:
    """As :class:`ModelOptions`, for a model whose weights are the user's own."""

    SECTION: ClassVar = "Model"

    weights: Path | None = _weights()
    base: str | None = _base()
    base_weights: Path | None = _base_weights()
    trust: bool = _trust()
    pretrained: bool = _pretrained(
        help="With its library's published weights, if MODEL is a folder that --delta wrote."
    )


@dataclass(frozen=True)
class PairOptions:
    """As :class:`ModelOptions`, for two models."""

    SECTION: ClassVar = "Model"

    weights: tuple[Path, ...] = _weights(multiple=True, help="Weights for A; again for B.")
    pretrained: bool = _pretrained()
    base: str | None = _base()
    base_weights: Path | None = _base_weights()
    trust: bool = _trust()

    def of_each(self) -> tuple[ModelOptions, ModelOptions]:
        """The options of A and of B.

        Raises:
            UsageError: Weights for more than two models.
        """
        if len(self.weights) > 2:
            raise UsageError(f"--weights was given {len(self.weights)} times; it is given once for A and once for B")
        first, second, *_ = (*self.weights, None, None)
        return (
            ModelOptions(first, self.pretrained, self.base, self.base_weights, self.trust),
            ModelOptions(second, self.pretrained, self.base, self.base_weights, self.trust),
        )


@dataclass(frozen=True)
class InputOptions:
    """What the model is run on, and on which device."""

    SECTION: ClassVar = "Input"

    inputs: tuple[str, ...] = option(
        "--input",
        multiple=True,
        metavar="SIZE|FILE:NAME",
        help="Size of an input, as in 1x3x224x224; repeat it for several inputs. Or file.py:make_inputs for anything else. "
        "Default: example_inputs() beside the factory.",
    )
    device: str = option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
    dtype: str | None = option(
        "--dtype", type=click.Choice(DTYPES), help="Cast model and inputs. Default: as the model is."
    )
    channels_last: bool = option("--channels-last", is_flag=True, help="Lay out weights and inputs in channels_last.")
    batch_axis: int | None = option(
        "--batch-axis",
        type=click.IntRange(0),
        metavar="N",
        help="The axis of the inputs along which the samples lie, as in 1 for time-major sequences. Default: 0, or what a "
        "conversion folder was made with.",
    )
    seed: int = option("--seed", type=SEEDS, default=0, show_default=True, help="For random weights and inputs.")


mode_option = option_in(
    "Model",
    "--mode",
    type=click.Choice(get_args(Mode)),
    default="eval",
    show_default=True,
    help="Run the model as in inference, or as in training, where auxiliary heads run too.",
)
