"""The frame of the pages: keys, themes, the keyboard."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visitor
from tests.browser.desk import LiveDesk

BACKGROUND = "getComputedStyle(document.body).backgroundColor"
OUTLINE = """() => { const it = document.activeElement; const style = getComputedStyle(it);
  return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2; }"""
FOCUSED = "document.activeElement.id || document.activeElement.textContent.trim()"


def test_a_key_signs_in_leads_on_and_signs_out(visitor: Visitor, desk: LiveDesk) -> None:
    visit = visitor(None)
    page = visit.go("/?here=1")
    expect(page).to_have_url(re.compile(r"/login\?next=%2F%3Fhere%3D1$"))
    visit.expected.add(401)
    page.get_by_label("API key").fill("mck_no_key")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("status")).to_contain_text("key")
    page.get_by_label("API key").fill(desk.keys["read"])
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"{desk.url}/?here=1")
    assert "margincast_key" not in page.evaluate("document.cookie"), "no script can read the key"
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(f"{desk.url}/login")
    page.goto(desk.url)
    expect(page).to_have_url(f"{desk.url}/login")


@pytest.mark.parametrize(("scheme", "changed"), [("light", "dark"), ("dark", "light")])
def test_the_theme_that_was_chosen_stays(visitor: Visitor, scheme: str, changed: str) -> None:
    page = visitor("read", scheme).go("/")
    before = page.evaluate(BACKGROUND)
    page.get_by_role("button", name="Change between light and dark").click()
    after = page.evaluate(BACKGROUND)
    assert after != before
    page.reload()
    assert page.evaluate(BACKGROUND) == after
    assert page.evaluate("document.documentElement.dataset.theme") == changed


def test_the_keyboard_reaches_everything_in_order_and_shows_where_it_is(visitor: Visitor) -> None:
    visit = visitor("read")
    page = visit.go("/")
    order: list[str] = []
    for _ in range(11):
        page.keyboard.press("Tab")
        order.append(str(page.evaluate(FOCUSED)))
        assert page.evaluate(OUTLINE), f"the focus cannot be seen on {order[-1]}"
    links = page.locator("nav a").all_inner_texts()
    assert order[: len(links) + 3] == ["Skip to the content", "Margincast", *links, "theme"]
    page.reload()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_a_part_that_grew_old_is_fetched_again(visitor: Visitor) -> None:
    visit = visitor("read")
    visit.page.clock.install()
    page = visit.go("/")
    name = page.locator("[data-refresh]").first.get_attribute("id")
    with page.expect_request(lambda request: request.headers.get("x-fragment") == name) as asked:
        page.clock.run_for(60_000)
    answer = asked.value.response()
    assert answer is not None
    assert answer.status == 200


def test_a_part_asks_for_a_key_when_it_is_no_longer_valid(visitor: Visitor) -> None:
    visit = visitor("read")
    visit.page.clock.install()
    page = visit.go("/")
    visit.expected.add(401)
    page.context.clear_cookies()
    page.clock.run_for(60_000)
    expect(page).to_have_url(re.compile("/login"))
