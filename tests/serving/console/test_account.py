"""The page of one account: its figures are those of the API, of scores and of the case verb."""

from __future__ import annotations

import html
from typing import Any
from urllib.parse import quote

import pytest

from serving.console.rendering import money, number, percent, time
from serving.console.views.accounts.account import account_history
from serving.console.views.accounts.requirement import requirement_parts
from tests.monitoring.evaluation.helpers import snapshot
from tests.serving.enforcement_fixtures import Desk, desk

__all__ = ["desk"]

HOSTILE = '<script>"a/b"</script>'


def shown(desk: Desk, name: str, **query: Any) -> str:
    answer = desk.endpoint.client.get(
        "/account", params={"id": name, **query}, headers=desk.key("read")
    )
    assert answer.status_code == 200, answer.text
    return html.unescape(answer.text)


def scored(desk: Desk, account: dict[str, Any]) -> dict[str, Any]:
    """What a score with ``explain`` answers, with the level that the monitor has set."""
    sent = {name: account[name] for name in ("account_id", "cash", "positions", "collateral")}
    answer = desk.post("/v1/score", {"accounts": [sent], "explain": True}, "score")
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["decisions"][0])


def test_figures_reasons_and_calls_are_those_of_the_api(desk: Desk) -> None:
    page = shown(desk, "desk/1")
    detail = desk.get(f"/v1/accounts/{quote('desk/1', safe='')}")
    now = detail["evaluation"]
    for name in ("equity", "maintenance_margin", "initial_margin", "headroom", "add_on"):
        assert money(now[name]) in page, name
    assert money(now["total_requirement"]) in page
    assert money(now["deposit_to_meet"]) in page
    for value in now["probability"].values():
        assert percent(value) in page
    assert f'href="/call?id={desk.call()["call_id"]}"' in page
    assert 'href="/what-if?account=desk/1"' in page
    decisions = desk.get(f"/v1/accounts/{quote('desk/1', safe='')}/decisions")["decisions"]
    assert decisions
    for one in decisions:
        assert f'href="/decision?id={one["decision_id"]}"' in page
    decided = scored(desk, detail["account"])
    for reason in decided["explain"]["reasons"]:
        assert reason["text"] in page
    for part in decided["explain"]["positions"]:
        assert money(part["notional"]) in page
        assert money(part["unrealised_pnl"]) in page
    for name, amount in requirement_parts(decided["explain"]):
        assert f"<td>{number(amount)}</td>" in page, name


def test_the_waterfall_adds_up_to_the_total_requirement(desk: Desk) -> None:
    detail = desk.get(f"/v1/accounts/{quote('desk/1', safe='')}")
    explained = scored(desk, detail["account"])["explain"]
    parts = requirement_parts(explained)
    assert sum(amount for _, amount in parts) == pytest.approx(explained["total_requirement"])
    margins = [amount for name, amount in parts if name == "tier margin"]
    assert margins == [pytest.approx(explained["maintenance_margin"])]
    assert any(name.startswith("liquidity: ") for name, _ in parts)


def test_liquidation_prices_are_found_on_demand(desk: Desk) -> None:
    assert "Find liquidation prices" in shown(desk, "desk/1")
    assert "already passed" in shown(desk, "desk/1", prices="1")
    cash, quantity = 5_000.0, 0.5
    desk.watched.update(snapshot("levered", 1, cash, BTC=quantity))
    page = shown(desk, "levered", prices="1")
    (mark,) = scored(desk, desk.get("/v1/accounts/levered")["account"])["marks"]
    # The position entered at the mark. Equity is 0 at the bankruptcy price B, and 2% of the
    # notional at the liquidation price: cash + q (P - mark) = 0.02 q P.
    bankrupt = mark["price"] - cash / quantity
    assert f"<td>{number(bankrupt, 6)} " in page
    assert f"<td>{number(bankrupt / (1.0 - 0.02), 6)} " in page


def test_history_says_what_it_consists_of(desk: Desk) -> None:
    page = shown(desk, "desk/1")
    assert "There is one decision on record" in page
    account = desk.get(f"/v1/accounts/{quote('desk/1', safe='')}")["account"]
    scored(desk, account)
    page = shown(desk, "desk/1")
    assert "newest 2 decisions on record" in page
    assert "Probability of a call at each decision on record" in page


def test_decisions_are_paged(desk: Desk) -> None:
    account = desk.get("/v1/accounts/calm")["account"]
    made = [scored(desk, account)["decision_id"] for _ in range(22)]
    first = shown(desk, "calm")
    assert f"/decision?id={made[-1]}" in first
    assert f"/decision?id={made[0]}" not in first
    older = first.split('rel="next" href="')[1].split("#")[0]
    answer = desk.endpoint.client.get(older, headers=desk.key("read"))
    assert f"/decision?id={made[0]}" in answer.text
    assert f"/decision?id={made[-1]}" not in answer.text


