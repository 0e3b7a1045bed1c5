"""What holds of every page, in light and dark, on a wide and a narrow screen."""

from __future__ import annotations

from typing import cast

import pytest
from axe_playwright_python.sync_playwright import Axe

from benchmarks.console.page_paths import page_paths
from serving.console.routes import PAGES
from tests.browser.conftest import Scheme, Visitor
from tests.browser.desk import LiveDesk

PATHS = sorted(path for route in PAGES for path in route.paths)
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
KINDS = [(s, w) for s in ("light", "dark") for w in ("wide", "narrow")]
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def example(path: str, desk: LiveDesk) -> str:
    """The path with the query that its page needs."""
    wanted = page_paths(desk.get).values()
    return next((one for one in wanted if one.partition("?")[0] == path), path)


@pytest.mark.parametrize(("scheme", "size"), KINDS)
@pytest.mark.parametrize("path", [*PATHS, "/login", "/nowhere"])
def test_a_page_is_clean_accessible_and_fits(
    visitor: Visitor, desk: LiveDesk, path: str, scheme: str, size: str
) -> None:
    visit = visitor(None if path == "/login" else "admin", cast("Scheme", scheme), size)
    if path == "/nowhere":
        visit.expected.add(404)
    page = visit.go(example(path, desk))
    assert page.locator("h1").count() == 1
    assert page.evaluate(OVERFLOW) <= 0, "the page is wider than the screen"
    found = Axe().run(page, options={"runOnly": {"type": "tag", "values": RULES}})
    faults = [
        (one["id"], one["help"], [(node["target"], node["html"][:160]) for node in one["nodes"]])
        for one in found.response["violations"]
    ]
    assert not faults, faults


@pytest.mark.parametrize("path", PATHS)
def test_a_page_can_be_read_without_its_script(visitor: Visitor, desk: LiveDesk, path: str) -> None:
    visit = visitor()
    visit.page.route("**/console.js", lambda route: route.fulfill(body=""))
    with_script = visitor().go(example(path, desk)).locator("main h2, main th").all_inner_texts()
    visit.page.goto(desk.url + example(path, desk))
    assert visit.page.locator("main h2, main th").all_inner_texts() == with_script


def test_the_page_of_the_routes_and_an_answer_in_json_are_clean(visitor: Visitor) -> None:
    visit = visitor("read")
    visit.go("/docs")
    assert "Margincast" in visit.page.title()
    visit.go("/v1/model")
