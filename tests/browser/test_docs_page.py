"""The page at /docs: load it, open a route, give a key, try the example out."""

from __future__ import annotations

import io
import re
from typing import cast

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Scheme, Visitor
from tests.browser.desk import LiveDesk
from tests.browser.test_every_page import KINDS, OVERFLOW, RULES

KNOWN_FAULTS = {"nested-interactive"}
"""What Swagger UI itself violates: the link to a route is inside the button that opens it."""

CUT_OFF = """() => [...document.querySelectorAll("#swagger-ui *")].filter((element) => {
  const box = element.getBoundingClientRect();
  return box.width > 0 && box.height > 0 && (box.right > innerWidth + 1 || box.left < -1);
}).map((element) => element.outerHTML.slice(0, 160))"""


def faults(page: Page) -> list[object]:
    """What axe finds and is not known; a known fault that is gone is listed as well."""
    found = Axe().run(page, options={"runOnly": {"type": "tag", "values": RULES}})
    violations = found.response["violations"]
    unknown: list[object] = [
        (one["id"], [(node["target"], node["html"][:160]) for node in one["nodes"]])
        for one in violations
        if one["id"] not in KNOWN_FAULTS
    ]
    return unknown + sorted(KNOWN_FAULTS - {one["id"] for one in violations})


def brightness(shown: Locator) -> float:
    """Median brightness of an element as it is drawn, 0 to 255."""
    drawn = Image.open(io.BytesIO(shown.screenshot())).convert("L")
    return float(np.median(np.asarray(drawn)))


def sign_in(page: Page, key: str) -> None:
    page.locator(".btn.authorize").click()
    page.locator(".auth-container input").fill(key)
    page.locator(".auth-btn-wrapper .authorize").click()
    page.locator(".auth-btn-wrapper .btn-done").click()


def opened(page: Page, path: str) -> Locator:
    page.locator(f".opblock-summary-path[data-path='{path}']").click()
    return page.locator(".opblock.is-open")


@pytest.mark.parametrize(("scheme", "size"), KINDS)
def test_the_example_of_a_score_is_tried_out_with_a_key(
    visitor: Visitor, desk: LiveDesk, scheme: str, size: str
) -> None:
    page = visitor(None, cast("Scheme", scheme), size).go("/docs")
    expect(page.locator(".opblock-summary")).not_to_have_count(0)
    assert page.locator("h1").count() == 1
    assert faults(page) == []
    sign_in(page, desk.keys["admin"])
    route = opened(page, "/v1/score")
    expect(route.locator("textarea.body-param__text")).to_have_value(re.compile('"fund-1"'))
    route.locator(".execute").click()
    answer = route.locator(".live-responses-table .response")
    expect(answer.locator(".response-col_status")).to_contain_text("200")
    expect(answer).to_contain_text('"decision_id"')
    assert faults(page) == []
    assert page.evaluate(OVERFLOW) <= 0, "the page is wider than the screen"
    assert page.evaluate(CUT_OFF) == []
    code = [route.locator(".curl"), answer.locator(".microlight").first]
    assert max(brightness(one) for one in code) < 80, "code is dark in either scheme"
    assert (brightness(page.locator(".info")) > 128) == (scheme == "light")


def test_without_a_key_the_answer_is_a_problem(visitor: Visitor) -> None:
    visit = visitor(None)
    visit.expected.add(401)
    route = opened(visit.go("/docs"), "/v1/model")
    route.locator(".execute").click()
    answer = route.locator(".live-responses-table .response")
    expect(answer).to_contain_text("urn:margincast:problem:unauthenticated")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_schema_is_clean_and_accessible(visitor: Visitor, scheme: Scheme) -> None:
    page = visitor(None, scheme, "narrow").go("/docs")
    route = opened(page, "/v1/score")
    route.locator(".body-param-options, .model-example").get_by_text("Schema").first.click()
    expect(route.locator(".json-schema-2020-12").first).to_be_visible()
    assert faults(page) == []
    assert page.evaluate(OVERFLOW) <= 0
