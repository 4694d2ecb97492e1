"""Reports as files: every kind says the same, names come out as they are, and nothing reaches for the network."""

import csv
import html
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
from markdown_it import MarkdownIt
from rich.console import Console
from torch import nn

import saconv_surgeon as surgeon
from benchmarks import reports as worst_case
from saconv_surgeon.comparing.saved_reports import compared_with
from saconv_surgeon.records import Diff, GateResult, LayerCost, LayerPair, Profile
from saconv_surgeon.report import human
from saconv_surgeon.report.commands.convert import conversion_report
from saconv_surgeon.report.commands.diff import diff_report
from saconv_surgeon.report.commands.profile import profile_report
from saconv_surgeon.report.formats import FORMATS, terminal
from saconv_surgeon.report.sections.structure import became
from sample_models import tiny_resnet
from tests import hostile

SHOWN = (*hostile.NAMES, human.visible(hostile.CONTROL))


class Texts(HTMLParser):
    """The text of every cell, and the attributes that load something."""

    def __init__(self, source):
        super().__init__()
        self.cells, self.inside, self.loads, self.scripts = [], None, [], 0
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        if tag in ("td", "th"):
            self.cells.append("")
            self.inside = len(self.cells) - 1
        self.scripts += tag == "script"
        self.loads += [v for n, v in attributes if n in ("src", "href", "srcset", "data", "action") and v[:1] != "#"]
        assert not any(n.startswith("on") for n, _ in attributes)

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.inside = None

    def handle_data(self, data):
        if self.inside is not None:
            self.cells[self.inside] += data


@pytest.fixture(scope="module")
def reports():
    """Of a conversion, a diff and a profile of a model with hostile names."""
    model, x = hostile.build(), hostile.example_inputs()
    conversion = surgeon.price(surgeon.convert(model, x), model, x, timing=None)
    return {
        "convert": conversion_report(conversion, "<img src=y>", every_site=True),
        "diff": diff_report(surgeon.diff(model, conversion.model, x, timing=None), every_row=True),
        "profile": profile_report(surgeon.profile(model, x, timing=None), every_layer=True),
    }


COMMANDS = ("convert", "diff", "profile")


@pytest.mark.parametrize(
    "start", ["=", "+", "-", "@", "\t", "\r", "\n", " =", "＝", "＋", "－", "＠", "\t=", "-1+1|cmd"]
)
def test_csv_has_no_formulas_and_numbers_stay_numbers(start):
    name = f"{start}1+1"
    row = LayerCost(name, name, 3, 1, -2.5, -3, settings=name)
    found = Profile(name, 3, 2, None, 7, 1, 1, {}, None, None, (row,), ((1, 2),))
    rows = list(csv.reader(io.StringIO(FORMATS[".csv"].render(profile_report(found, every_layer=True)), newline="")))
    for cell in [cell for row in rows for cell in row]:
        assert cell[:1].isalnum() or cell[:1] in ("", "'", "(") or isinstance(float(cell), float), cell
    assert rows[1].count(f"'{name}") == 3
    assert "-2.5" in rows[1] and "-3" in rows[1]


@pytest.mark.parametrize("command", COMMANDS)
def test_html_names(reports, command):
    source = FORMATS[".html"].render(reports[command])
    read = Texts(source)
    cells = [" ".join(cell.split()) for cell in read.cells]
    for name in SHOWN:
        assert " ".join(name.split()) in cells
    assert read.loads == ["data:,"]
    assert read.scripts == 2
    assert "://" not in re.sub(r"https?://example/x", "", source)


@pytest.mark.parametrize("command", COMMANDS)
def test_markdown_names(reports, command):
    source = FORMATS[".md"].render(reports[command])
    read = Texts(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(source))
    for name in SHOWN:
        assert name in read.cells
    assert read.loads == []
    assert read.scripts == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_csv_names_and_numbers(reports, command):
    rows = list(csv.DictReader(io.StringIO(FORMATS[".csv"].render(reports[command]), newline="")))
    page = reports[command].raw
    side = f"_{page.sides[-1]}" if page.is_pair else ""
    assert [row[f"path{side}"] for row in rows] == [
        f"'{name}" if name.startswith("=") else name for name in (*hostile.NAMES, hostile.CONTROL)
    ]
    assert sum(int(row[f"macs{side}"]) for row in rows) == sum(layer.row.macs for layer in page.layers) > 0


