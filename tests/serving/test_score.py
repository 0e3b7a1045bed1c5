from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from decisions.replay import replay
from ledger.verify import verify
from market.core.clock import HOUR, format_time, parse_time
from market.core.errors import AlteredError
from models.bundle.bundle import load_bundle
from models.forecaster import Forecaster


def leveraged(cash: float, **rest: Any) -> dict[str, Any]:
    positions = [{"instrument": "BTCUSDT-PERP", "quantity": 0.1}]
    return {"account_id": "acc-1", "cash": cash, "positions": positions, **rest}


def only(response: Any) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    (decision,) = response.json()["decisions"]
    return dict(decision)


@pytest.mark.parametrize("cash", [100.0, 300.0, 600.0, 1_200.0, 5_000.0])
def test_probabilities_rise_with_the_horizon_and_the_level_stays_within_the_rules(
    serve: Any, champion: str, cash: float
) -> None:
    decision = only(serve().score(leveraged(cash)))
    p = [decision["probability"][h] for h in ("1", "8", "24")]
    assert all(a <= b for a, b in pairwise(p))
    assert p[0] >= 0
    assert p[-1] <= 1
    assert decision["floor"] <= decision["add_on"] <= max(decision["floor"], decision["cap"])
    total = decision["maintenance_margin"] + decision["add_on"]
    assert decision["total_requirement"] == pytest.approx(total, rel=1e-15)
    assert decision["model"] == champion
    assert decision["degraded"] is None
    assert "explain" not in decision


def test_after_the_deposit_nothing_more_is_required(serve: Any, champion: str) -> None:
    endpoint = serve()
    first = only(endpoint.score(leveraged(300.0)))
    assert first["deposit_to_meet"] > 0
    second = only(endpoint.score(leveraged(300.0 + first["deposit_to_meet"])))
    assert second["deposit_to_meet"] == 0


def test_a_decision_is_on_record_replays_to_the_bit_and_leaves_the_chain_intact(
    serve: Any, champion: str, bundles: Any, account: dict[str, Any]
) -> None:
    endpoint = serve()
    history = {"past_breaches": 2}
    decision = only(endpoint.score(account | {"history": history}))
    record = endpoint.ledger.get_record(decision["decision_id"])
    assert record.payload["decision"] == decision
    assert record.payload["account"]["history"] == history
    outcome = replay(
        endpoint.ledger,
        decision["decision_id"],
        lambda sha: Forecaster(load_bundle(bundles.root / sha)),
    )
    assert outcome.differences == {}
    assert outcome.equal
    assert verify(endpoint.ledger.engine).intact


def test_the_answer_without_previous_add_on_rests_on_the_last_recorded_decision(
    serve: Any, champion: str
) -> None:
    endpoint = serve()
    first = only(endpoint.score(leveraged(300.0)))
    last = endpoint.ledger.get_record(only(endpoint.score(leveraged(300.0)))["decision_id"])
    assert last.payload["previous"] == {
        "amount": first["add_on"],
        "as_of": parse_time(first["as_of"]),
        "initial_margin": first["initial_margin"],
        "positions": {"BTCUSDT-PERP": 0.1},
        "carried": False,
    }
    decided = "2025-01-02T00:00:00Z"
    given = {"amount": 7.5, "as_of": decided}
    decision = only(endpoint.score(leveraged(300.0, previous_add_on=given)))
    record = endpoint.ledger.get_record(decision["decision_id"])
    assert record.payload["previous"]["amount"] == 7.5
    assert record.payload["previous"]["as_of"] == parse_time(decided)
    assert record.payload["previous"]["initial_margin"] is None


