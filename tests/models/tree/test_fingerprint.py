"""The fingerprint of a model."""

import torch

from saconv_surgeon.models.tree.fingerprint import fingerprint
from tests import nets


def test_fingerprint_sees_values_and_not_layout():
    torch.manual_seed(0)
    model = nets.chain()
    first = fingerprint(model)
    assert fingerprint(model.to(memory_format=torch.channels_last)) == first
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] += 1e-6
    assert fingerprint(model) != first
    assert fingerprint(nets.chain().bfloat16()) != first