@pytest.mark.parametrize("command", COMMANDS)
def test_svg_is_whole_and_fetches_nothing(reports, command):
    source = FORMATS[".svg"].render(reports[command])
    root = ElementTree.fromstring(source)
    said = "".join(root.itertext()).replace("\xa0", " ")
    for name in SHOWN[:-2]:
        assert name in said
    assert "@font-face" not in source
    assert "url(http" not in source
    assert not [n for n in root.iter() if n.tag.endswith(("image", "script"))]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("width", [80, 160])
def test_terminal_names(reports, command, width):
    out = Console(width=width, file=io.StringIO(), record=True)
    out.print(terminal.render(reports[command], width), highlight=False)
    said = out.export_text()
    assert "\x1b[31m" not in said
    assert "…" not in said.replace("… and", "")
    squeezed = re.sub(r"\s", "", said)
    for name in SHOWN:
        if len(name) < 40:  # longer ones are folded, column by column
            assert re.sub(r"\s", "", name) in squeezed
    assert all(len(line) <= width for line in said.splitlines() if line.isascii())


def test_every_kind_says_the_same_totals():
    model, x = tiny_resnet.build(), tiny_resnet.example_inputs()
    conversion = surgeon.price(surgeon.convert(model, x), model, x, timing=None)
    report = conversion_report(conversion, "m", every_site=False)
    kinds = {kind: FORMATS[kind].render(report) for kind in (".html", ".md", ".svg")}
    for total in report.page.totals:
        for kind, content in kinds.items():
            plain = re.sub(r"<[^>]*>|&#160;|\\", " ", content)
            plain = re.sub(r"\s+", " ", plain)
            for value in (*total.values, total.ratio):
                assert value in plain, (kind, total.label)
    rows = list(csv.DictReader(io.StringIO(FORMATS[".csv"].render(report))))
    assert sum(int(row["macs_after"]) for row in rows) == conversion.after.macs
    assert sum(row["converted"] == "True" for row in rows) == conversion.converted


def large(n, scale=1):
    rows = tuple(
        LayerCost(
            f"stage{i // 50}.block{i // 5 % 10}.conv{i % 5}",
            "Conv2d",
            9216,
            scale * 10**6 * (i % 7),
            2 * 10**6,
            500,
            1,
            4096,
            1,
            1e-4,
        )
        for i in range(n)
    )
    return Profile("large", 9216 * n, 9216 * n, 10**9, 2 * 10**9, None, 500 * n, {}, None, None, rows)


def large_diff(n=1000):
    a, b = large(n), large(n, 2)
    return Diff(a, b, (), layers=tuple(LayerPair(row.path, row.path, "same") for row in a.layers))


def test_thousand_layers_weigh_less_than_two_megabytes():
    source = FORMATS[".html"].render(diff_report(large_diff(), every_row=False))
    assert len(source.encode()) < 2_000_000
    assert source.count("<tr id=") == 1000


def test_no_picture_makes_a_page_too_heavy():
    """The worst case of the benchmark: noise, which compresses badly, in as many pictures as there can be."""
    source = FORMATS[".html"].render(diff_report(worst_case.large(), every_row=False))
    assert len(source.encode()) < 2_000_000
    assert source.count("data:image/png") == 24 + 2 * 5
    assert source.count("<circle") == 2 * 150


def test_script_data_cannot_end_its_element(reports):
    source = FORMATS[".html"].render(reports["diff"])
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', source, re.DOTALL)[1]
    names = [row[0] for row in json.loads(data)["rows"]]
    assert names == list(SHOWN)


