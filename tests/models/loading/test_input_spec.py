"""Inputs as a user types them, or as the model's source offers them."""

import pytest
import torch

from saconv_surgeon.errors import UsageError
from saconv_surgeon.models.loading.input_spec import make_inputs, offered_inputs
from saconv_surgeon.models.loading.model_spec import load_model


def test_inputs_from_sizes_and_functions(folder):
    inputs = make_inputs(("1x3x8x8", "2x5"), seed=0)
    assert inputs.shapes == ((1, 3, 8, 8), (2, 5))
    assert torch.equal(inputs.args[0], make_inputs(("1x3x8x8", "2x5"), seed=0).args[0])
    assert not torch.equal(inputs.args[0], make_inputs(("1x3x8x8", "2x5"), seed=1).args[0])
    assert make_inputs(("nets_of_mine.py:inputs",), seed=0).kwargs["x"].shape == (1, 3, 8, 8)


@pytest.mark.parametrize("specs", [("1x3xHxW",), ("",), ("1x3x8x8", "nets_of_mine.py:inputs")])
def test_inputs_that_make_no_sense(folder, specs):
    with pytest.raises(UsageError, match="is neither a size such as 1x3x224x224"):
        make_inputs(specs, seed=0)


def test_model_without_inputs_says_how_to_give_them(folder):
    with pytest.raises(UsageError, match="no inputs to run it on; give --input 1x3x224x224"):
        offered_inputs(load_model("nets_of_mine.py:build"))
