"""Configurations in files: no number beyond any model's, no name but that of a model."""

import json
import os

import pytest

from saconv_surgeon.errors import ModelError
from saconv_surgeon.models.loading.libraries.checked_settings import check_settings
from saconv_surgeon.models.loading.model_spec import load_model


@pytest.mark.parametrize(
    "content",
    [
        {"num_hidden_layers": 10**9},
        {"depths": [3, 4, 10**6, 3]},
        {"backbone_config": {"hidden_sizes": [64, 10**9]}},
        {"n_layers": -(10**9)},
        {"image_size": 10**18},
    ],
)
def test_numbers_beyond_any_model(tmp_path, content):
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match="more than any model"):
        check_settings(tmp_path / "config.json")


def test_a_fifo(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(ModelError, match="FIFO"):
        check_settings(tmp_path / "config.json")


def test_what_models_have(tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps(
            {"depths": [3, 4, 6, 3], "vocab_size": 256_000, "eps": 1e-12, "id2label": {"0": "cat"}, "flag": True}
        )
    )
    check_settings(tmp_path / "config.json")


@pytest.mark.zoo
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "architectures",
    [["pipeline"], ["Trainer"], ["logging"], ["AutoModel"], ["no_such"], [5], [[]], ["__version__"], []],
)
def test_architectures_that_are_no_models(tmp_path, architectures):
    """The class that transformers has for the configuration is taken instead."""
    pytest.importorskip("transformers")
    settings = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1]}
    (tmp_path / "config.json").write_text(json.dumps({**settings, "architectures": architectures}))
    assert type(load_model(f"transformers:{tmp_path}").module).__name__ == "ResNetForImageClassification"


@pytest.mark.zoo
@pytest.mark.filterwarnings("ignore")
def test_code_beside_a_configuration(tmp_path):
    pytest.importorskip("transformers")
    (tmp_path / "evil.py").write_text(
        f"import os\nos.mkdir({str(tmp_path / 'mark')!r})\nclass M: pass\nclass C: pass\n"
    )
    settings = {
        "model_type": "own",
        "auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.M"},
        "architectures": ["M"],
    }
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError):
        load_model(f"transformers:{tmp_path}")
    assert not (tmp_path / "mark").exists()
