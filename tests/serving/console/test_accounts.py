"""The page of accounts shows what GET /v1/accounts answers, in its order and page by page."""

from __future__ import annotations

import base64
import html
import json
import re
from typing import Any

import pytest

from ledger.store import Ledger
from margin.rules.ruleset import RuleSet
from serving.console.rendering import money
from tests.endpoint_fixtures import Bundles, Endpoint, Serve, SmallMarket
from tests.monitoring.evaluation.helpers import Watched, snapshot, watched

ROWS = 230
HOSTILE = '<script>alert("1")</script>/x & y'
ROW = re.compile(r'<th scope="row"><a href="/account\?id=([^"]+)">(.*?)</a></th>')


@pytest.fixture
def watching(
    market: SmallMarket, ruleset: RuleSet, bundles: Bundles, champion: str, ledger: Ledger
) -> Watched:
    w = watched(market, ruleset, bundles, ledger, ROWS)
    w.update(
        *(snapshot(f"Retail-{i:02d}", 1, 150.0 * (i + 1), BTC=0.1, ETH=-1.0) for i in range(12)),
        snapshot(HOSTILE, 1, 1_000.0, BTC=0.1),
        snapshot("lost", 1, 1.0, NOPE=1.0),
    )
    w.settle()
    return w


@pytest.fixture
def endpoint(serve: Serve, watching: Watched, market: SmallMarket) -> Endpoint:
    return serve(live=market.head(ROWS).live())


def cursor(sort: str, key: str, account_id: str) -> str:
    """A cursor that leads to what comes after a key and an account."""
    given = json.dumps([sort, key, account_id, False]).encode()
    return base64.urlsafe_b64encode(given).decode().rstrip("=")


def ids(page: str) -> list[str]:
    return [html.unescape(name) for _, name in ROW.findall(page)]


def listed(endpoint: Endpoint, **query: Any) -> list[dict[str, Any]]:
    answer = endpoint.client.get("/v1/accounts", params=query)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["accounts"])


def shown(endpoint: Endpoint, address: str = "/accounts", **query: Any) -> str:
    answer = endpoint.client.get(address, params=query or None)
    assert answer.status_code == 200, answer.text
    return str(answer.text)


@pytest.mark.parametrize(
    "sort", ["deposit_to_meet", "headroom", "margin_ratio", "equity", "probability", "account_id"]
)
def test_the_page_has_the_accounts_of_the_api_in_its_order(endpoint: Endpoint, sort: str) -> None:
    page, accounts = shown(endpoint, sort=sort), listed(endpoint, sort=sort)
    assert len(accounts) == 14
    assert ids(page) == [account["account_id"] for account in accounts]
    assert page.count("aria-sort=") == 1
    for account in accounts:
        if account["problem"] is None:
            for name in ("equity", "maintenance_margin", "headroom", "deposit_to_meet"):
                assert f">{money(account[name])}</td>" in page, name


@pytest.mark.parametrize(
    ("page", "api"),
    [
        ({"search": "retail-0"}, {"search": "RETAIL-0"}),
        ({"search": "<script>"}, {"search": "<script>"}),
        ({"state": "called"}, {"state": "called"}),
        ({"standing": "problem"}, {"problem": "true"}),
        ({"standing": "in_sync"}, {"in_sync": "true"}),
        ({"standing": "out_of_sync"}, {"in_sync": "false"}),
        ({"standing": "suspect"}, {"suspect": "true"}),
        ({"percent": "20"}, {"least_probability": "0.2"}),
    ],
)
def test_filters_are_those_of_the_api(
    endpoint: Endpoint, page: dict[str, str], api: dict[str, str]
) -> None:
    found = shown(endpoint, **page)
    expected = [account["account_id"] for account in listed(endpoint, **api)]
    assert ids(found) == expected
    if not expected:
        assert "No account meets these conditions" in found


