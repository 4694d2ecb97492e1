"""The fingerprint of a model."""

import pytest
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


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_parts_of_packed_and_sparse_values_count():
    import torch.ao.nn.quantized as quantised

    from saconv_surgeon.models.tree.fingerprint import fingerprint

    def packed(first):
        linear = quantised.Linear(2, 1)
        linear.set_weight_bias(
            torch.quantize_per_tensor(torch.tensor([[first, 1.0]]), 0.1, 0, torch.qint8), torch.ones(1)
        )
        return linear

    def sparse(value):
        model = torch.nn.Module()
        model.register_buffer("held", torch.tensor([[0.0, value]]).to_sparse_csr())
        return model

    for make in (packed, sparse):
        assert fingerprint(make(0.5)) == fingerprint(make(0.5)) != fingerprint(make(0.6))
