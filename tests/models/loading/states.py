"""State dicts to load."""

import torch

from saconv_surgeon.models.loading.model_spec import load_model
from tests import nets

SPEC = "tests/nets.py:chain"


def state(seed=5):
    torch.manual_seed(seed)
    return nets.chain().state_dict()


def loaded_equals(path, wanted):
    found = load_model(SPEC, weights=path).module.state_dict()
    return all(torch.equal(found[name], wanted[name]) for name in wanted)
