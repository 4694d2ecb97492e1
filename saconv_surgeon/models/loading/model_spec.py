"""From what a user types as MODEL to a module, and what it is run on."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from saconv_surgeon.errors import ModelError, UsageError
from saconv_surgeon.models.exported.read_program import Program
from saconv_surgeon.models.loading.factories import import_source, is_place, made_by, split_factory
from saconv_surgeon.models.loading.libraries.known_libraries import LIBRARIES, make_model, split_library
from saconv_surgeon.models.loading.model_files import read_model_file
from saconv_surgeon.models.loading.offered_factories import listed, source_of
from saconv_surgeon.models.loading.weight_files import read_weights
from saconv_surgeon.models.loading.weight_fitting import fit_weights
from saconv_surgeon.records import Plan

FORMS = (
    "MODEL is file.py:factory, package.module:factory(arguments), a library's name for a model ("
    + ", ".join(f"{name}:…" for name in LIBRARIES)
    + "), an exported program (model.pt2), a pickled model.pt (with --trust), or the folder of an earlier conversion"
)
MODEL_FILES = (".pt", ".pth", ".ckpt", ".bin", ".pt2", ".onnx", ".safetensors", ".torchscript", ".ts")


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A module, the name that the user gave it, and what came with it.

    ``example_inputs`` gives inputs that its source offers, if any; ``checkpoint`` is the dict that the module was found in, and
    ``program`` the exported program that it was made from. ``earlier`` is the plan of an earlier conversion, ``batch_axis``
    that of its inputs. ``guarded`` says that its first run has to be a guarded one: it is a program that nobody vouched for.
    """

    module: nn.Module
    name: str
    example_inputs: Callable[[], Any] | None = None
    checkpoint: Mapping[str, Any] | None = None
    program: Program | None = None
    batch_axis: int = 0
    earlier: Plan | None = None
    guarded: bool = False


def load_model(spec: str, *, weights: Path | None = None, trust: bool = False, pretrained: bool = False) -> LoadedModel:
    """The model that ``spec`` stands for, with ``weights`` loaded into it.

    Raises:
        ModelError: It cannot be found or loaded, is no module, or the weights do not fit.
        UntrustedError: A file that runs code when loaded, without ``trust``.
        UserCodeError: The user's own code raised.
        UsageError: ``pretrained`` for something that is not a library's model.
    """
    loaded = _load(spec, trust, pretrained)
    if weights is not None:
        fit_weights(loaded.module, read_weights(weights, trust=trust), str(weights))
    return loaded


def is_data(spec: str) -> bool:
    """Whether loading ``spec`` without trust runs no code but a library's own: a file, or a published name without arguments."""
    library = split_library(spec)
    return is_place(Path(spec), Path.is_file) or (
        library is not None and re.fullmatch(r"[\w.-]+", library[1]) is not None
    )


def _load(spec: str, trust: bool, pretrained: bool) -> LoadedModel:
    path = Path(spec)
    is_file = is_place(path, Path.is_file)
    library = None if is_file else split_library(spec)
    if library is not None:
        return _from_library(*library, spec, trust, pretrained)
    if pretrained:
        raise UsageError(
            f"--pretrained is for a library's models ({', '.join(LIBRARIES)}); load weights with --weights FILE"
        )
    factory = None if is_file else split_factory(spec)
    if factory is not None:
        return _from_factory(*factory, spec)
    if is_file and path.suffix == ".json":
        raise ModelError(f"{spec} is a report, not a model; reports go to diff, two at a time, or to profile --compare")
    check_names_factory(spec)
    if path.suffix == ".py":
        raise ModelError(f"{path} does not exist (looked in {path.absolute().parent})")
    if not is_place(path, Path.exists) and path.suffix not in MODEL_FILES:
        raise ModelError(f"there is no model {spec!r}; {FORMS}")
    found = read_model_file(path, trust=trust)
    guarded = found.program is not None and not trust
    return LoadedModel(found.module, spec, found.example_inputs, found.checkpoint, found.program, guarded=guarded)


def check_names_factory(spec: str) -> None:
    """Checks that ``spec`` is not the code of a model alone, without the factory in it; its code is read, not run.

    Raises:
        ModelError: It is; lists what may be meant.
    """
    bare = spec.rstrip(":")
    if bare in LIBRARIES:
        raise ModelError(f"{bare} is a library; name one of its models, as in {bare}:name")
    place, _, rest = bare.partition(".py:")
    name = rest or None
    source = f"{place}.py" if name else bare
    file = Path(source)
    if is_place(file / "__init__.py", Path.is_file):
        file = file / "__init__.py"
        source = ".".join(file.parent.parts) if not file.is_absolute() and ".." not in file.parts else str(file)
    elif file.suffix != ".py" and not is_place(file, Path.exists):
        beside = is_place(Path(f"{bare}.py"), Path.is_file)
        found = source_of(bare) if re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", bare) else None
        file, source = (Path(f"{bare}.py"), f"{bare}.py") if beside else (found or file, source)
    if file.suffix != ".py" or not is_place(file, Path.is_file):
        return
    what = f"there is no factory {name!r} in {source}" if name else f"{spec} is code without the name of a factory"
    raise ModelError(
        f"{what}; give {source}:factory, a function or class that returns the model; {listed(source, file, name)}"
    )


def _from_library(prefix: str, expression: str, spec: str, trust: bool, pretrained: bool) -> LoadedModel:
    module, inputs = make_model(prefix, expression, pretrained=pretrained, trust=trust)
    return LoadedModel(module, spec, inputs)


def _from_factory(source: str, expression: str, spec: str) -> LoadedModel:
    made = made_by(source, expression, spec)
    if not isinstance(made, nn.Module):
        raise ModelError(
            f"{spec} gave a {type(made).__name__}; a torch.nn.Module is needed (did the factory forget to return it?)"
        )
    offered = getattr(import_source(source), "example_inputs", None)
    return LoadedModel(made, spec, offered if callable(offered) else None)