def test_charts_and_table_go_on_with_older_decisions(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.console.views.accounts.account.HISTORY", 4)
    account = desk.get("/v1/accounts/calm")["account"]
    for _ in range(6):
        scored(desk, account)
    listed = desk.get("/v1/accounts/calm/decisions")["decisions"]
    newest = shown(desk, "calm")
    assert "newest 4 decisions on record" in newest
    address = newest.split('More are on record: <a href="')[1].split('"')[0]
    older = html.unescape(desk.endpoint.client.get(address, headers=desk.key("read")).text)
    assert f"Of the older {len(listed) - 4} decisions on record" in older
    assert "More are on record" not in older
    for one in listed[4:]:
        assert f"/decision?id={one['decision_id']}" in older
    assert f"/decision?id={listed[3]['decision_id']}" not in older


def test_decisions_of_one_time_are_drawn_in_the_order_of_recording() -> None:
    def decision(as_of: str, equity: float) -> dict[str, Any]:
        amounts = dict.fromkeys(("maintenance_margin", "initial_margin", "total_requirement"), 1.0)
        return {"as_of": as_of, "equity": equity, "probability": None, **amounts}

    newest_first = [
        decision("2026-01-01T00:00:00.500000Z", 4.0),
        decision("2026-01-01T00:00:00Z", 3.0),
        decision("2026-01-01T00:00:00Z", 2.0),
        decision("2025-12-31T00:00:00Z", 1.0),
    ]
    chart = account_history(newest_first)["requirement_history"]
    assert [row[1] for row in chart.rows] == [1.0, 2.0, 3.0, 4.0]


def test_an_account_that_only_has_decisions_on_record(desk: Desk) -> None:
    account = {"account_id": HOSTILE, "cash": 3_000.0, "positions": [], "collateral": []}
    account["positions"] = [{"instrument": "BTCUSDT-PERP", "quantity": 0.1}]
    made = [scored(desk, account)["decision_id"] for _ in range(2)]
    page = shown(desk, HOSTILE)
    assert "The live book does not hold this account" in page
    assert "newest 2 decisions on record" in page
    for name in made:
        assert f"/decision?id={name}" in page
    headers = desk.key("read") | {"X-Fragment": "standing"}
    part = desk.endpoint.client.get("/account", params={"id": HOSTILE}, headers=headers)
    assert part.status_code == 200
    assert "The live book does not hold this account" in part.text


def test_calls_have_amounts_and_deadlines(desk: Desk) -> None:
    call, page = desk.call(), shown(desk, "desk/1")
    row = page[page.index(f'href="/call?id={call["call_id"]}"') :].split("</tr>")[0]
    assert f"<td>{money(call['amount'])}</td><td>{money(call['outstanding'])}</td>" in row
    assert time(call["opened_at"]) in row
    assert time(call["deadline"]) in row
    assert " left</span>" in row
    assert 'href="/calls?account=desk/1&open=all">All calls' in page


def test_a_deposit_beyond_the_range_of_numbers_is_not_good(desk: Desk) -> None:
    desk.watched.update(snapshot("vast", 1, -1e308, BTC=1e303))
    assert desk.get("/v1/accounts/vast")["evaluation"]["deposit_to_meet"] is None
    page = shown(desk, "vast")
    assert '<div class="tile "><span class="name">Deposit to meet</span>' in page
    assert '<div class="tile good"><span class="name">Deposit to meet</span>' in shown(desk, "calm")


def test_an_account_without_figures_and_a_hostile_id(desk: Desk) -> None:
    desk.watched.update(snapshot(HOSTILE, 1, 10.0, NOPE=1.0))
    answer = desk.endpoint.client.get("/account", params={"id": HOSTILE}, headers=desk.key("read"))
    assert answer.status_code == 200
    assert "<script>&" not in answer.text
    assert '<script>"a' not in answer.text
    text = html.unescape(answer.text)
    assert "No figures:" in text
    assert "There are no decisions on record" in text
    assert "The account has no calls on record." in text
    problem = desk.get("/v1/accounts", problem="true")["accounts"][0]["problem"]
    assert problem in text
    assert "NOPE" in shown(desk, HOSTILE, prices="1")


def test_the_standing_is_refreshed_alone(desk: Desk) -> None:
    headers = desk.key("read") | {"X-Fragment": "standing"}
    part = desk.endpoint.client.get("/account", params={"id": "calm"}, headers=headers)
    assert part.status_code == 200
    assert "<html" not in part.text
    assert "Total requirement" in part.text


def test_a_refresh_searches_no_liquidation_prices(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the search was made")

    monkeypatch.setattr("serving.console.views.accounts.account.liquidation_rows", never)
    headers = desk.key("read") | {"X-Fragment": "standing"}
    asked = {"id": "calm", "prices": "1"}
    assert desk.endpoint.client.get("/account", params=asked, headers=headers).status_code == 200
    whole = desk.endpoint.client.get("/account", params=asked, headers=desk.key("read"))
    assert whole.status_code == 500


def test_access_and_unknown_accounts(desk: Desk) -> None:
    client = desk.endpoint.client
    away = client.get("/account?id=desk%2F1", follow_redirects=False)
    assert away.status_code == 303
    assert away.headers["location"] == "/login?next=%2Faccount%3Fid%3Ddesk%252F1"
    assert client.get("/account?id=calm", headers=desk.key("score")).status_code == 403
    missing = client.get("/account?id=nobody", headers=desk.key("read"))
    assert missing.status_code == 404
    assert "nobody" in missing.text
    assert client.get("/account?id=", headers=desk.key("read")).status_code == 422
