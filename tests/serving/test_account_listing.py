"""GET /v1/accounts and /v1/accounts/{id}: order, pages, states, and agreement with the monitor."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from ledger.store import Ledger
from margin.rules.ruleset import RuleSet
from tests.endpoint_fixtures import Bundles, Endpoint, Serve, SmallMarket
from tests.monitoring.evaluation.helpers import Watched, snapshot, watched

ROWS = 250


@pytest.fixture
def watching(
    market: SmallMarket, ruleset: RuleSet, bundles: Bundles, champion: str, ledger: Ledger
) -> Watched:
    w = watched(market, ruleset, bundles, ledger, ROWS)
    rng = np.random.default_rng(4)
    w.update(
        *(
            snapshot(
                f"retail-{i:02d}",
                1,
                float(rng.uniform(50.0, 4_000.0) if i % 2 else rng.uniform(20.0, 600.0)),
                BTC=0.1,
                ETH=-1.0,
            )
            for i in range(25)
        ),
        {
            "account_id": "desk/a b",
            "sequence": 1,
            "snapshot": {
                "cash": 1.0,
                "positions": [{"instrument": "NOPEUSDT-PERP", "quantity": 1.0}],
            },
        },
    )
    w.settle()
    return w


@pytest.fixture
def endpoint(serve: Serve, watching: Watched, market: SmallMarket) -> Endpoint:
    return serve(live=market.head(ROWS).live())


def pages(endpoint: Endpoint, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        asked = query | ({} if cursor is None else {"cursor": cursor})
        answer = endpoint.client.get("/v1/accounts", params=asked)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        found += body["accounts"]
        cursor = body["next_cursor"]
        if cursor is None:
            return found


def test_the_view_of_an_endpoint_equals_the_columns_of_the_monitor(
    endpoint: Endpoint, watching: Watched
) -> None:
    state, columns = watching.monitor.state, watching.monitor.columns
    assert state is not None
    assert columns is not None
    for account in pages(endpoint, sort="account_id", limit=7):
        i = state.index[account["account_id"]]
        if account["problem"] is not None:
            assert account["equity"] is None
            continue
        for name in ("equity", "maintenance_margin", "initial_margin", "headroom"):
            assert account[name] == getattr(columns, name)[i], name
        # The monitor's newest rule pass came before the levels of its model pass.
        assert account["add_on"] == max(columns.floor[i], state.levels.amount[i])
        assert list(account["probability"].values()) == state.levels.probability[i].tolist()


@pytest.mark.parametrize(
    ("sort", "sign"),
    [
        ("deposit_to_meet", -1),
        ("headroom", 1),
        ("margin_ratio", -1),
        ("equity", -1),
        ("probability", -1),
    ],
)
def test_pages_hold_every_account_once_in_the_natural_order(
    endpoint: Endpoint, sort: str, sign: int
) -> None:
    found = pages(endpoint, sort=sort, limit=4)
    assert len(found) == len({account["account_id"] for account in found}) == 26
    assert found[-1]["problem"] is not None
    values = [account[sort] for account in found[:-1]]
    if sort == "probability":
        values = [value["24"] for value in values]
    if sort == "margin_ratio":
        values = [float("inf") if value is None else value for value in values]
    assert values == sorted(values, key=lambda value: sign * value)


def test_a_cursor_leads_to_what_comes_after_it_also_when_the_book_has_changed(
    endpoint: Endpoint, watching: Watched
) -> None:
    first = endpoint.client.get("/v1/accounts", params={"sort": "equity", "limit": 10}).json()
    seen = {account["account_id"] for account in first["accounts"]}
    last = first["accounts"][-1]["equity"]
    watching.update(snapshot("aaa-rich", 1, 9_000_000.0, BTC=0.1))
    rest = endpoint.client.get(
        "/v1/accounts", params={"sort": "equity", "limit": 100, "cursor": first["next_cursor"]}
    ).json()
    after = [account["account_id"] for account in rest["accounts"]]
    assert seen.isdisjoint(after)
    assert len(after) == 16
    assert rest["total"] == 27
    assert all(a["equity"] is None or a["equity"] <= last for a in rest["accounts"])


def test_accounts_in_a_state(endpoint: Endpoint) -> None:
    states = [account["state"] for account in pages(endpoint)]
    assert len(set(states)) > 1
    for state in set(states):
        found = pages(endpoint, state=state, limit=3)
        assert {account["state"] for account in found} == {state}
        assert len(found) == states.count(state)


def test_one_account_by_an_id_with_a_slash(endpoint: Endpoint) -> None:
    answer = endpoint.client.get(f"/v1/accounts/{quote('desk/a b', safe='')}")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["account"]["account_id"] == body["evaluation"]["account_id"] == "desk/a b"
    assert "NOPE" in body["evaluation"]["problem"]
    assert body["decision_id"] is None
    missing = endpoint.client.get("/v1/accounts/nobody")
    assert missing.status_code == 404
    assert "PUT" in missing.json()["detail"]


def test_an_account_that_was_decided_on_names_its_newest_decision(
    endpoint: Endpoint, watching: Watched
) -> None:
    decision = next(iter(watching.ledger.records("decision")))
    body = endpoint.client.get(f"/v1/accounts/{decision.account_id}").json()
    found = endpoint.client.get(f"/v1/decisions/{body['decision_id']}")
    assert found.status_code == 200
    assert found.json()["requester"] == "monitor"


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"sort": "size"}, "deposit_to_meet"),
        ({"state": "happy"}, "healthy"),
        ({"limit": 0}, "give 1 to"),
        ({"limit": 501}, "give 1 to 500"),
        ({"cursor": "%%%"}, "cursor"),
        ({"cursor": "WyJlcXVpdHkiLCIweDEiLCJhIl0"}, "equity"),
    ],
)
def test_an_impossible_page_is_refused_with_what_would_do(
    endpoint: Endpoint, query: dict[str, Any], named: str
) -> None:
    answer = endpoint.client.get("/v1/accounts", params=query)
    assert answer.status_code == 422, answer.text
    assert named in answer.json()["detail"]


def test_an_empty_book_is_an_empty_page(serve: Serve, champion: str) -> None:
    body = serve().client.get("/v1/accounts").json()
    assert body["accounts"] == []
    assert body["total"] == 0
    assert body["next_cursor"] is None