def test_accounts_that_cannot_be_answered_are_errors_and_the_others_are_decided_on(
    serve: Any, champion: str, account: dict[str, Any]
) -> None:
    endpoint = serve()
    newest = endpoint.live.newest_close
    late = {"amount": 1.0, "as_of": format_time(newest + HOUR)}
    accounts = [
        leveraged(1.0)
        | {"account_id": "unknown", "positions": [{"instrument": "NOPE", "quantity": 1}]},
        account | {"account_id": "good"},
        account | {"account_id": "twice"},
        account | {"account_id": "later", "previous_add_on": late},
        account | {"account_id": "unclear", "previous_add_on": late | {"as_of": "some day soon"}},
        account | {"account_id": "long", "history": {"x": "y" * 70_000}},
        account
        | {
            "account_id": "huge",
            "cash": 1e308,
            "collateral": [{"asset": "USD", "amount": 1.7e308}],
        },
        account | {"account_id": "twice"},
        account | {"account_id": "hedged", "positions": account["positions"] * 2},
        leveraged(1.0)
        | {
            "account_id": "free",
            "positions": [{"instrument": "BTCUSDT-PERP", "quantity": 1, "entry_price": 0}],
        },
        account | {"account_id": "also good"},
    ]
    answer = endpoint.score(*accounts).json()
    assert [d["account_id"] for d in answer["decisions"]] == ["good", "also good"]
    errors = {error["account_id"]: error for error in answer["errors"]}
    assert [*errors] == [
        "unknown",
        "twice",
        "later",
        "unclear",
        "long",
        "huge",
        "hedged",
        "free",
    ]
    assert "more than once" in errors["hedged"]["detail"]
    assert "a price above 0" in errors["free"]["detail"]
    assert errors["unknown"]["type"] == "instrument"
    assert errors["unknown"]["instrument"] == "NOPE"
    assert errors["twice"]["type"] == "duplicate"
    assert "after the decision time" in errors["later"]["detail"]
    assert "at most 65536" in errors["long"]["detail"]
    assert len(list(endpoint.ledger.records("decision"))) == 2


def test_422_with_every_error_if_no_account_could_be_answered(serve: Any, champion: str) -> None:
    endpoint = serve()
    response = endpoint.score(leveraged(1.0, collateral=[{"asset": "ZZZ", "amount": 1.0}]))
    assert response.status_code == 422
    assert response.headers["content-type"].startswith("application/problem+json")
    problem = response.json()
    assert problem["type"] == "urn:margincast:problem:no-account-answered"
    assert problem["errors"][0]["instrument"] == "ZZZ"
    assert list(endpoint.ledger.records("decision")) == []


def test_as_of_before_the_newest_bar_is_422_and_names_both_times(
    serve: Any, account: dict[str, Any]
) -> None:
    endpoint = serve()
    newest = endpoint.live.newest_close
    given = format_time(newest - HOUR)
    response = endpoint.score(account, as_of=given)
    assert response.status_code == 422
    assert given in response.json()["detail"]
    assert format_time(newest) in response.json()["detail"]


@pytest.mark.parametrize("as_of", ["not a time at all", "9999-12-31T00:00:00Z", "2100-01-01"])
def test_an_impossible_as_of_is_422(serve: Any, account: dict[str, Any], as_of: str) -> None:
    assert serve().score(account, as_of=as_of).status_code == 422


def test_absent_as_of_is_the_configured_clock(
    serve: Any, champion: str, account: dict[str, Any]
) -> None:
    market = serve()
    assert only(market.score(account))["as_of"] == format_time(market.live.newest_close)
    wall = only(serve(clock="wall").score(account))
    assert parse_time(wall["as_of"]) > market.live.newest_close + 24 * HOUR
    assert "stale" in wall["degraded"]


def test_without_a_bundle_the_rule_floor_answers_never_zero(
    serve: Any, account: dict[str, Any]
) -> None:
    decision = only(serve().score(account))
    assert decision["degraded"].startswith("no model")
    assert decision["binding"] == "fallback"
    assert decision["probability"] is None
    assert decision["model"] is None
    assert decision["add_on"] == decision["floor"] > 0


def test_stale_data_raise_the_floor_without_the_model(
    serve: Any, champion: str, account: dict[str, Any]
) -> None:
    endpoint = serve()
    newest = endpoint.live.newest_close
    just = only(endpoint.score(account, as_of=format_time(newest + 2 * HOUR)))
    over = only(endpoint.score(account, as_of=format_time(newest + 2 * HOUR + 1_000_000_000)))
    assert just["degraded"] is None
    assert "stale" in over["degraded"]
    assert over["floor"] > just["floor"]
    assert over["add_on"] == over["floor"]


def test_warm_up_is_degraded(
    serve: Any, champion: str, market: Any, account: dict[str, Any]
) -> None:
    decision = only(serve(market.head(100)).score(account))
    assert "warm-up" in decision["degraded"]
    assert decision["add_on"] == decision["floor"]


