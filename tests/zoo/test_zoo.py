"""Real models of real libraries. ``make zoo`` runs them all and writes ``docs/zoo.md``."""

import importlib
import json
import os
from pathlib import Path

import pytest
import torch

from tests.zoo.catalogue import entries, programs
from tests.zoo.examine import examine, examine_program

pytestmark = [pytest.mark.zoo, pytest.mark.filterwarnings("ignore")]
PACKAGES = {"smp": "segmentation_models_pytorch"}
RESULTS = os.environ.get("ZOO_RESULTS")
CATALOGUE = entries()
FIRST_OF_FAMILY = {
    next(e.spec for e in CATALOGUE if (e.library, e.family) == key)
    for key in {(e.library, e.family) for e in CATALOGUE}
}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.spec)
def test_every_convolution_is_accounted_for_and_no_output_moves(entry):
    needs(entry)
    kept(entry, "models", lambda: examine(entry, deep=entry.spec in FIRST_OF_FAMILY))


@pytest.mark.parametrize("entry", programs(), ids=lambda entry: entry.spec)
def test_exported_programs_are_converted_without_their_source(entry, tmp_path):
    needs(entry)
    kept(entry, "programs", lambda: examine_program(entry, tmp_path))


def needs(entry):
    needs_library(entry.library)


def needs_library(library):
    package = PACKAGES.get(library, library)
    try:
        importlib.import_module(package)
    except Exception as error:
        pytest.skip(f"{package} cannot be imported: {error}")


def kept(entry, kind, look):
    """Runs ``look`` and keeps the row that it gives, or what it raised, for the table."""
    try:
        row = look()
    except Exception as error:
        row = {"library": entry.library, "family": entry.family, "model": entry.spec}
        keep(row | {"error": f"{type(error).__name__}: {error}"}, entry, kind)
        raise
    keep(row, entry, kind)


def keep(row, entry, kind):
    if RESULTS:
        folder = Path(RESULTS) / kind
        folder.mkdir(parents=True, exist_ok=True)
        name = "".join(c if c.isalnum() or c in "-._" else "_" for c in f"{entry.spec}@{entry.size or ''}")
        (folder / f"{name}.json").write_text(json.dumps(row))
