"""A report as one HTML file that needs nothing else: no network, no fonts, and no script but its own.

The tables are in the file as they are shown, so that it reads without scripts and aloud; the script sorts, filters and labels the
charts. A content security policy with the script's hash forbids everything else, for any name of a layer.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from saconv_surgeon.records import json_escaped
from saconv_surgeon.report.formats.html_charts import CHARTS, chart
from saconv_surgeon.report.formats.html_curve import drawn
from saconv_surgeon.report.formats.html_map import kind_of, macs_of, map_of, width_of
from saconv_surgeon.report.formats.html_scatter import drawn_scatter
from saconv_surgeon.report.formats.png import data_uri
from saconv_surgeon.report.page import Page
from saconv_surgeon.report.report import Report

NOISE = 1.1
"""The ratio from which on a change is coloured."""


def render(report: Report) -> str:
    """The whole file."""
    page = report.page
    script = _asset("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            page=page,
            style=Markup(_asset("report.css")),
            script=Markup(script),
            digest=digest,
            charts=[c for c in (chart(page, name) for name in CHARTS) if c is not None],
            curves=[drawn(each) for each in page.curves],
            scatters=[drawn_scatter(each) for each in page.scatters],
            map=map_of(page),
            largest=max((macs_of(layer) for layer in page.layers), default=0),
            data=Markup(_data(page)),
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("saconv_surgeon.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.globals |= {"kind_of": kind_of, "width_of": width_of, "trend": _trend, "data_uri": data_uri}
    environment.filters["breakable"] = _breakable
    return environment


def _asset(name: str) -> str:
    return resources.files("saconv_surgeon.report").joinpath("templates", name).read_text(encoding="utf-8")


def _data(page: Page) -> str:
    """The numbers of the layers for the script, so written that no name ends the element that holds them."""
    rows = [
        [layer.path, layer.type, *(value for f in page.figures for value in layer.figure(f.field))]
        for layer in page.layers
    ]
    content = {"rows": rows}
    written = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return json_escaped(written).replace("<", "\\u003c").replace("&", "\\u0026")


def _trend(values: tuple[float | None, float | None]) -> str:
    """The class of a cell whose figure changed by more than the noise of layer times."""
    a, b = values
    if a is None or b is None:
        return ""
    return "more" if b > NOISE * a else "less" if a > NOISE * b else ""


def _breakable(name: object) -> Markup:
    """A path that may break after a dot, and nowhere else."""
    return Markup(".<wbr>").join(str(name).split("."))