def test_conditions_of_the_api_are_conditions_on_what_it_answers(endpoint: Endpoint) -> None:
    every = listed(endpoint)

    def meets(wanted: Any) -> set[str]:
        return {account["account_id"] for account in every if wanted(account)}

    def found(**query: Any) -> set[str]:
        return {account["account_id"] for account in listed(endpoint, **query)}

    assert found(search="il-0") == meets(lambda a: "il-0" in a["account_id"]) != set()
    assert found(problem="true") == {"lost"}
    assert found(problem="false") == meets(lambda a: a["problem"] is None)
    assert found(suspect="false") == meets(lambda a: not a["suspect"])
    values = sorted(a["probability"]["24"] for a in every if a["probability"])
    middle = values[len(values) // 2]
    likely = found(least_probability=middle)
    assert likely == meets(lambda a: a["probability"] and a["probability"]["24"] >= middle)
    assert 0 < len(likely) < len(every)


@pytest.mark.parametrize("sort", ["headroom", "account_id"])
def test_pages_lead_forward_and_back_to_the_same_accounts(endpoint: Endpoint, sort: str) -> None:
    address = f"/accounts?sort={sort}&limit=5"
    seen: list[list[str]] = []
    back = None
    while True:
        page = shown(endpoint, address)
        seen.append(ids(page))
        following = re.search(r'rel="next" href="([^"]+)"', page)
        if following is None:
            break
        address = html.unescape(following[1])
    assert [len(part) for part in seen] == [5, 5, 4]
    assert "11 to 14 of 14" in page
    for expected in seen[-2::-1]:
        back = re.search(r'rel="prev" href="([^"]+)"', page)
        assert back is not None
        page = shown(endpoint, html.unescape(back[1]))
        assert ids(page) == expected
    assert 'rel="prev"' not in page


def test_a_page_that_the_accounts_have_left_leads_to_the_first_one(endpoint: Endpoint) -> None:
    last = max(account["account_id"] for account in listed(endpoint))
    after = cursor("account_id", (0.0).hex(), last)
    page = shown(endpoint, sort="account_id", cursor=after, search="retail")
    assert ids(page) == []
    assert "No account is on this page any more" in page
    assert 'href="/accounts?search=retail&amp;sort=account_id">First page of 12</a>' in page
    assert "has no accounts" not in page
    assert "meets these conditions" not in page


def test_hostile_ids_are_text_and_lead_to_their_account(endpoint: Endpoint) -> None:
    page = shown(endpoint, search=HOSTILE)
    assert ids(page) == [HOSTILE]
    assert "<script>alert" not in page
    link = ROW.findall(page)[0][0]
    found = endpoint.client.get(f"/account?id={link}")
    assert found.status_code == 200
    assert html.escape(HOSTILE, quote=False).replace('"', "&#34;") in found.text


def test_the_list_is_refreshed_alone(endpoint: Endpoint) -> None:
    part = endpoint.client.get("/accounts", headers={"X-Fragment": "list"})
    assert part.status_code == 200
    assert "<html" not in part.text
    assert ids(part.text) == ids(shown(endpoint))
    assert endpoint.client.get("/accounts", headers={"X-Fragment": "nothing"}).status_code == 422


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"sort": "size"}, "deposit_to_meet"),
        ({"standing": "odd"}, "out_of_sync"),
        ({"percent": "many"}, "0 to 100"),
        ({"percent": "101"}, "0 to 1"),
        ({"cursor": "%%"}, "first page"),
        ({"cursor": cursor("deposit_to_meet", "0x1p99999", "a")}, "first page"),
        ({"cursor": cursor("deposit_to_meet", "much", "a")}, "first page"),
    ],
)
def test_impossible_filters_are_refused_in_words(
    endpoint: Endpoint, query: dict[str, str], named: str
) -> None:
    answer = endpoint.client.get("/accounts", params=query)
    assert answer.status_code == 422
    assert named in html.unescape(answer.text)
    assert "<h1>" in answer.text


def test_an_impossible_search_names_the_search(endpoint: Endpoint) -> None:
    answer = endpoint.client.get("/v1/accounts", params={"search": "a\x01"})
    assert answer.status_code == 422
    assert "search" in answer.json()["detail"]


def test_an_empty_book_is_said_in_words(serve: Serve) -> None:
    page = shown(serve())
    assert "The live book has no accounts" in page
    assert "no model answers" in page


def test_access(serve: Serve) -> None:
    endpoint = serve(auth="keys")

    def answer(headers: dict[str, str]) -> Any:
        return endpoint.client.get(
            "/accounts?state=called", headers=headers, follow_redirects=False
        )

    away = answer({})
    assert away.status_code == 303
    assert away.headers["location"] == "/login?next=%2Faccounts%3Fstate%3Dcalled"
    assert answer(endpoint.key("market")).status_code == 403
    assert answer(endpoint.key("read")).status_code == 200
