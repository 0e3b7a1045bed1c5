"""How figures are written, and that no text can become markup."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, strategies as st
from jinja2 import UndefinedError

from serving.console import charts
from serving.console.rendering import (
    as_json,
    count,
    environment,
    has_fragment,
    money,
    number,
    percent,
    render,
    time,
)
from tests.endpoint_fixtures import Serve

NONE = "\N{EN DASH}"
TEXT = st.text() | st.sampled_from(["</script>", "<!--", "<script>", "]]>", "&lt;", "\u2028"])
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)


def template(text: str, **context: Any) -> str:
    return environment().from_string(text).render(context)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00"), (-1234.5, "-1,234.50"), (999_999.994, "999,999.99"), (1e6, "1,000,000"),
        (-2_345_678.9, "-2,345,679"), (None, NONE), (math.nan, NONE), (math.inf, NONE),
    ],
)  # fmt: skip
def test_money(value: float | None, text: str) -> None:
    assert money(value) == text


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.0, 2, "0.00%"), (1e-9, 2, "<0.01%"), (0.5, 0, "50%"), (-0.12345, 1, "-12.3%"),
        (0.0001, 2, "0.01%"), (0.002, 0, "<1%"), (None, 2, NONE), (math.nan, 2, NONE),
    ],
)  # fmt: skip
def test_percent(value: float | None, digits: int, text: str) -> None:
    assert percent(value, digits) == text


@given(st.floats(0.0, 1.0, exclude_min=True))
def test_a_share_above_nothing_never_reads_as_nothing(value: float) -> None:
    assert percent(value) != "0.00%"


@given(st.floats(-999_999.0, 999_999.0))
def test_money_reads_back_to_the_cent(value: float) -> None:
    assert float(money(value).replace(",", "")) == pytest.approx(value, abs=0.0051)


def test_numbers_counts_and_times() -> None:
    assert number(1234.5678) == "1,235"
    assert number(0.000123456) == "0.0001235"
    assert number(12345.678) == number(12345.678, 2) == "12,346"
    assert number(9999.7) == "10,000"
    assert number(-100_000_000.0, 8) == "-100,000,000"
    assert number(1.7e308) == "1.7e+308"
    assert number(math.nan) == number(None) == NONE
    assert count(1234567) == "1,234,567"
    assert count(None) == NONE
    assert time("2025-03-01T12:34:56Z") == "2025-03-01 12:34"
    assert time(None) == NONE


class _Elements(HTMLParser):
    """Tags of a page, and the text of its scripts."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.scripts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.scripts and self.tags[-1] == "script":
            self.scripts[-1] += data


@given(JSON)
def test_json_in_a_script_is_read_back_and_cannot_end_the_script(value: Any) -> None:
    text = as_json(value)
    assert json.loads(text) == value
    assert not re.search(r"[<>&]", text)
    page = template('<script type="application/json">{{ v | as_json }}</script><p>', v=value)
    found = _Elements(page)
    assert found.tags == ["script", "p"]
    assert json.loads(found.scripts[0]) == value


@given(TEXT)
def test_no_text_becomes_markup(text: str) -> None:
    shown = template('{% import "macros.html" as show %}<p title="{{ v }}">{{ v }}</p>'
                     "{{ show.account(v) }}{{ show.tile(v, v, v) }}", v=text)  # fmt: skip
    assert _Elements(shown).tags == ["p", "a", "div", "span", "span"] + ["span"] * bool(text)


@given(TEXT, st.lists(TEXT, min_size=1, max_size=3, unique=True))
def test_no_text_of_a_chart_becomes_markup(title: str, names: list[str]) -> None:
    made = charts.bar_chart(title, names, [1.0] * len(names))
    page = template('{% import "macros.html" as show %}{{ show.chart(c) }}', c=made)
    found = _Elements(page)
    assert found.tags.count("script") == 1
    assert found.tags.count("td") == len(names)
    assert json.loads(found.scripts[0]) == json.loads(json.dumps(made.figure))


def test_a_name_that_the_page_is_not_given_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        render("problem.html", {})


def test_a_part_of_a_page_is_what_stands_in_its_block() -> None:
    assert has_fragment("base.html", "content")
    assert not has_fragment("base.html", "none")
    with pytest.raises(KeyError):
        render("base.html", {}, "none")


def test_templates_have_neither_styles_nor_scripts_of_their_own() -> None:
    loader = environment().loader
    assert loader is not None
    for name in loader.list_templates():
        source = loader.get_source(environment(), name)[0]
        for opening in re.findall(r"<script[^>]*>", source):
            assert "src=" in opening or 'type="application/json"' in opening, name
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", source), name


def test_a_page_is_html_in_utf_8(serve: Serve) -> None:
    answer = serve(auth="keys").client.get("/login")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.text.startswith("<!doctype html>")


def test_an_unknown_part_is_422_and_says_so(serve: Serve) -> None:
    answer = serve(monitoring=True).client.get("/", headers={"X-Fragment": "<b>"})
    assert answer.status_code == 422
    assert "&lt;b&gt;" in answer.text
    assert "no such part" in answer.text


@pytest.mark.parametrize("path", ["/nowhere", "/v2/score", "/%3Cscript%3E", "/account/x"])
def test_an_unknown_path_is_a_page_for_browsers_and_a_problem_for_clients(
    serve: Serve, path: str
) -> None:
    client = serve(auth="keys").client
    page = client.get(path, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert page.status_code == 404
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<h1>Not Found</h1>" in page.text
    for accept in ("*/*", "application/json"):
        problem = client.get(path, headers={"Accept": accept})
        assert problem.status_code == 404
        assert problem.headers["content-type"] == "application/problem+json"
        assert problem.json()["detail"] == "there is no such route; /docs lists them"


def test_a_record_that_the_api_does_not_know_is_a_problem_for_browsers_too(serve: Serve) -> None:
    answer = serve().client.get(f"/v1/decisions/{'0' * 32}", headers={"Accept": "text/html"})
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
