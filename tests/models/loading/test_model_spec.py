"""MODEL arguments: what is found, and one clear sentence for each thing that is not."""

import pytest
from torch import nn

from saconv_surgeon.errors import ModelError, UsageError, UserCodeError
from saconv_surgeon.models.loading.model_spec import load_model


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("absent.py:build", ModelError, "absent.py does not exist"),
        ("nets_of_mine.py:biuld", ModelError, "has no 'biuld'; did you mean 'build'"),
        ("nets_of_mine.py:zzz", ModelError, "has no 'zzz'; it has"),
        (
            "nets_of_mine.py:build(1, 2, 3)",
            ModelError,
            r"cannot be called so: too many positional arguments; its signature is build\(depth=1",
        ),
        ("nets_of_mine.py:build(size=3)", ModelError, "unexpected keyword argument 'size'"),
        ("nets_of_mine.py:build(open('x'))", UsageError, "expected a name, or a call with literal arguments"),
        ("nets_of_mine.py:build)", UsageError, "cannot read"),
        ("nets_of_mine.py:number", ModelError, "is a int; a function that returns a model"),
        ("nets_of_mine.py:forgot", ModelError, "gave a NoneType; a torch.nn.Module is needed"),
        ("nets_of_mine.py:inputs", ModelError, "gave a dict"),
        ("nets_of_mine.py:broken", UserCodeError, "raised RuntimeError: my own fault"),
        ("nets_of_mine.py:wrong_type_inside", UserCodeError, "raised TypeError"),
        ("broken_import.py:build", UserCodeError, "No module named 'nowhere_to_be_found'"),
        ("syntax.py:build", UserCodeError, "SyntaxError"),
        ("no.such.package:build", ModelError, "there is no module 'no' to import"),
        ("resnet18", ModelError, "there is no model 'resnet18'; MODEL is"),
        ("absent.pt", ModelError, "absent.pt does not exist"),
        ("w.safetensors", ModelError, "holds weights only"),
        ("m.pt2", ModelError, "m.pt2 does not exist"),
    ],
)
def test_each_mistake_has_its_sentence(folder, spec, error, message):
    with pytest.raises(error, match=message):
        load_model(spec)


def test_module_given_directly_is_found_in_modules():
    assert isinstance(load_model("torch.nn:Conv2d(3, 3, kernel_size=3)").module, nn.Conv2d)
