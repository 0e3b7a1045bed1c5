"""What a desk does with the console: it finds who is in trouble, tries remedies, answers calls.

A scenario runs once the pages that it needs are registered.
"""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from serving.console.routes import PAGES
from tests.browser.conftest import Visitor
from tests.browser.desk import CALLED, WARNED, LiveDesk
from tests.waiting import wait_for

PATHS = {path for route in PAGES for path in route.paths}


def needs(*paths: str) -> pytest.MarkDecorator:
    """Skip where a page is not registered."""
    missing = sorted(set(paths) - PATHS)
    return pytest.mark.skipif(bool(missing), reason=f"no page at {', '.join(missing)}")


def accounts_of(page: Page, table: str) -> list[str]:
    return page.locator(f"{table} tbody th[scope=row] a").all_inner_texts()


@needs("/", "/account", "/what-if")
def test_from_the_riskiest_accounts_to_one_of_them_and_its_what_if(
    visitor: Visitor, desk: LiveDesk
) -> None:
    visit = visitor("read")
    page = visit.go("/")
    riskiest = accounts_of(page, "section[aria-labelledby=riskiest-title]")
    assert len(riskiest) == 10
    rows = {
        row["account_id"]: row
        for row in desk.get("/v1/accounts", sort="probability", limit=100)["accounts"]
        if row["state"] in ("healthy", "warning") and row["probability"]
    }
    longest = max(next(iter(rows.values()))["probability"], key=int)
    chances = [rows[name]["probability"][longest] for name in riskiest]
    others = [row["probability"][longest] for name, row in rows.items() if name not in riskiest]
    assert chances == sorted(chances, reverse=True)
    assert not others or max(others) <= min(chances)
    page.get_by_role("link", name=riskiest[0], exact=True).first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(riskiest[0])
    visit.settle()
    page.get_by_role("link", name="What-if").last.click()
    expect(page).to_have_url(re.compile(r"/what-if\?account="))
    visit.settle()
    assert riskiest[0] in page.locator("main").inner_text()


@needs("/accounts")
def test_accounts_are_filtered_as_one_types_and_the_address_follows(
    visitor: Visitor, desk: LiveDesk
) -> None:
    visit = visitor("read")
    page = visit.go("/accounts")
    assert CALLED in accounts_of(page, "#list")
    page.get_by_label("Account id holds").type("risky-<b")
    expect(page).to_have_url(re.compile(r"search=risky-%3Cb"))
    expect(page.locator("#list tbody tr")).to_have_count(1)
    assert accounts_of(page, "#list") == [WARNED]
    address = page.url.removeprefix(desk.url)
    shared = visitor("read").go(address)
    assert accounts_of(shared, "#list") == [WARNED], "the address gives the same page"


@needs("/calls", "/call")
def test_a_reader_sees_a_call_and_no_form_for_it(visitor: Visitor, desk: LiveDesk) -> None:
    page = visitor("read").go(f"/call?id={desk.open_call()['call_id']}")
    assert page.locator("form[data-post]").count() == 0
    assert "Needs a key with the scope" in page.locator("main").inner_text()


@needs("/calls", "/call")
def test_a_call_is_disputed_and_shows_so(visitor: Visitor, desk: LiveDesk) -> None:
    visit = visitor("desk")
    page = visit.go("/calls")
    call = desk.open_call()
    page.locator(f'#list a[href*="{call["call_id"]}"]').first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(CALLED)
    form = page.locator("form[data-post$='/dispute']")
    form.get_by_label("Reason").select_option("price")
    form.get_by_label("Note").fill("the mark of <b>noon</b> is off")
    form.get_by_role("button", name="Dispute").click()
    expect(page.get_by_role("status")).to_contain_text(re.compile("disputed|on record"))
    wait_for(lambda: desk.open_call()["state"] == "disputed", "the call is not disputed")
    visit.settle()
    page.reload()
    visit.settle()
    expect(page.locator("#facts .state").first).to_have_text("disputed")
    assert "the mark of <b>noon</b> is off" in page.locator("#facts").inner_text()
    assert page.locator("form[data-post$='/dispute']").count() == 0


@needs("/calls", "/call")
def test_the_second_of_two_answers_is_refused_in_words_that_stay(
    visitor: Visitor, desk: LiveDesk
) -> None:
    path = f"/call?id={desk.open_call()['call_id']}"
    first, second = visitor("admin"), visitor("admin")
    pages = [first.go(path), second.go(path)]
    forms = [page.locator("form[data-post$='/ack']") for page in pages]
    for form, reference in zip(forms, ("first", "second"), strict=True):
        form.get_by_label("Reference").fill(reference)
    forms[0].get_by_role("button", name="Acknowledge").click()
    expect(pages[0].get_by_role("status")).to_contain_text(re.compile("acknowledged|on record"))
    wait_for(lambda: desk.open_call()["acknowledged_at"], "the call is not acknowledged")
    second.expected.add(409)
    forms[1].get_by_role("button", name="Acknowledge").click()
    said = pages[1].get_by_role("status")
    expect(said).to_contain_text("was acknowledged already")
    pages[1].evaluate("replace('facts', location.href)")
    expect(pages[1].locator("#facts")).to_contain_text("Acknowledged")
    expect(said).to_contain_text("was acknowledged already")
    expect(forms[1].get_by_label("Reference")).to_have_value("second")
    expect(forms[1].get_by_role("button", name="Acknowledge")).to_be_enabled()


@needs("/audit")
def test_a_refused_verification_is_said_in_words(visitor: Visitor) -> None:
    visit = visitor("read")
    page = visit.go("/audit")
    verify = page.get_by_role("button", name="Verify the ledger")
    verify.click()
    expect(page.get_by_role("status")).to_contain_text("has started")
    expect(page.locator("#verification")).to_contain_text("intact", timeout=30_000)
    visit.expected.add(401)
    page.context.clear_cookies()
    page.get_by_role("button", name="Verify the ledger").click()
    expect(page.get_by_role("status")).to_contain_text("key")
    assert "JSON" not in page.get_by_role("status").inner_text()
