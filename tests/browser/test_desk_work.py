"""What a desk does with the console: it finds who is in trouble, tries remedies, answers calls."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from playwright.sync_api import Page, expect

from serving.console.rendering import money, percent
from tests.browser.conftest import Visitor
from tests.browser.desk import CALLED, WARNED, LiveDesk
from tests.waiting import wait_for


def figures_of(page: Page) -> dict[str, tuple[str, str]]:
    """Figures of the what-if page by name, before and after."""
    rows = page.locator("table[aria-label='Figures before and after'] tbody tr").all()
    texts = [row.locator("th, td").all_inner_texts() for row in rows]
    return {name: (before, after) for name, before, after, _ in texts}


def what_if(desk: LiveDesk, name: str, spot: dict[str, float]) -> list[dict[str, Any]]:
    """The decisions of the API before and after a price shock."""
    account = desk.get(f"/v1/accounts/{quote(name, safe='')}")["account"]
    given = {key: account[key] for key in ("account_id", "cash", "positions", "collateral")}
    answer = desk.post("/v1/what-if", {"accounts": [given], "shocks": {"spot": spot}})
    return [answer[when]["decisions"][0] for when in ("before", "after")]


def accounts_of(page: Page, table: str) -> list[str]:
    return page.locator(f"{table} tbody th[scope=row] a").all_inner_texts()


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
    expect(page.get_by_role("heading", level=1)).to_contain_text(riskiest[0])
    visit.settle()
    before = figures_of(page)
    assert [after for _, after in before.values()] == [now for now, _ in before.values()]
    page.get_by_label("All coins", exact=True).fill("-20")
    expect(page).to_have_url(re.compile(r"[?&]p=-20(&|$)"))
    expect(page.get_by_label("All coins, slider")).to_have_value("-20")
    expect(page.locator("#heard")).to_have_text("Updated")
    answer = what_if(desk, riskiest[0], {"*": -0.2})
    shown = figures_of(page)
    for name, field in (("Equity", "equity"), ("Headroom", "headroom"), ("Add-on", "add_on")):
        assert list(shown[name]) == [money(one[field]) for one in answer], name
    last = max(answer[0]["probability"], key=int)
    chances = [percent(one["probability"][last]) for one in answer]
    assert list(shown[f"Call within {last} h"]) == chances
    assert answer[0]["equity"] != answer[1]["equity"], "the shock moves the account"
    page.get_by_label("Deposit; negative: withdrawal").fill("5000")
    expect(page).to_have_url(re.compile(r"[?&]d=5000(&|$)"))
    deposited = money(answer[1]["equity"] + 5_000.0)
    expect(page.locator("#result td", has_text=deposited).first).to_be_visible()
    assert figures_of(page)["Equity"] == (money(answer[0]["equity"]), deposited)
    shared = visitor("read").go(page.url.removeprefix(desk.url))
    assert figures_of(shared) == figures_of(page), "the address gives the same page"


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


def test_a_reader_sees_a_call_and_no_form_for_it(visitor: Visitor, desk: LiveDesk) -> None:
    page = visitor("read").go(f"/call?id={desk.open_call()['call_id']}")
    assert page.locator("form[data-post]").count() == 0
    assert "Needs a key with the scope" in page.locator("main").inner_text()


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
