"""Which part is which: only what really differs is said, and every part has its place."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from saconv_surgeon.comparing import aligning
from saconv_surgeon.comparing.aligning import align
from saconv_surgeon.comparing.part_distance import DIFFERENT, SIMILAR
from saconv_surgeon.comparing.part_tree import tree_of
from saconv_surgeon.comparing.parts_of_model import tree
from saconv_surgeon.comparing.structure_changes import changes_of, layer_pairs
from sample_models import tiny_resnet, tiny_unet, tiny_yolo


def changes(a, b):
    return changes_of(align(tree(a), tree(b)))


def said(a, b):
    return {(c.change, c.path, c.new_path) for c in changes(a, b)}


class Deep(nn.Module):
    """150 layers in one Sequential, then a head."""

    def __init__(self, body, head="fc"):
        super().__init__()
        self.body = nn.Sequential(*body)
        self.add_module(head, nn.Linear(8, 10))


def body():
    return [m for _ in range(50) for m in (nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())]


def test_150_layers_one_inserted_one_renamed_one_reshaped():
    other = body()
    other.insert(60, nn.Dropout(0.1))
    other[100] = nn.Conv2d(8, 8, 5, padding=2)  # number 99 of the original, since one was inserted before it
    found = changes(Deep(body()), Deep(other, head="head"))
    assert {(c.change, c.path, c.new_path) for c in found} == {
        ("added", "body.60", None),
        ("changed", "body.99", "body.100"),
        ("renamed", "fc", "head"),
    }
    assert len(found) == 3
    assert found[0].b == "Dropout(p=0.1, inplace=False)"


@pytest.mark.parametrize("build", [tiny_resnet.build, tiny_unet.build, tiny_yolo.build, lambda: Deep(body())])
def test_model_and_itself_have_no_difference(build):
    model = build()
    assert changes(model, model) == ()
    assert changes(model, build()) == ()


def test_inserted_block_is_found_where_it_is_by_the_weights_of_its_equals():
    layers = body()
    other = [*layers[:60], nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), *layers[60:]]
    assert said(Deep(layers), Deep(other)) == {("added", f"body.{i}", None) for i in (60, 61, 62)}


def test_weights_tell_equal_layers_apart_between_two_other_changes():
    layers = body()
    other = [*layers[:60], nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), *layers[60:]]
    other[0], other[-3] = nn.Conv2d(8, 8, 5, padding=2), nn.Conv2d(8, 8, 5, padding=2)
    added = {("added", f"body.{i}", None) for i in (60, 61, 62)}
    assert said(Deep(layers), Deep(other)) == {*added, ("changed", "body.0", None), ("changed", "body.147", "body.150")}


def test_removed_container_is_one_change():
    other = tiny_resnet.build()
    del other.layer3
    (found,) = changes(tiny_resnet.build(), other)
    assert (found.change, found.path, found.modules) == (
        "removed",
        "layer3",
        len(list(tiny_resnet.build().layer3.modules())),
    )


def test_renamed_container_is_one_change_and_a_change_inside_is_another():
    other = tiny_resnet.build()
    other.layer2[0].conv1 = nn.Conv2d(16, 32, 5, 2, 2, bias=False)
    other.stage2 = other.layer2
    del other.layer2
    assert said(tiny_resnet.build(), other) == {
        ("renamed", "layer2", "stage2"),
        ("changed", "layer2.0.conv1", "stage2.0.conv1"),
    }


def test_wrapped_model_is_its_own_part_of_the_wrapper():
    inner = tiny_resnet.build()
    wrapped = nn.Sequential(tiny_resnet.build(), nn.Softmax(1))
    assert said(inner, wrapped) == {("added", "", None), ("renamed", "", "0")}
    assert said(wrapped, inner) == {("removed", "", None), ("renamed", "0", "")}


def test_part_that_moved_to_another_parent():
    def build(where):
        model = nn.ModuleDict({"left": nn.ModuleDict(), "right": nn.ModuleDict()})
        model["left"]["a"], model["right"]["b"] = nn.Linear(2, 3), nn.Linear(5, 7)
        model[where]["mover"] = nn.Conv2d(4, 6, 3)
        return model

    assert said(build("left"), build("right")) == {("renamed", "left.mover", "right.mover")}


def test_numbered_names_that_shifted():
    def build(widths):
        model = nn.Module()
        for i, width in enumerate(widths):
            model.add_module(f"block{i + 1}", nn.Sequential(nn.Conv2d(width, width, 3), nn.BatchNorm2d(width)))
        return model

    found = said(build([8, 16, 32, 64]), build([4, 8, 16, 32, 64]))
    assert ("added", "block1", None) in found
    assert {c for c in found if c[0] != "added"} == {("renamed", f"block{i}", f"block{i + 1}") for i in range(1, 5)}


def test_activations_are_no_moves_and_other_classes_in_place_are_changes():
    a = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    b = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.SiLU())
    assert said(a, b) == {("changed", "1", None), ("changed", "2", None)}


def test_rows_are_paired_as_the_parts_are():
    other = body()
    other.insert(60, nn.Dropout(0.1))
    a, b = Deep(body()), Deep(other)
    paths = [[path for path, m in model.named_modules() if not list(m.children())] for model in (a, b)]
    pairs = layer_pairs(align(tree(a), tree(b)), *paths)
    assert len(pairs) == 152
    assert [p for p in pairs if p.change != "same"] == [pairs[60]]
    assert (pairs[60].a, pairs[60].b, pairs[60].change) == (None, "body.60", "added")
    assert (pairs[61].a, pairs[61].b) == ("body.60", "body.61")


KINDS = [("Conv2d", "8, 8"), ("Conv2d", "8, 16"), ("ReLU", ""), ("BatchNorm2d", "8"), ("Linear", "3, 4")]


def sequence(layers):
    return tree_of([("", "Net", "", ""), *((str(i), *layer, "") for i, layer in enumerate(layers))])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(KINDS), max_size=12), st.lists(st.sampled_from(KINDS), max_size=12))
def test_every_part_of_both_has_one_place(a, b):
    left, right = sequence(a), sequence(b)
    matches = align(left, right)
    assert sorted(m.a.path for m in matches if m.a) == sorted(p.path for p in left.walk())
    assert sorted(m.b.path for m in matches if m.b) == sorted(p.path for p in right.walk())
    assert not changes_of(align(left, left))
    # three replacements of a like kind cost 1.2 and come before an insertion and a deletion, which cost 2
    assert SIMILAR * len(changes_of(matches)) <= DIFFERENT * edits(a, b)
    assert bool(changes_of(matches)) == bool(edits(a, b))


def test_three_small_changes_come_before_one_removed_and_one_added():
    """An example that hypothesis found."""
    like, other = ("Conv2d", "8, 8"), ("Conv2d", "8, 16")
    a, b = [like, like, other, like], [like, other, like, other]
    found = changes_of(align(sequence(a), sequence(b)))
    assert [change.change for change in found] == ["changed"] * 3
    assert edits(a, b) == 2


def edits(a, b):
    """The fewest insertions, deletions and replacements between equal-cost sequences: Levenshtein's distance, twice at most."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a):
        last, row[0] = row[0], i + 1
        for j, y in enumerate(b):
            last, row[j + 1] = row[j + 1], min(last + 2 * (x != y), row[j] + 1, row[j + 1] + 1)
    return row[-1]


def test_long_sequences_are_aligned_by_runs(monkeypatch):
    monkeypatch.setattr(aligning, "LARGEST_TABLE", 10)
    rng = random.Random(0)
    layers = [(f"Kind{rng.randrange(1000)}", "") for _ in range(40)]
    others = [*layers[:10], ("Added", "x"), *layers[10:25], *layers[26:]]
    found = {(c.change, c.path) for c in changes_of(align(sequence(layers), sequence(others)))}
    assert found == {("added", "10"), ("removed", "25")}
