"""Real models of real libraries. ``make zoo`` runs them all and writes ``docs/zoo.md``."""

import importlib
import json
import os
from pathlib import Path

import pytest
import torch

from tests.zoo.catalogue import entries
from tests.zoo.examine import examine

pytestmark = [pytest.mark.zoo, pytest.mark.filterwarnings("ignore")]
PACKAGES = {"smp": "segmentation_models_pytorch"}
RESULTS = os.environ.get("ZOO_RESULTS")
CATALOGUE = entries()
FIRST_OF_FAMILY = {
    next(e.spec for e in CATALOGUE if (e.library, e.family) == key)
    for key in {(e.library, e.family) for e in CATALOGUE}
}


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.spec)
def test_every_convolution_is_accounted_for_and_no_output_moves(entry):
    package = PACKAGES.get(entry.library, entry.library)
    try:
        importlib.import_module(package)
    except Exception as error:
        pytest.skip(f"{package} cannot be imported: {error}")
    torch.set_num_threads(1)
    try:
        row = examine(entry, deep=entry.spec in FIRST_OF_FAMILY)
    except Exception as error:
        keep(
            {
                "library": entry.library,
                "family": entry.family,
                "model": entry.spec,
                "error": f"{type(error).__name__}: {error}",
            },
            entry,
        )
        raise
    keep(row, entry)


def keep(row, entry):
    if RESULTS:
        folder = Path(RESULTS)
        folder.mkdir(parents=True, exist_ok=True)
        name = "".join(c if c.isalnum() or c in "-._" else "_" for c in f"{entry.spec}@{entry.size or ''}")
        (folder / f"{name}.json").write_text(json.dumps(row))
