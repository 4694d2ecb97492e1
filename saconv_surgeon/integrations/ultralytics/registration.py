"""``register()``: words for blocks of this package in Ultralytics' configurations.

A row that has such a word is built as its plain kin, by Ultralytics' own ``parse_model``, which decides by identity what is
scaled how, and then becomes the block that was meant. So width, depth, channel limits and everything else that depends on the
scale are those of the kin, in every version.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import ultralytics
from torch import nn
from ultralytics.nn import tasks
from ultralytics.utils import dist

from saconv_surgeon.errors import ModelError, UsageError
from saconv_surgeon.integrations.ultralytics.configured_blocks import WORDS, Word
from saconv_surgeon.integrations.ultralytics.configured_rows import ATTRIBUTE

Parse = Callable[..., tuple[nn.Sequential, list[int]]]
MARK = "saconv_surgeon_registers"
"""The attribute by which the functions that ``register()`` puts in place are known."""
WORKER = "    sys.path = "
"""The line of a worker's script after which imports are possible."""


class ConfiguredRows(dict[int, str]):
    """By the index of a row, the word that its configuration has for it.

    Unpickling it registers the words: a checkpoint that needs them brings them along.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return unpickled_rows, (dict(self),)

    def __deepcopy__(self, memo: dict[int, Any]) -> ConfiguredRows:
        return ConfiguredRows(self)


def unpickled_rows(content: dict[int, str]) -> ConfiguredRows:
    """The rows that a pickle holds; registers the words."""
    register()
    return ConfiguredRows(content)


def register() -> None:
    """Lets YAML files of Ultralytics models say ``SAConv2d``, ``SAConvBlock``, ``C2f_SAConv`` and ``C3k2_SAConv``.

    Arguments and scaling are those of ``Conv``, ``Conv``, ``C2f`` and ``C3k2``; plain rows are built as ever. ``SAConv2d`` is
    the bare convolution, with a bias, without norm and activation. A checkpoint of such a model registers the words by itself
    when it is loaded. Calling it again does nothing. :func:`unregister` is the way back.

    Raises:
        ModelError: This version of Ultralytics does not build models as expected; nothing was changed.
    """
    if is_registered():
        return
    stock = tasks.parse_model
    parse = _with_words(stock)
    _check(parse)
    for module in (tasks, ultralytics.nn):
        if getattr(module, "parse_model", None) is stock:
            module.parse_model = parse
    write = getattr(dist, "generate_ddp_file", None)
    if write is not None:
        dist.generate_ddp_file = _with_registration(write)


def unregister() -> None:
    """Undoes :func:`register`. Models that are built already stay as they are."""
    for module, name in ((tasks, "parse_model"), (ultralytics.nn, "parse_model"), (dist, "generate_ddp_file")):
        function: Any = getattr(module, name, None)
        if hasattr(function, MARK):
            setattr(module, name, function.__wrapped__)


def is_registered() -> bool:
    """Whether configurations may use the words now."""
    return hasattr(tasks.parse_model, MARK)


def _with_words(stock: Parse) -> Parse:
    @functools.wraps(stock)
    def parse_model(d: dict[str, Any], ch: int, verbose: bool = True) -> tuple[nn.Sequential, list[int]]:
        d = {**d, **{part: [list(row) for row in d[part]] for part in ("backbone", "head")}}
        rows = [*d["backbone"], *d["head"]]
        named = {i: row[2] for i, row in enumerate(rows) if row[2] in WORDS}
        for i, word in named.items():
            _check_arguments(word, rows[i][3])
            rows[i][2] = WORDS[word].kin.__name__
        model, save = stock(d, ch, verbose)
        for i, word in named.items():
            model[i] = _in_place_of(model[i], word)
        if named:
            setattr(model, ATTRIBUTE, ConfiguredRows(named))
            if verbose:
                listed = ", ".join(f"{word} at {i} ({model[i].np} parameters)" for i, word in named.items())
                tasks.LOGGER.info(f"built in place of their plain kin: {listed}")
        return model, save

    setattr(parse_model, MARK, True)
    return parse_model


def _check_arguments(word: str, arguments: list[Any]) -> None:
    most = WORDS[word].most_arguments
    if most is not None and len(arguments) > most:
        names = ("c2", "k", "s", "p", "g", "d", "act")[:most]
        raise UsageError(f"{word} takes at most [{', '.join(names)}] in a YAML; got {arguments}")


def _in_place_of(plain: nn.Module, word: str) -> nn.Module:
    """The block that ``word`` means, with what ``parse_model`` attaches to a row."""
    meant = WORDS[word]
    repeated = type(plain) is nn.Sequential
    blocks = [_made_from(part, meant) for part in (plain.children() if repeated else [plain])]
    block: Any = nn.Sequential(*blocks) if repeated else blocks[0]
    block.i, block.f = plain.i, plain.f
    block.type = f"{meant.result.__module__}.{meant.result.__qualname__}"
    block.np = sum(p.numel() for p in block.parameters())
    return block


def _made_from(plain: nn.Module, meant: Word) -> nn.Module:
    if type(plain) is not meant.kin:
        raise ModelError(
            f"Ultralytics {ultralytics.__version__} built a {type(plain).__name__} for {meant.kin.__name__}, of which "
            f"{meant.result.__name__} is made; was a name in ultralytics.nn.tasks replaced?"
        )
    return meant.made_from(plain)


def _check(parse: Parse) -> None:
    """Builds, without weights, one row of each word, and compares what the scale must have done."""
    rows = [[-1, 4, word, [64, 3] if meant.most_arguments else [64]] for word, meant in WORDS.items()]
    scaled = {"nc": 1, "depth_multiple": 0.5, "width_multiple": 0.25, "backbone": rows, "head": []}
    try:
        with torch.device("meta"):
            built: Any = parse(scaled, 3, False)[0]
        channels = [built[0][0].in_channels, *(part.out_channels for row in built[:2] for part in row)]
        channels += [built[2].cv2.conv.out_channels, built[3].cv2.conv.out_channels]
        depths = [len(built[0]), len(built[1]), len(built[2].m), len(built[3].m)]
        if channels != [3, 16, 16, 16, 16, 16, 16] or depths != [2, 2, 2, 2]:
            raise ValueError(f"a quarter of 64 channels became {channels[1:]}, half of 4 repeats {depths}")
    except Exception as error:
        raise ModelError(
            f"Ultralytics {ultralytics.__version__} does not build configurations in the way that register() relies on "
            f"({type(error).__name__}: {error}); build the plain model and convert it with "
            "saconv_surgeon.convert, or use another version"
        ) from error


def _with_registration(stock: Callable[..., str]) -> Callable[..., str]:
    @functools.wraps(stock)
    def generate_ddp_file(trainer: Any) -> str:
        """As Ultralytics does; the script of the workers, which are new processes, registers the words."""
        file = stock(trainer)
        path = Path(file)
        lines = path.read_text(encoding="utf-8").splitlines()
        place = next((i for i, line in enumerate(lines) if line.startswith(WORKER)), None)
        if place is None:
            raise ModelError(
                f"Ultralytics {ultralytics.__version__} writes another kind of script for training on several devices; it "
                "cannot be told of the blocks that the YAML names. Train on one device"
            )
        lines.insert(place + 1, f"    from {__package__} import register\n    register()")
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return file

    setattr(generate_ddp_file, MARK, True)
    return generate_ddp_file
