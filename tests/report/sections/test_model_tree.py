"""A model as a tree: sums by hand."""

from saconv_surgeon.records import LayerCost
from saconv_surgeon.report.commands.profile import AsTree, profile_report
from saconv_surgeon.report.formats import FORMATS
from saconv_surgeon.report.tree import shares, tree_of
from tests.report.sections.records_by_hand import PROFILE, replace, shown

ROWS = (
    LayerCost("stem", "Conv2d", 10, 100, 200, 5, latency_s=0.001),
    LayerCost("layer1.0.conv", "Conv2d", 20, 200, 400, 5, latency_s=0.002),
    LayerCost("layer1.0", "Block", 1, 0, 0, 0, latency_s=0.003),
    LayerCost("layer1.1.conv", "Conv2d", 30, None, None, None),
)


def test_parts_hold_all_that_is_in_them():
    root = tree_of(ROWS)
    layer1 = root.parts[1]
    assert [(level, part.name) for level, part in root.walked()] == [
        *((0, "stem"), (0, "layer1"), (1, "0"), (2, "conv"), (1, "1"), (2, "conv")),
    ]
    assert [(level, part.name) for level, part in root.walked(1)] == [(0, "stem"), (0, "layer1")]
    assert (layer1.type, layer1.parts[0].type) == ("", "Block")
    assert (layer1.total("parameters"), layer1.total("macs"), layer1.total("latency_s")) == (51, 200, 0.005)
    assert root.total("parameters") == 61
    assert root.total("backward_s") is None
    assert shares(layer1, root, ("macs",)) == {"macs": 200 / 300}


def test_the_terminal_shows_as_deep_as_it_is_told():
    record = replace(PROFILE, layers=ROWS)
    whole, shallow = (shown(record, tree=AsTree(depth)) for depth in (None, 1))
    assert "\n  layer1 " in whole
    assert "\n      conv " in whole
    assert "layer1  +4" in shallow
    assert "conv" not in shallow.partition("part ")[2].replace("Conv2d", "").partition("every")[0]
    assert "layer1" in shown(record)  # as ever without a tree


def test_a_page_nests_and_opens_as_deep_as_it_is_told():
    report = profile_report(replace(PROFILE, layers=ROWS), every_layer=False, tree=AsTree(1))
    html = FORMATS[".html"].render(report)
    tree = html.partition('class="tree"')[2].partition("</section>")[0]
    assert tree.count("<details open>") == 1  # the model itself
    assert tree.count("<details>") == 3
    assert "Parts, each with all that is in it" in FORMATS[".md"].render(report)
