"""Small models of a library that needs no other, so that every run of the tests meets code that it was not written for."""

import pytest

from tests.zoo.catalogue import Entry
from tests.zoo.examine import examine

pytestmark = pytest.mark.filterwarnings("ignore")

SMALL = {
    # what to build it with, at which size; convolutions executed and converted, counted by hand
    "ResNetForImageClassification": ("embedding_size=8,hidden_sizes=[8,16],depths=[1,2],layer_type='basic'", 64, 8, 7),
    # stem; per bottleneck 3 and a shortcut; all of a class of their own
    "BitForImageClassification": ("embedding_size=8,hidden_sizes=[32,32],depths=[1,1],num_groups=4", 64, 9, 0),
    # stem 4×4, three 2×2 between the stages, a depthwise 7×7 in each
    "ConvNextForImageClassification": ("hidden_sizes=[8,8,8,8],depths=[1,1,1,1]", 64, 8, 4),
    # per stage an embedding and a depthwise 3×3, a reduction in three of them; two 1×1 in the head
    "SegformerForSemanticSegmentation": (
        "hidden_sizes=[8,8,8,8],depths=[1,1,1,1],decoder_hidden_size=16,num_attention_heads=[1,1,1,1]",
        *(64, 13, 7),
    ),
    "YolosForObjectDetection": (
        "image_size=[64,64],hidden_size=32,num_hidden_layers=1,num_attention_heads=2,intermediate_size=32",
        *(64, 1, 1),
    ),
    # stem; 7 inverted residuals of 3; 3 blocks of 4, two of them 3×3; head: 3 atrous 3×3 and 4 of 1×1
    "MobileViTForSemanticSegmentation": ("neck_hidden_sizes=[8,8,16,16,16,16,32],hidden_sizes=[16,24,32]", 64, 41, 10),
    # backbone: stem 3, 16 bottlenecks of 3, 4 shortcuts; encoder: 3 + 2 + 2 + 4 blocks of 2 and 3 RepVGG pairs; 3 for the decoder
    "RTDetrForObjectDetection": ("num_queries=20,decoder_layers=1", 64, 97, 33),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * name.startswith("RTDetr")) for name in SMALL]
)
def test_small_models_of_transformers(name):
    transformers = pytest.importorskip("transformers")
    try:
        getattr(transformers, name)
    except Exception as error:  # another library that it finds does not import
        pytest.skip(f"{name}: {error}")
    arguments, size, executed, converted = SMALL[name]
    row = examine(Entry("transformers", "slice", f"transformers:{name}({arguments})", f"1x3x{size}x{size}"), deep=True)
    assert row["bit_equal"]
    assert (row["executed"], row["converted"]) == (executed, converted)
    if converted:
        assert row["oracle_layers"]
