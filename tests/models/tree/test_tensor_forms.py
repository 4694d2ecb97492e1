"""Values of a state dict, taken apart and put together."""

import json
import warnings

import pytest
import torch

from saconv_surgeon.models.tree.tensor_forms import FormError, is_plain, overlaps, put_together, taken_apart

EYE = torch.eye(4)
SCALES, ZEROS = torch.tensor([0.1, 0.2], dtype=torch.float64), torch.zeros(2, dtype=torch.int64)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # torch calls sparse and quantised tensors beta


def cases():
    """Values of every kind, by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _cases()


def _cases():
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    return {
        "coo": EYE.to_sparse(),
        "coo, not coalesced": torch.sparse_coo_tensor(torch.tensor([[0, 0], [1, 1]]), torch.tensor([1.0, 2.0]), (2, 2)),
        "coo, empty": torch.zeros(3, 3).to_sparse(),
        "coo, complex": (EYE * 1j).to_sparse(),
        "csr": EYE.to_sparse_csr(),
        "csc": EYE.to_sparse_csc(),
        "bsr": EYE.to_sparse_bsr(2),
        "bsc": EYE.to_sparse_bsc(2),
        "complex64": torch.complex(x, x + 1).conj(),
        "complex128": torch.tensor(2 + 3j, dtype=torch.complex128),
        "quantised": torch.quantize_per_tensor(x, 0.1, 3, torch.quint8),
        "quantised by channel": torch.quantize_per_channel(x, SCALES, ZEROS, 0, torch.qint8),
        "expanded": torch.ones(1, 1, 3, 3).expand(4, 1, 3, 3),
        "windows": torch.arange(10.0).unfold(0, 4, 1),
        "expanded complex": torch.tensor(1j).expand(3),
        "float8": x.to(torch.float8_e4m3fn),
        "uint16": torch.tensor([1, 65535]).to(torch.uint16),
        "tuple": (x, None, torch.qint8, torch.per_tensor_affine, [1.5, "a", {"k": EYE.to_sparse()}]),
        "transposed": x.t(),
        "zero-size": torch.zeros(0, 3),
        "number": torch.tensor(2.0),
        "bool": torch.tensor([True, False]),
    }


def described(value):
    """What a value is, in words: oracle of equality over every layout."""
    if isinstance(value, (list, tuple)):
        return [type(value), *map(described, value)]
    if isinstance(value, dict):
        return {key: described(item) for key, item in value.items()}
    if not isinstance(value, torch.Tensor):
        return value
    if value.is_quantized:
        return (str(value), value.int_repr().tolist())
    stride = value.stride() if value.layout is torch.strided and overlaps(value) else None
    dense = value.to_dense() if value.layout is not torch.strided else value
    return (value.layout, value.dtype, tuple(value.shape), stride, dense.tolist())


@pytest.mark.parametrize("name", cases())
def test_back_to_the_bit(name):
    value = cases()[name]
    form, tensors = taken_apart(value, "key")
    assert all(is_plain(tensor) for tensor in tensors.values())
    again = tensors["key"] if form is None else put_together(json.loads(json.dumps(form)), tensors)
    assert described(again) == described(value)
    assert (form is None) == is_plain(value)


def test_expanded_ones_are_stored_once():
    _, tensors = taken_apart(torch.ones(1, 1, 3, 3).expand(400, 1, 3, 3), "key")
    assert sum(t.numel() for t in tensors.values()) == 9


@pytest.mark.parametrize(
    "value", [object(), {1: EYE}, float("nan"), torch.nested.nested_tensor([EYE], layout=torch.jagged)]
)
def test_what_has_no_form(value):
    with pytest.raises(FormError):
        taken_apart(value, "key")


@pytest.mark.parametrize(
    "form",
    [
        {"kind": "strided", "size": [100], "stride": [1], "memory": {"kind": "plain", "tensor": "t"}},
        {"kind": "plain", "tensor": "other"},
        {"kind": "bytes", "dtype": "float64", "size": [9], "raw": {"kind": "plain", "tensor": "t"}},
        {"kind": "dtype", "name": "load"},
        {"kind": "code"},
        {},
        [],
    ],
)
def test_forms_that_do_not_fit(form):
    with pytest.raises(FormError):
        put_together(form, {"t": torch.ones(4)})
