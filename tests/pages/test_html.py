"""Pages: one file under a strict policy, tables with sort keys, methods and drawings, cells of one precision."""

import base64
import hashlib
import math
import re
from collections.abc import Callable
from typing import Any

import jinja2
import pytest
from markupsafe import Markup

from imbalance_bench.pages import cells, html
from imbalance_bench.pages.charts import Axis

NAN = math.nan
Render = Callable[[dict[str, Any]], str]


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Render:
    source = (
        '{% extends "base.html" %}{% from "macros.html" import table %}{% block content %}{{ table(t) }}{% endblock %}'
    )
    loader = jinja2.DictLoader({"one.html": source})
    monkeypatch.setattr(jinja2, "PackageLoader", lambda name, real=jinja2.PackageLoader: (
        loader if name == "mine" else real(name)))  # fmt: skip
    return lambda content: html.render("mine", "one.html", title="<t>", t=content)


def test_the_policy_allows_the_pages_own_script_alone(page: Render) -> None:
    text = page(html.table({"a": [("x", "x")]}))
    (script,) = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules == {
        "default-src": "'none'", "img-src": "data:", "style-src": "'unsafe-inline'", "script-src": f"'sha256-{digest}'",
        "base-uri": "'none'", "form-action": "'none'",
    }  # fmt: skip
    assert not re.search(r"\son[a-z]+=", text.replace(script, "")), "no inline handlers"
    assert not re.search(r"(?:src|href|url)\s*[=(]", text.replace(script, ""))
    assert "<title>&lt;t&gt;</title>" in text


def test_a_table(page: Render) -> None:
    columns = {
        "method": [cells.text("<b>"), cells.text("bags")],
        "tail": [cells.gain(0.012, 0.003, 0.02, Axis("", -3, 3, ())), cells.gain(NAN, NAN, NAN)],
        "of": [cells.count(1234), cells.count(NAN)],
    }
    table = html.table(columns, {"bags": "best"}, keys=["m", ""], notes={"tail": "39 classes\n<i>"})
    assert [head["kind"] for head in table["heads"]] == ["text", "number", "number"]
    assert not table["is_long"] and html.table({"a": [cells.count(n) for n in range(13)]})["is_long"]
    text = page(table)
    assert "<b>" not in text.partition("<body>")[2].partition("marked:")[0]
    assert "<small>39 classes\n&lt;i&gt;</small>" in text
    assert '<tr data-key="m">' in text and '<tr class="best">' in text
    assert '<button type="button" class="key" aria-pressed="false">&lt;b&gt;</button>' in text
    assert re.search(r'data-value="0.012">\+1.2 \[\+0.3, \+2.0\]<svg class="cell"', text)
    assert 'data-value="nan">-</td>' in text
    assert "<input" not in text and "<input" in page(html.table({"a": [cells.count(n) for n in range(13)]}))


def test_a_table_without_rows(page: Render) -> None:
    assert "<tbody>" in page(html.table({"a": [], "b": []}))


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        (cells.percent(0.1234), "12.3"),
        (cells.percent(0.1234, 0.004), "12.3 ± 0.4"),
        (cells.percent(NAN), "-"),
        (cells.percent(-0.0001), "0.0"),
        (cells.gain(0.0, NAN, NAN), "+0.0"),
        (cells.gain(-0.0004, -0.02, 0.01), "+0.0 [-2.0, +1.0]"),
        (cells.count(12345), "12,345"),
        (cells.count(NAN), "-"),
        (cells.number(0.456), "0.46"),
        (cells.number(NAN), "-"),
        (cells.share(0.5)[:2], "50.0"),
    ],
)
def test_one_precision(cell: html.Cell, shown: str) -> None:
    assert cell[0] == shown


def test_a_drawing_is_markup_and_a_name_never_is() -> None:
    drawing = cells.share(0.5)[2]
    assert isinstance(drawing, Markup) and not isinstance(cells.text("<b>")[0], Markup)
