"""Archives that unpack to too much, or hold an entry twice."""

import zipfile

import pytest
import torch

from tests.models.hostile_files import as_model, as_weights, rezip, state


def zip_bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * (96 * 2**20))


def test_zip_bombs(place):
    for name in ("bomb.pt", "bomb.pt2"):
        zip_bomb(place / name)
        assert (place / name).stat().st_size < 2**20
        assert "would unpack to" in as_model(place, name)
    assert "would unpack to" in as_weights(place, "bomb.pt")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_entries_twice(place):
    torch.save(state(), place / "whole.pt")
    with zipfile.ZipFile(place / "whole.pt") as archive:
        first = archive.namelist()[0]
    rezip(place / "whole.pt", place / "twice.pt", twice=(first,))
    assert "entries twice" in as_weights(place, "twice.pt")
