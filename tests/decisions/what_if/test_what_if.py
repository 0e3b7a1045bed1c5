from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from decisions.messages import AccountChange, PositionChange
from decisions.what_if.changes import apply_changes, trade_prices
from margin.book.requirement import compute_requirement
from margin.rules.ruleset import RuleSet, load_ruleset
from market.accounts.book import Account, Book, Position

BTC = "BTCUSDT-PERP"


def trade(account: Account, delta: float, view: Any) -> Account:
    change = AccountChange(account.account_id, 0.0, [PositionChange(BTC, delta)])
    rules = load_ruleset("linear-tiers")
    return apply_changes({account.account_id: account}, [change], trade_prices(view, rules))[
        account.account_id
    ]


def ask(endpoint: Any, accounts: list[Any], changes: list[Any], **rest: Any) -> Any:
    body = {"accounts": accounts, "changes": changes, **rest}
    return endpoint.client.post("/v1/what-if", json=body)


@given(
    quantity=st.floats(-5, 5).filter(lambda q: abs(q) > 1e-3),
    delta=st.floats(-12, 12),
    entry=st.none() | st.floats(1_000, 300_000),
)
def test_a_trade_at_the_mark_leaves_equity_as_it_is_and_no_impossible_entry_price(
    market: Any, ruleset: RuleSet, quantity: float, delta: float, entry: float | None
) -> None:
    view = market.live().snapshot(int(market.panel.closes[-1])).view()
    before = Account("a", 1_000.0, (Position(BTC, quantity, entry),))
    after = trade(before, delta, view)
    requirement = compute_requirement(Book.of([before, after]), view, ruleset)
    assert requirement.problems == {}
    assert requirement.equity[1] == pytest.approx(requirement.equity[0], rel=1e-9, abs=1e-4)
    assert sum(leg.quantity for leg in after.positions) == quantity + delta
    assert all(leg.entry_price is None or leg.entry_price > 0 for leg in after.positions)


def test_entry_price_averages_up_stays_on_reduction_and_restarts_at_the_mark_when_turned(
    market: Any,
) -> None:
    view = market.live().snapshot(int(market.panel.closes[-1])).view()
    mark = float(view.mark[0])
    account = Account("a", 0.0, (Position(BTC, 1.0, 50_000.0),))
    assert trade(account, 1.0, view).positions == (Position(BTC, 2.0, (50_000.0 + mark) / 2),)
    half = trade(account, -0.5, view)
    assert half.positions == (Position(BTC, 0.5, 50_000.0),)
    assert half.cash == pytest.approx(0.5 * (mark - 50_000.0))
    turned = trade(account, -3.0, view)
    assert turned.positions == (Position(BTC, -2.0, mark),)
    assert turned.cash == pytest.approx(mark - 50_000.0)
    closed = trade(account, -1.0, view)
    assert closed.positions == ()
    assert closed.cash == turned.cash


def test_before_and_after_are_decided_with_the_same_add_on_in_force_and_nothing_is_recorded(
    serve: Any, champion: str, account: dict[str, Any]
) -> None:
    endpoint = serve()
    changes = [
        {"account_id": "acc-1", "deposit": 500.0},
        {
            "account_id": "acc-1",
            "positions": [
                {"instrument": BTC, "quantity_delta": -0.05},
                {"instrument": "SOLUSDT-PERP", "quantity_delta": 3.0},
            ],
        },
    ]
    response = ask(endpoint, [account], changes, explain=True)
    assert response.status_code == 200, response.text
    before, after = (response.json()[side]["decisions"][0] for side in ("before", "after"))
    assert "decision_id" not in before
    assert "decision_id" not in after
    assert after["equity"] == before["equity"] + 500.0
    notional = {p["instrument"]: p["notional"] for p in after["explain"]["positions"]}
    old = {p["instrument"]: p["notional"] for p in before["explain"]["positions"]}
    assert notional[BTC] == pytest.approx(old[BTC] / 2)
    assert notional["SOLUSDT-PERP"] > 0
    short = ask(endpoint, [account], changes).json()["before"]["decisions"][0]
    assert short == {key: value for key, value in before.items() if key != "explain"}
    assert list(endpoint.ledger.records("decision")) == []
    recorded = endpoint.score(account, explain=True).json()["decisions"][0]
    assert {**recorded, "decision_id": None} == {**before, "decision_id": None}


def test_a_deposit_of_what_is_missing_leaves_nothing_missing(serve: Any, champion: str) -> None:
    account = {
        "account_id": "a",
        "cash": 300.0,
        "positions": [{"instrument": BTC, "quantity": 0.1}],
    }
    endpoint = serve()
    missing = endpoint.score(account).json()["decisions"][0]["deposit_to_meet"]
    assert missing > 0
    answer = ask(endpoint, [account], [{"account_id": "a", "deposit": missing}]).json()
    assert answer["after"]["decisions"][0]["deposit_to_meet"] == 0


def test_a_change_of_an_account_that_is_not_given_is_422(
    serve: Any, account: dict[str, Any]
) -> None:
    response = ask(serve(), [account], [{"account_id": "other", "deposit": 1.0}])
    assert response.status_code == 422
    assert "'other'" in response.json()["detail"]


def test_a_trade_in_an_unknown_instrument_is_an_error_of_the_account_after_it(
    serve: Any, account: dict[str, Any]
) -> None:
    positions = [{"instrument": "NOPEUSDT", "quantity_delta": 1.0}]
    answer = ask(serve(), [account], [{"account_id": "acc-1", "positions": positions}]).json()
    assert len(answer["before"]["decisions"]) == 1
    assert answer["after"]["decisions"] == []
    assert answer["after"]["errors"][0]["instrument"] == "NOPEUSDT"


def test_422_if_neither_before_nor_after_could_be_answered(serve: Any) -> None:
    account = {"account_id": "a", "cash": 1.0, "positions": [{"instrument": "X", "quantity": 1}]}
    response = ask(serve(), [account], [{"account_id": "a", "deposit": 1.0}])
    assert response.status_code == 422
    assert response.json()["errors"][0]["account_id"] == "a"