def test_a_model_that_fails_or_returns_nan_gives_the_rule_floor(
    serve: Any, champion: str, account: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    from models.onnx.scorer import Scorer

    def broken(self: Scorer, X: Any) -> Any:
        raise runtime.RuntimeException("bad node")

    def returns_nan(self: Scorer, X: Any) -> Any:
        return np.full((len(X), 3), np.nan)

    endpoint = serve()
    for failure, reason in ((broken, "failed to answer"), (returns_nan, "no number")):
        monkeypatch.setattr(Scorer, "probability", failure)
        decision = only(endpoint.score(account))
        assert reason in decision["degraded"]
        assert decision["add_on"] == decision["floor"]


def test_503_and_no_decision_if_it_cannot_be_recorded(
    serve: Any, account: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from market.core.errors import LedgerError

    def full(*_: Any, **__: Any) -> None:
        raise LedgerError("disk /var/secret is full")

    endpoint = serve()
    with monkeypatch.context() as broken:
        broken.setattr(endpoint.ledger, "append_decisions", full)
        response = endpoint.score(account)
        assert response.status_code == 503
        assert "secret" not in response.text
        assert endpoint.client.get("/health/ready").status_code == 503
    assert endpoint.score(account).status_code == 200
    assert endpoint.client.get("/health/ready").status_code == 200


def test_503_before_the_first_bar(serve: Any, market: Any, account: dict[str, Any]) -> None:
    from features.state.market_state import MarketState
    from monitoring.market_state.live_market import LiveMarket

    state = MarketState(market.panel.symbols, market.panel.interval)
    endpoint = serve(live=LiveMarket(state, np.full(4, np.nan), None))
    assert endpoint.score(account).status_code == 503
    assert endpoint.client.get("/health/ready").status_code == 503
    assert endpoint.client.get("/metrics").status_code == 200
    endpoint.client.post("/v1/market/bars", json={"interval": "1h", "bars": market.bars(range(1))})
    assert endpoint.score(account).status_code == 200


def test_same_idempotency_key_and_body_gives_the_same_bytes_and_one_decision(
    serve: Any, champion: str, account: dict[str, Any]
) -> None:
    endpoint, headers = serve(), {"Idempotency-Key": "order 66"}
    answers = [
        endpoint.client.post("/v1/score", json={"accounts": [account]}, headers=headers)
        for _ in range(2)
    ]
    again = serve().client.post("/v1/score", json={"accounts": [account]}, headers=headers)
    assert answers[0].content == answers[1].content == again.content
    assert "idempotent-replayed" not in answers[0].headers
    assert answers[1].headers["idempotent-replayed"] == "true"
    assert again.headers["idempotent-replayed"] == "true"
    assert len(list(endpoint.ledger.records("decision"))) == 1
    other = endpoint.client.post(
        "/v1/score", json={"accounts": [account | {"cash": 1.0}]}, headers=headers
    )
    assert other.status_code == 409
    assert other.json()["type"] == "urn:margincast:problem:idempotency-conflict"


def test_a_refused_request_under_a_key_is_refused_alike(
    serve: Any, champion: str, account: dict[str, Any]
) -> None:
    """With its status and its problem, whatever the market became since."""
    endpoint, headers = serve(), {"Idempotency-Key": "k"}
    body: dict[str, Any] = {"accounts": [account, account]}
    first = endpoint.client.post("/v1/score", json=body, headers=headers)
    assert (first.status_code, "idempotent-replayed" in first.headers) == (422, False)
    for again in (endpoint, serve()):
        repeated = again.client.post("/v1/score", json=body, headers=headers)
        assert (repeated.status_code, repeated.content) == (422, first.content)
        assert repeated.headers["content-type"] == "application/problem+json"
        assert repeated.headers["idempotent-replayed"] == "true"
    conflict = endpoint.client.post("/v1/score", json={"accounts": [account]}, headers=headers)
    assert conflict.status_code == 409
    (record,) = endpoint.ledger.records("answer")
    assert record.payload["status"] == 422
    assert verify(endpoint.ledger.engine).intact


def test_a_body_that_cannot_be_read_leaves_its_key_free(
    serve: Any, champion: str, account: dict[str, Any]
) -> None:
    endpoint, headers = serve(), {"Idempotency-Key": "k"}
    unreadable: list[dict[str, Any]] = [{"accounts": []}, {"accounts": [account], "more": 1}]
    for body in unreadable:
        assert endpoint.client.post("/v1/score", json=body, headers=headers).status_code == 422
    answer = endpoint.client.post("/v1/score", json={"accounts": [account]}, headers=headers)
    assert answer.status_code == 200


def test_a_record_that_was_altered_is_no_outcome_of_a_key(
    serve: Any, champion: str, account: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, headers = serve(), {"Idempotency-Key": "k"}
    endpoint.score(account)
    restarted = serve()
    broken = AlteredError("it was altered")
    with monkeypatch.context() as patch:
        patch.setattr(
            restarted.ledger, "last_decisions", lambda names: dict.fromkeys(names, broken)
        )
        for _ in range(2):
            refused = restarted.client.post(
                "/v1/score", json={"accounts": [account]}, headers=headers
            )
            assert refused.status_code == 422
            assert "idempotent-replayed" not in refused.headers
    answer = restarted.client.post("/v1/score", json={"accounts": [account]}, headers=headers)
    assert answer.status_code == 200, "the ledger was repaired"


def test_a_request_answered_meanwhile_elsewhere_gets_that_answer(
    serve: Any, account: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, headers = serve(), {"Idempotency-Key": "k"}
    first = endpoint.client.post("/v1/score", json={"accounts": [account]}, headers=headers)
    monkeypatch.setattr(endpoint.ledger.answers, "lookup", lambda *_: {})
    second = endpoint.client.post("/v1/score", json={"accounts": [account]}, headers=headers)
    assert second.content == first.content
    assert second.headers["idempotent-replayed"] == "true"
    assert len(list(endpoint.ledger.records("decision"))) == 1


def test_one_key_from_many_threads_while_bars_arrive_is_one_decision(
    serve: Any, champion: str, market: Any, account: dict[str, Any]
) -> None:
    endpoint = serve(market.head(200))

    def score(_: int) -> Any:
        return endpoint.client.post(
            "/v1/score", json={"accounts": [account]}, headers={"Idempotency-Key": "k"}
        )

    def post(row: int) -> Any:
        body = {"interval": "1h", "bars": market.bars(range(row, row + 1))}
        return endpoint.client.post("/v1/market/bars", json=body)

    with ThreadPoolExecutor(6) as pool:
        posted = [pool.submit(post, row) for row in range(200, 206)]
        answers = [future.result() for future in [pool.submit(score, i) for i in range(8)]]
        assert {future.result().status_code for future in posted} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert len(list(endpoint.ledger.records("decision"))) == 1
    assert verify(endpoint.ledger.engine).intact
    restarted = market.head(200).live()
    restarted.recover(endpoint.ledger)
    ours, theirs = endpoint.live.state, restarted.state
    assert ours.features.values.tobytes() == theirs.features.values.tobytes()
    assert ours.mark.tobytes() == theirs.mark.tobytes()


@pytest.mark.parametrize("key", ["x" * 201, "a\tb", ""])
def test_an_odd_idempotency_key_is_422(serve: Any, account: dict[str, Any], key: str) -> None:
    response = serve().client.post(
        "/v1/score", json={"accounts": [account]}, headers={"Idempotency-Key": key}
    )
    assert response.status_code == 422


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b"", "no body"),
        (b"{", "not JSON"),
        (b'{"accounts": []}', "$.accounts"),
        (b'{"accounts": [{"account_id": "a"}]}', "cash"),
        (b'{"accounts": [{"account_id": "a", "cash": 1}]}', "positions"),
        (b'{"accounts": [{"account_id": "a", "cash": 1, "colour": 2}]}', "colour"),
        (b'{"accounts": [{"account_id": "a", "cash": "nan"}]}', "$.accounts[0].cash"),
        (b'{"accounts": [{"account_id": "a", "cash": "5"}]}', "$.accounts[0].cash"),
        (b'{"accounts": [{"account_id": "a", "cash": NaN}]}', "not JSON"),
        (b'{"accounts": [{"account_id": "a", "cash": 1e999}]}', "range"),
        (b'{"accounts": [{"account_id": "a\\u0000", "cash": 1}]}', "$.accounts[0].account_id"),
        (b'{"accounts": [{"account_id": "\\ud800", "cash": 1}]}', "not JSON"),
        (b'{"accounts": [{"account_id": "a", "cash": 1, "history": ' + b"[" * 5_000, "body"),
        (b'{"accounts": [{"account_id": "a", "cash": 1, "history": {"a": ' + b"[" * 99_999, "deep"),
        (b"\xff\xfe", "JSON"),
    ],
)
def test_an_invalid_body_is_422_and_names_what_is_wrong(
    serve: Any, body: bytes, names: str
) -> None:
    response = serve().client.post(
        "/v1/score", content=body, headers={"content-type": "application/json"}
    )
    assert response.status_code == 422
    assert response.headers["content-type"].startswith("application/problem+json")
    assert names in response.json()["detail"]


def test_too_many_positions_are_422_and_too_long_a_body_413(
    serve: Any, account: dict[str, Any]
) -> None:
    endpoint = serve(max_body_bytes=200_000)
    many = [{"instrument": "BTCUSDT", "quantity": 1.0}] * 1_001
    assert endpoint.score(account | {"positions": many}).status_code == 422
    response = endpoint.score(account | {"history": {"x": "y" * 200_000}})
    assert response.status_code == 413
    assert response.json()["status"] == 413
