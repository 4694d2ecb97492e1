"""Good files with a few bytes changed: read or refused, never anything else, and what is read is of the right kind."""

import random
import warnings

import pytest
import torch

from saconv_surgeon.errors import ModelError
from saconv_surgeon.models.loading.weight_files import read_pickle
from tests.models.pickles.benign import WRITERS, written_here

FILES = (
    "timm",
    "timm, before 1.6",
    "mmengine",
    "sparse",
    "quantized",
    "objects",
    "arrays",
    "detectron2 pkl, protocol 4",
)
ROUNDS = 60


@pytest.mark.parametrize("name", FILES)
def test_changed_bytes(tmp_path, name):
    path = tmp_path / "m.pt"
    with written_here():
        WRITERS[name](path)
    whole, dice = path.read_bytes(), random.Random(name)
    pickled = [i for i in range(len(whole)) if whole[i : i + 4] in (b"PK\\1\\2", b"PK\\3\\4")] or [0]
    ends = {"read": 0, "refused": 0}
    for _ in range(ROUNDS):
        content = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            place = dice.choice(
                (dice.randrange(len(content)), dice.randrange(min(3000, len(content))), dice.choice(pickled))
            )
            content[place] = dice.choice((dice.randrange(256), *b"(.)tRbcu0a\\x93\\x81\\x85Q"))
        path.write_bytes(bytes(content[: dice.choice((len(content), len(content), dice.randrange(len(content))))]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                assert isinstance(read_pickle(path, trust=False), (dict, torch.Tensor, list, tuple, object))
                ends["read"] += 1
            except ModelError:
                ends["refused"] += 1
    assert ends["refused"]
