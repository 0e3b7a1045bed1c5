"""The endpoint as a process: what it answers, what it takes in, what survives a kill."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import httpx
import pyarrow.parquet as pq
import pytest

from market.core.clock import HOUR, format_time, parse_time

# Fixtures live in conftest.py, which no test can import: their classes are Any here.
Workspace: TypeAlias = Any
TrainedMarket: TypeAlias = Any
Serve: TypeAlias = Callable[..., Any]

ACCOUNT = {
    "account_id": "acc-1",
    "cash": 1_000.0,
    "positions": [{"instrument": "BTCUSDT-PERP", "quantity": 0.1}],
    "collateral": [],
}
BODY = {"accounts": [ACCOUNT]}
DECISION = {
    "decision_id",
    "account_id",
    "as_of",
    "equity",
    "initial_margin",
    "maintenance_margin",
    "headroom",
    "probability",
    "add_on",
    "total_requirement",
    "deposit_to_meet",
    "floor",
    "model_add_on",
    "cap",
    "binding",
    "degraded",
    "reasons",
    "model",
    "ruleset",
}


def next_bars(trained: TrainedMarket) -> dict[str, Any]:
    """A quiet bar of every symbol right after the newest one."""
    bars = []
    for symbol in trained.simulated["symbols"]:
        known = trained.workspace.folder / "simulated" / "bars" / f"{symbol}.parquet"
        last = pq.read_table(known)["close"][-1].as_py()
        bars.append(
            {
                "symbol": symbol,
                "ts": trained.newest,
                "open": last,
                "high": last * 1.01,
                "low": last * 0.99,
                "close": last * 0.995,
                "volume": 5.0,
            }
        )
    return {"interval": "1h", "bars": bars}


def statuses(answer: dict[str, Any]) -> set[str]:
    return {result["status"] for result in answer["results"]}


def test_every_route_answers_as_written(
    trained: TrainedMarket, workspace: Workspace, serve: Serve
) -> None:
    endpoint = serve(workspace)
    assert endpoint.get("/health/live") == {"status": "live"}
    assert endpoint.get("/health/ready") == {"status": "ready", "reasons": []}

    answer = endpoint.post("/v1/score", BODY, headers={"Idempotency-Key": "one"})
    assert answer.keys() == {"decisions", "errors"}
    assert answer["errors"] == []
    (decision,) = answer["decisions"]
    assert decision.keys() >= DECISION
    assert decision["as_of"] == trained.newest
    assert decision["model"] == trained.champion
    assert decision["degraded"] is None
    assert list(decision["probability"]) == ["1", "8", "24"]
    assert decision["add_on"] >= decision["floor"]

    again = endpoint.post("/v1/score", BODY, headers={"Idempotency-Key": "one"})
    assert again == answer
    richer = {"accounts": [{**ACCOUNT, "cash": 2_000.0}]}
    endpoint.post("/v1/score", richer, 409, headers={"Idempotency-Key": "one"})

    change = {"account_id": "acc-1", "deposit": 500.0}
    compared = endpoint.post("/v1/what-if", {**BODY, "changes": [change]})
    before, after = (compared[side]["decisions"][0] for side in ("before", "after"))
    assert after["equity"] == pytest.approx(before["equity"] + 500.0)
    assert "decision_id" not in before

    recorded = endpoint.get(f"/v1/decisions/{decision['decision_id']}")
    assert recorded.items() >= decision.items()
    page = endpoint.get("/v1/accounts/acc-1/decisions")
    assert [kept["decision_id"] for kept in page["decisions"]] == [decision["decision_id"]]

    assert endpoint.get("/v1/model")["sha256"] == trained.champion
    assert endpoint.get("/v1/ruleset")["sha256"] == decision["ruleset"]
    docs = endpoint.client.get("/docs")
    assert docs.status_code == 200
    assert "/docs/openapi.json" in docs.text
    assert "/v1/market/bars" in endpoint.get("/docs/openapi.json")["paths"]
    metrics = endpoint.client.get("/metrics")
    assert metrics.status_code == 200
    assert metrics.headers["content-type"].startswith("text/plain")
    assert trained.champion in metrics.text

    problem = endpoint.get("/v1/decisions/nobody", 404)
    assert problem["status"] == 404
    too_early = format_time(parse_time(trained.newest) - HOUR)
    endpoint.post("/v1/score", {**BODY, "as_of": too_early}, 422)


def test_posted_bars_and_decisions_survive_a_kill(
    trained: TrainedMarket, workspace: Workspace, serve: Serve
) -> None:
    bars = next_bars(trained)
    moved = format_time(parse_time(trained.newest) + HOUR)
    first = serve(workspace)
    answer = first.post("/v1/market/bars", bars)
    assert statuses(answer) == {"applied"}
    assert answer["as_of"] == moved
    (decision,) = first.post("/v1/score", BODY)["decisions"]
    assert decision["as_of"] == moved
    first.kill()

    second = serve(workspace)
    repeated = second.post("/v1/market/bars", bars)
    assert statuses(repeated) == {"duplicate"}
    assert repeated["as_of"] == moved
    recorded = second.get(f"/v1/decisions/{decision['decision_id']}")
    assert recorded.items() >= decision.items()
    compared = second.post(
        "/v1/what-if", {**BODY, "changes": [{"account_id": "acc-1", "deposit": 0.0}]}
    )
    held = compared["before"]["decisions"][0]
    assert held["probability"] == decision["probability"], "the market is the one before the kill"
    assert second.stop() in {0, -15}

    assert workspace.report("ledger", "verify")["intact"] is True
    replayed = workspace.report("ledger", "replay", decision["decision_id"])
    assert replayed["equal"] is True


def test_without_a_champion_it_is_degraded_and_answers_the_floor(
    bare: Workspace, serve: Serve
) -> None:
    endpoint = serve(bare)
    readiness = endpoint.get("/health/ready")
    assert readiness["status"] == "degraded"
    assert readiness["reasons"]
    (decision,) = endpoint.post("/v1/score", BODY)["decisions"]
    assert decision["binding"] == "fallback"
    assert decision["degraded"]
    assert decision["probability"] is None
    assert decision["add_on"] >= decision["floor"] > 0
    endpoint.get("/v1/model", 404)


def test_keys_open_what_their_scopes_say_and_nothing_once_revoked(
    trained: TrainedMarket, bare: Workspace, serve: Serve
) -> None:
    secret = bare.run("keys", "add", "--scopes", "score").stdout.strip()
    endpoint = serve(bare, MARGINCAST__SERVING__AUTH="keys")
    bearer = {"Authorization": f"Bearer {secret}"}
    assert endpoint.get("/health/live") == {"status": "live"}

    refused: httpx.Response = endpoint.client.post("/v1/score", json=BODY)
    assert refused.status_code == 401
    assert refused.headers["content-type"].startswith("application/problem+json")
    assert refused.headers["www-authenticate"].startswith("Bearer")
    endpoint.post("/v1/score", BODY, 401, headers={"Authorization": "Bearer mck_a_b"})

    assert endpoint.post("/v1/score", BODY, headers=bearer)["decisions"]
    endpoint.post("/v1/market/bars", next_bars(trained), 403, headers=bearer)
    endpoint.get("/v1/accounts/acc-1/decisions", 403, headers=bearer)

    bare.run("keys", "revoke", secret.split("_")[1])
    endpoint.post("/v1/score", BODY, 401, headers=bearer)
