"""Parts of a page that are fetched again: what readers keep, and what they are told of failures."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Visitor
from tests.browser.desk import ALSO_CALLED, CALLED, WARNED, LiveDesk
from tests.waiting import WAIT_SECONDS, wait_for

BUSY = "<main><p class=lead>too many look-ups wait</p></main>"
MINUTE = 60_000
FRAGMENT = "x-fragment"


def refresh(page: Page, part: str) -> None:
    """Let the time pass after which a part is fetched again, and wait until it is shown."""
    place = page.locator(f"#{part}")
    page.evaluate(
        "(id) => { document.getElementById(id).firstElementChild.dataset.old = 1; }", part
    )
    page.clock.run_for(MINUTE)
    expect(place.locator("[data-old]")).to_have_count(0)
    expect(place).not_to_have_attribute("aria-busy", "true")


def test_the_answer_to_an_older_filter_is_dropped(visitor: Visitor) -> None:
    page = visitor("read").go("/accounts")
    held: list[Route] = []

    def hold(route: Route) -> None:
        if re.search(r"search=client-00&", route.request.url):
            held.append(route)
        else:
            route.fallback()

    page.route(re.compile(r"/accounts\?"), hold)
    field = page.get_by_label("Account id holds")
    field.fill("client-00")
    for _ in range(500):
        if held:
            break
        page.wait_for_timeout(20)
    field.fill("risky-<b")
    rows = page.locator("#list tbody tr")
    expect(rows).to_have_count(1)
    held[0].continue_()
    page.wait_for_load_state("networkidle")
    assert rows.locator("th").all_inner_texts() == [WARNED]
    expect(page.locator("#heard")).to_have_text("1 to 1 of 1")
    expect(page.locator("#list")).not_to_have_attribute("aria-busy", "true")


def test_a_reader_keeps_focus_scroll_and_open_tables(visitor: Visitor) -> None:
    visit = visitor("read", size="narrow")
    visit.page.clock.install()
    page = visit.go("/accounts")
    region = page.get_by_role("region", name=re.compile("^Accounts, "))
    region.evaluate("(it) => { it.focus(); it.scrollLeft = 60; }")
    refresh(page, "list")
    assert region.evaluate("(it) => [document.activeElement === it, it.scrollLeft]") == [True, 60]
    link = page.get_by_role("link", name=CALLED, exact=True)
    link.focus()
    refresh(page, "list")
    expect(link).to_be_focused()
    page = visit.go("/account?id=client-000")
    summary = page.locator("#standing summary").first
    summary.click()
    refresh(page, "standing")
    assert page.locator("#standing details").first.evaluate("(it) => it.open")
    expect(summary).to_be_focused()


def test_what_is_selected_is_left_alone(visitor: Visitor) -> None:
    visit = visitor("read")
    visit.page.clock.install()
    page = visit.go("/accounts")
    page.locator("#list tbody th a").first.evaluate("(it) => getSelection().selectAllChildren(it)")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.run_for(MINUTE)
    assert not asked
    page.evaluate("getSelection().removeAllRanges()")
    refresh(page, "list")
    assert asked


@pytest.mark.parametrize("status", [503, 429])
def test_a_failed_update_says_so_and_of_when_the_page_is(visitor: Visitor, status: int) -> None:
    visit = visitor("read")
    visit.expected.add(status)
    visit.page.clock.install(time="2026-03-01T12:00:30Z")
    page = visit.go("/accounts")
    shown = page.locator("#list").inner_text()

    def refuse(route: Route) -> None:
        if FRAGMENT in route.request.headers:
            route.fulfill(status=status, content_type="text/html", body=BUSY)
        else:
            route.fallback()

    page.route("**/accounts", refuse)
    page.clock.run_for(2 * MINUTE)
    expect(page.get_by_role("status")).to_have_text(
        "Not updated: too many look-ups wait. What is shown is of 12:00 UTC."
    )
    assert page.locator("#list").inner_text() == shown
    page.unroute_all()
    refresh(page, "list")
    expect(page.get_by_role("status")).to_be_empty()


def dispute(page: Page, note: str) -> None:
    form = page.locator("form[data-post$='/dispute']")
    form.get_by_label("Reason").select_option("price")
    form.get_by_label("Note").fill(note)
    form.get_by_role("button", name="Dispute").click()


def call_of(desk: LiveDesk, account: str) -> dict[str, Any]:
    wait_for(lambda: desk.get("/v1/calls", account=account, open="true")["calls"], "no call")
    return desk.open_call(account)


def test_a_refused_command_says_why_until_it_is_sent_again(
    visitor: Visitor, desk: LiveDesk
) -> None:
    visit = visitor("desk")
    visit.page.clock.install()
    call = call_of(desk, CALLED)
    page = visit.go(f"/call?id={call['call_id']}")
    visit.expected.add(422)
    form = page.locator("form[data-post='/v1/overrides']").first
    form.get_by_label("New deadline (UTC)").fill("2001-01-01T10:00")
    form.get_by_label("Reason").fill("too early")
    form.get_by_role("button", name="Request").click()
    said = page.get_by_role("status")
    expect(said).to_have_class("failed")
    words = said.inner_text()
    assert "deadline" in words
    refresh(page, "facts")
    assert said.inner_text() == words, "an update of a part is no answer to the command"
    expect(form.get_by_role("button", name="Request")).to_be_enabled()


def test_a_command_whose_answer_is_lost_counts_once(visitor: Visitor, desk: LiveDesk) -> None:
    call = call_of(desk, ALSO_CALLED)
    visit = visitor("desk")
    page = visit.go(f"/call?id={call['call_id']}")
    keys: list[str | None] = []

    def lose(route: Route) -> None:
        keys.append(route.request.headers.get("idempotency-key"))
        if len(keys) == 1:
            sent = {
                "Authorization": f"Bearer {desk.keys['desk']}",
                "Idempotency-Key": keys[0] or "",
            }
            body = route.request.post_data_json
            posted = httpx.post(route.request.url, json=body, headers=sent, timeout=WAIT_SECONDS)
            assert posted.status_code in (200, 202), posted.text
            route.abort("aborted")
        else:
            route.fallback()

    page.route("**/v1/calls/*/dispute", lose)
    dispute(page, "sent twice")
    expect(page.get_by_role("status")).to_contain_text("may be on record; it can be sent again")
    page.locator("form[data-post$='/dispute']").get_by_role("button", name="Dispute").click()
    expect(page.get_by_role("status")).to_have_class("done")
    visit.settle()
    assert keys[0] == keys[1]
    assert re.fullmatch("[0-9a-f]{32}", keys[0] or "")
    wait_for(lambda: desk.open_call(ALSO_CALLED)["state"] == "disputed", "the call is not disputed")


def test_a_failed_sign_out_is_said(visitor: Visitor) -> None:
    visit = visitor("read")
    page = visit.go("/")
    visit.expected.add(502)
    page.route(
        "**/console/session",
        lambda route: route.fulfill(status=502, content_type="text/html", body="<h1>Bad gateway"),
    )
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("status")).to_have_text("Not signed out: the endpoint answered 502.")


def test_a_session_that_ended_is_said_where_one_signs_in(visitor: Visitor) -> None:
    visit = visitor("read")
    visit.page.clock.install()
    page = visit.go("/accounts?sort=equity")
    visit.expected.add(401)
    page.context.clear_cookies()
    page.clock.run_for(MINUTE)
    expect(page).to_have_url(re.compile(r"/login\?next=%2Faccounts%3Fsort%3Dequity&ended=1$"))
    assert "it expired or was revoked" in page.locator("main").inner_text()
