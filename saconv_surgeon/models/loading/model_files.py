"""Modules in files: exported programs, pickled modules, and checkpoints that hold one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from saconv_surgeon.errors import ModelError, UntrustedError, first_line
from saconv_surgeon.models.archive_check import check_archive
from saconv_surgeon.models.exported.read_program import Program, read_program
from saconv_surgeon.models.loading.checkpoints import MODELS
from saconv_surgeon.models.loading.factories import is_place
from saconv_surgeon.models.loading.libraries.known_libraries import usual_inputs
from saconv_surgeon.models.loading.weight_files import check_file, is_torchscript, read_pickle

EXPORT_HINT = (
    "where its code is at hand, give the code as MODEL with --weights; or export the model that it was made from with "
    "torch.export.save(torch.export.export(model.eval(), (inputs,)), 'model.pt2') and give that"
)


@dataclass(frozen=True, eq=False)
class ModelFile:
    """A module and what its file holds besides."""

    module: nn.Module
    example_inputs: Callable[[], Any] | None = None
    checkpoint: Mapping[str, Any] | None = None
    program: Program | None = None


def read_model_file(path: Path, *, trust: bool) -> ModelFile:
    """The module in ``path``.

    Raises:
        UntrustedError: It runs code when it is loaded, and ``trust`` was not given.
        ModelError: It cannot be read, or holds no module; says what to do with what it holds.
    """
    if path.suffix == ".safetensors" or path.name.endswith(".safetensors.index.json"):
        raise ModelError(f"{path} holds weights only; give the code as MODEL and this file as --weights {path}")
    if path.suffix == ".onnx":
        raise ModelError(f"{path} is an ONNX graph, whose convolutions are not PyTorch modules; {EXPORT_HINT}")
    if not is_place(path, Path.exists):
        raise ModelError(f"{path} does not exist (looked in {path.absolute().parent})")
    check_file(path)
    if path.suffix == ".pt2":
        program = read_program(path, trust=trust)
        inputs = program.inputs
        return ModelFile(program.module, None if inputs is None else lambda: inputs, program=program)
    if is_torchscript(path):
        return ModelFile(_read_script(path, trust))
    content = read_pickle(path, trust=trust)
    module = _module_in(content, path)
    return ModelFile(module, usual_inputs(module), content if isinstance(content, Mapping) else None)


def _read_script(path: Path, trust: bool) -> nn.Module:
    """The TorchScript module in ``path``, which is only good for :func:`program_of_script`."""
    if not trust:
        raise UntrustedError(
            f"{path} is a TorchScript archive, which is code. If you trust whoever made the file, give --trust, and torch's own "
            f"converter makes a program of it; better, since PyTorch has deprecated TorchScript: {EXPORT_HINT}"
        )
    check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.jit.load(path, map_location="cpu")
    except Exception as error:
        raise ModelError(
            f"{path} is not a readable TorchScript archive ({first_line(error)}); {EXPORT_HINT}"
        ) from error


def _module_in(content: Any, path: Path) -> nn.Module:
    if isinstance(content, nn.Module):
        return content
    if isinstance(content, Mapping):
        for name in MODELS:
            if isinstance(content.get(name), nn.Module):
                return content[name]
        if any(isinstance(value, Mapping) or hasattr(value, "shape") for value in content.values()):
            raise ModelError(f"{path} holds weights only; give the code as MODEL and this file as --weights {path}")
    raise ModelError(f"{path} holds a {type(content).__name__} without a model in it; a torch.nn.Module is needed")
