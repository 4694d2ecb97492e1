"""The HTML report in a real Chromium: it sorts and filters, with no error and no request that leaves the file."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import saconv_surgeon as surgeon
from saconv_surgeon.records import Timing
from saconv_surgeon.report.commands.convert import conversion_report
from saconv_surgeon.report.commands.diff import diff_report
from saconv_surgeon.report.commands.profile import AsTree, profile_report
from saconv_surgeon.report.formats import FORMATS
from sample_models import tiny_resnet
from tests import hostile
from tests.report.formats.test_formats import SHOWN, large_diff

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium"),
]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium, tmp_path):
    """Opens a report; whatever goes wrong in it, or leaves it, is collected."""
    troubles = []

    def open_report(report, *, viewport=DESKTOP, scheme="light", **options):
        file = tmp_path / "report.html"
        file.write_text(FORMATS[".html"].render(report), encoding="utf-8")
        page = chromium.new_page(viewport=viewport, color_scheme=scheme, **options)
        page.on("console", lambda message: troubles.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (troubles.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: request.url == file.as_uri() or troubles.append(f"request: {request.url}"))
        page.goto(file.as_uri())
        return page

    open_report.troubles = troubles
    yield open_report
    assert troubles == []


@pytest.fixture(scope="module")
def report():
    model, x = tiny_resnet.build(), tiny_resnet.example_inputs()
    converted = surgeon.convert(model, x, include=["layer2.*"]).model
    return diff_report(surgeon.diff(model, converted, x, timing=None), every_row=False)


def column(page, i):
    return page.locator(f"#table tbody tr:visible > :nth-child({i + 1})").all_inner_texts()


def macs(page):
    return page.evaluate(
        "() => { const d = JSON.parse(document.getElementById('data').textContent);"
        " return [...document.querySelectorAll('#table tbody tr')].map(r => d.rows[r.id.slice(1)][5]) }"
    )


def test_sorts(opened, report):
    page = opened(report)
    order = column(page, 0)
    button = page.get_by_role("button", name="MACs B")
    button.click()
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("MACs B")
    assert macs(page) == sorted(macs(page), reverse=True)
    assert macs(page)[0] > 0
    button.press("Enter")  # by keyboard
    assert macs(page) == sorted(macs(page))
    page.locator("#table thead").get_by_role("button", name="layer").click()
    assert column(page, 0) == sorted(order)
    page.get_by_role("button", name="Order of the model").click()
    assert column(page, 0) == order
    assert page.locator("th[aria-sort=none]").count() == page.locator("#table thead th").count()


def test_filters(opened, report):
    page = opened(report)
    page.get_by_label("Filter").fill("LAYER2 conv1")
    assert [name.split()[0] for name in column(page, 0)] == ["layer2.0.conv1", "layer2.1.conv1"]
    assert page.locator("#count").inner_text() == "2 of 46 layers"
    page.get_by_label("Filter").fill("no such layer")
    assert column(page, 0) == []
    page.get_by_label("Filter").fill("")
    page.get_by_label("Show").select_option("converted")
    assert len(column(page, 0)) == 4
    assert all("SAConv2d" in kind for kind in column(page, 1))
    page.get_by_label("Show").select_option("differ")
    assert len(column(page, 0)) == 4


def test_charts_and_map_lead_to_rows(opened, report):
    page = opened(report)
    bar = page.locator(".bar-row").first
    name = bar.locator("bdi").inner_text()
    bar.click()
    assert page.locator("tr.hit th bdi").first.inner_text() == name
    widths = (
        page.locator(".chart")
        .first.locator(".bar-after")
        .evaluate_all("all => all.map(e => parseFloat(e.style.width))")
    )
    assert max(widths) == 100
    assert all(width > 0 for width in widths)
    assert page.locator(".chart").first.locator(".ticks").inner_text().split()[0] == "0"
    page.get_by_label("Filter").fill("layer3")
    page.locator('.map i[data-i="0"]').click()
    assert page.locator("tr.hit th").inner_text() == "conv1"
    assert len(column(page, 0)) == 46  # the filter gave way
    assert page.locator(".map i").count() == 46
    assert page.locator(".map i.converted").count() == 4
    assert page.locator('.map i[data-i="0"]').get_attribute("title") == "conv1: Conv2d"


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_the_width_and_has_contrast(opened, report, viewport, scheme, tmp_path):
    page = opened(report, viewport=viewport, scheme=scheme, has_touch=viewport is PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    ground, ink = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    assert contrast(ground, ink) > 7
    for selector in (".verdicts li", ".meaning", "thead th", ".more", "figcaption span"):
        colours = page.evaluate(
            "s => { const e = document.querySelector(s); let g = e;"
            " while (getComputedStyle(g).backgroundColor === 'rgba(0, 0, 0, 0)') g = g.parentElement;"
            " return [getComputedStyle(g).backgroundColor, getComputedStyle(e).color] }",
            selector,
        )
        assert contrast(*colours) > 4.5, selector  # WCAG 2.2, 1.4.3
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert Path(tmp_path / "page.png").stat().st_size > 10_000


def contrast(one, other):
    lights = sorted(map(luminance, (one, other)))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def luminance(colour):
    """Of ``rgb(r, g, b)``, as WCAG defines it."""
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    r, g, b = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def test_reads_without_scripts_and_by_keyboard(opened, report):
    page = opened(report, java_script_enabled=False)
    assert len(page.locator("#table tbody tr").all()) == 46
    assert page.locator("h1").count() == 1
    assert page.locator("table").count() == page.locator("table:has(th)").count()
    page = opened(report)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the table of layers"
    names = page.evaluate(
        "[...document.querySelectorAll('button:not([hidden]), input, select, [role=region], [role=img]')].map("
        "e => e.textContent.trim() || e.ariaLabel || e.labels?.[0]?.textContent || e.getAttribute('aria-labelledby'))"
    )
    assert all(names)


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """A trained conversion beside its original, with every picture that a report can have."""
    image = tmp_path_factory.mktemp("image") / "cat.png"
    pytest.importorskip("PIL.Image").new("RGB", (80, 60), (200, 80, 30)).save(image)
    model, x = tiny_resnet.build(), tiny_resnet.example_inputs()
    converted = surgeon.convert(model, x).model
    for layer in converted.modules():
        if isinstance(layer, surgeon.SAConv2d):
            torch.nn.init.normal_(layer.switch.weight, std=0.1)
    record = surgeon.diff(model, converted, x, timing=Timing(budget_s=0.2, roofline=True), image=image)
    fields = [surgeon.receptive_field(each, x) for each in (model, converted)]
    a, b = (replace(each, receptive_field=field) for each, field in zip((record.a, record.b), fields, strict=True))
    return diff_report(replace(record, a=a, b=b), every_row=False)


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_pictures_and_rooflines_are_seen(opened, everything, viewport):
    page = opened(everything, viewport=viewport)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    assert page.locator(".gallery img").count() == 13 + 8  # a map of each layer, and four stages of both models
    assert page.evaluate("[...document.querySelectorAll('.gallery img')].every(i => i.complete && i.naturalWidth > 0)")
    assert page.locator(".scatter circle.before").count() == page.locator(".scatter .arrow").count() == 13
    box = page.locator(".scatter").bounding_box()
    for circle in page.locator(".scatter circle").all():
        each = circle.bounding_box()
        assert box["x"] <= each["x"]
        assert each["x"] + each["width"] <= box["x"] + box["width"]
    assert "of its roof" in page.locator(".scatter circle title").first.text_content()


def test_the_first_screen_leads_with_three_figures(opened, report):
    page = opened(report, viewport=PHONE)
    assert page.locator(".lead dt").all_inner_texts() == ["parameters", "MACs"]  # this report has no latency
    assert not page.locator("table.totals").is_visible()
    page.locator(".more-totals summary").click()
    assert page.locator("table.totals").is_visible()


def test_a_phone_breaks_no_word_of_a_decision(opened):
    model, x = tiny_resnet.build(), tiny_resnet.example_inputs()
    conversion = surgeon.price(surgeon.convert(model, x), model, x, timing=None)
    page = opened(conversion_report(conversion, "a model", every_site=True), viewport=PHONE)
    page.locator("summary", has_text="Convolutions and decisions").click()
    table = page.locator("table.stacked")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    broken = table.evaluate(
        """table => {
          const found = [];
          for (const e of table.querySelectorAll('bdi')) for (const node of e.childNodes) {
            if (node.nodeType !== Node.TEXT_NODE) continue;
            for (const word of node.data.matchAll(/[^\\s.]+/g)) {
              const range = document.createRange();
              range.setStart(node, word.index); range.setEnd(node, word.index + word[0].length);
              const tops = new Set([...range.getClientRects()].map(r => Math.round(r.top)));
              if (tops.size > 1) found.push(word[0]);
            }
          }
          return found;
        }"""
    )
    assert broken == []
    assert "decision: " in table.evaluate("t => getComputedStyle(t.querySelector('td:last-child'), '::before').content")


def test_prints_everything_on_white(opened, report):
    page = opened(report, scheme="dark")
    page.emulate_media(media="print", color_scheme="light")
    assert page.locator("#table").evaluate("t => t.parentElement.scrollHeight <= t.parentElement.clientHeight + 1")
    assert not page.locator(".tools").is_visible()


def test_a_tree_opens_and_closes(opened):
    model, x = tiny_resnet.build(), tiny_resnet.example_inputs()
    record = surgeon.profile(model, x, timing=None)
    page = opened(profile_report(record, every_layer=False, tree=AsTree(1)))
    inner = page.locator(".tree .leaf", has_text="conv1").nth(1)
    assert not inner.is_visible()
    page.locator(".tree summary", has_text="layer1").click()
    page.locator(".tree summary", has_text="BasicBlock").first.click()
    assert inner.is_visible()


def test_hostile_names_do_nothing(opened):
    model, x = hostile.build(), hostile.example_inputs()
    conversion = surgeon.price(surgeon.convert(model, x), model, x, timing=None)
    page = opened(conversion_report(conversion, "<img src=x onerror=alert(1)>", every_site=True))
    names = page.evaluate("[...document.querySelectorAll('#table tbody th bdi')].map(e => e.textContent)")
    assert names == list(SHOWN)
    assert page.locator("img, iframe, object").count() == 0
    page.get_by_label("Filter").fill("</script>")
    assert len(column(page, 0)) == 2
    page.locator(".map i").nth(2).click()
    assert page.locator("tr.hit bdi").inner_text() == "<script>alert(1)</script>"


def test_no_other_script_runs(opened, report):
    page = opened(report)
    ran = page.evaluate(
        "() => new Promise(done => { const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
        " document.addEventListener('securitypolicyviolation', () => done(window.ran ?? 'refused'), { once: true });"
        " document.body.append(s); setTimeout(() => done(window.ran ?? 'nothing'), 2000) })"
    )
    assert ran == "refused"
    page.close()
    assert len(opened.troubles) == 1
    assert "Content Security Policy" in opened.troubles.pop()


def test_thousand_layers_sort(opened):
    page = opened(diff_report(large_diff(), every_row=False))
    assert page.locator("#table tbody tr").count() == 1000
    page.get_by_role("button", name="MACs B").click()
    assert macs(page) == sorted(macs(page), reverse=True)