def test_gates_are_in_every_report():
    gates = (GateResult("macs>1x", 2.0, True, "macs: ×2"), GateResult("max_rel>1", 0.0, False, "max_rel: 0"))
    model, x = tiny_resnet.build(), tiny_resnet.example_inputs()
    report = profile_report(surgeon.profile(model, x, timing=None), gates, every_layer=False)
    for kind in (".html", ".md", ".svg"):
        said = html.unescape(FORMATS[kind].render(report)).replace("\\", " ")
        said = re.sub(r"\s+", " ", said)
        assert re.search(r'macs\s*>1x" FAILED', said), kind
        assert re.search(r'max ?_rel\s*>1" passed', said), kind


def test_visible():
    assert human.visible("plain é 😀👩‍👩‍👧‍👦 [x]") == "plain é 😀👩‍👩‍👧‍👦 [x]"
    assert human.visible("a\x1b[0m\r\n\t\u202e\x00") == "a\\x1b[0m\\r\\n\\t\\u202e\\x00"


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        (
            "Conv2d(64, 64, kernel_size=(3, 3))",
            "Conv2d(64, 128, kernel_size=(3, 3), groups=32)",
            "Conv2d: 64 → 128, +groups=32",
        ),
        ("Conv2d(3, 4, kernel_size=(3, 3))", "Conv2d(3, 4, kernel_size=(5, 5))", "Conv2d: kernel_size=(3, 3) → (5, 5)"),
        ("Conv2d(3, 4, bias=False)", "Conv2d(3, 4)", "Conv2d: −bias=False"),
        ("ReLU()", "SiLU()", "ReLU() → SiLU()"),
        ("ReLU()", "ReLU(inplace=True)", "ReLU: +inplace=True"),
        ("LayerNorm((8,), eps=1e-05)", "LayerNorm((16,), eps=1e-05)", "LayerNorm: (8,) → (16,)"),
    ],
)
def test_only_the_settings_that_differ_are_said(a, b, said):
    assert became(a, b) == said


def test_freedom_is_reported():
    model, x = tiny_resnet.build(), tiny_resnet.example_inputs()
    trained = surgeon.convert(model, x).model
    with torch.no_grad():
        trained.layer2[1].conv1.switch.bias.fill_(0.5)
    report = diff_report(surgeon.diff(model, trained, x, timing=None), every_row=False)
    out = Console(width=80, file=io.StringIO(), record=True)
    out.print(terminal.render(report, 80), highlight=False)
    said = " ".join(out.export_text().split())
    assert "1 of 13 layers use their freedom; 12 still the plain convolution to the bit could be folded back" in said
    assert "0.500 ± 0.000" in said
    assert "first to diverge: layer2.1.conv1" in said
    assert "What surgery has become in B" in FORMATS[".html"].render(report)


def test_comparison_with_an_earlier_report_is_in_every_report():
    x = tiny_resnet.example_inputs()
    now, earlier = (surgeon.profile(tiny_resnet.build(width=w), x, timing=None) for w in (16, 8))
    record = replace(now, comparison=compared_with(earlier, now, "old.json"))
    report = profile_report(record, every_layer=False)
    for kind in (".html", ".md"):
        said = FORMATS[kind].render(report).replace("\\", "")
        assert "Since old.json" in said
        assert "×3.9" in said  # twice the width: nearly four times the weights


def test_what_cannot_be_equal_is_explained_in_every_report():
    model, x = tiny_resnet.build(), tiny_resnet.example_inputs()
    conversion = surgeon.convert(model, x, target="spconv")
    report = conversion_report(conversion, "m", every_site=False)
    assert report.page.verdicts[0].tone == "warn"
    (table,) = [t for t in report.page.tables if "explained" in t.title]
    assert [str(row[0]) for row in table.rows] == list(conversion.plan.converted_paths)
    assert table.rows[0][1] in FORMATS[".html"].render(report)


def test_empty_and_single_models():
    for model in (nn.Identity(), nn.Conv2d(3, 4, 3)):
        profile = surgeon.profile(model, torch.randn(1, 3, 8, 8), timing=None)
        report = profile_report(profile, every_layer=True)
        for kind in FORMATS:
            assert FORMATS[kind].render(report)
