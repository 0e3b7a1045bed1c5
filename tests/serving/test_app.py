from __future__ import annotations

import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from ledger.engines import BUSY_SECONDS
from ledger.following import SharedChain
from ledger.schema import writing
from market.core.clock import format_time, parse_time
from market.core.errors import ConfigError, DataError
from monitoring.ledger_probe import SHARED_SECONDS
from monitoring.shared_market import SharedMarket
from serving.http.app import ServingSettings
from serving.score_queue import ScoreQueue

HEAVY = ("lightgbm", "mlflow", "sklearn", "pandas", "shap", "matplotlib", "polars", "onnx")


def test_import_loads_nothing_that_only_training_needs() -> None:
    code = (
        "import sys, serving.http.app\n"
        f"print([m for m in {(*HEAVY, 'scipy.stats')!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True
    )
    total = next(line for line in done.stderr.splitlines() if line.endswith("| serving.http.app"))
    print(total)  # noqa: T201  for the reader of a slow start
    assert done.stdout.strip() == "[]"


def test_posted_bars_are_applied_recorded_and_counted(
    serve: Any, market: Any, account: dict[str, Any]
) -> None:
    endpoint = serve(market.head(200))
    bars = market.bars(range(200, 202))
    answer = endpoint.client.post("/v1/market/bars", json={"interval": "1h", "bars": bars})
    assert answer.status_code == 200
    assert {result["status"] for result in answer.json()["results"]} == {"applied"}
    newest = format_time(int(market.panel.closes[201]))
    assert answer.json()["as_of"] == newest
    (record,) = endpoint.ledger.records("bars")
    assert record.payload["bars"] == bars
    again = endpoint.client.post("/v1/market/bars", json={"interval": "1h", "bars": bars})
    assert {result["status"] for result in again.json()["results"]} == {"duplicate"}
    assert len(list(endpoint.ledger.records("bars"))) == 1
    decision = endpoint.score(account).json()["decisions"][0]
    assert decision["as_of"] == newest
    metrics = endpoint.client.get("/metrics").text
    assert 'margincast_bars_total{status="applied"} 8.0' in metrics
    assert 'margincast_bars_total{status="duplicate"} 8.0' in metrics


def test_a_restarted_endpoint_decides_as_the_one_before(
    serve: Any, champion: str, market: Any, account: dict[str, Any]
) -> None:
    start = market.head(200)
    first = serve(start)
    for row in range(200, 203):
        body = {"interval": "1h", "bars": market.bars(range(row, row + 1))}
        first.client.post("/v1/market/bars", json=body)
    second = serve(start)
    previous = {"amount": 0.0, "as_of": "2025-01-01T00:00:00Z"}
    body = account | {"previous_add_on": previous}
    a, b = (e.score(body).json()["decisions"][0] for e in (first, second))
    assert {**a, "decision_id": ""} == {**b, "decision_id": ""}


def test_bars_that_cannot_be_recorded_are_503_and_do_not_move_the_market(
    serve: Any, market: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from market.core.errors import LedgerError

    endpoint = serve(market.head(200))
    newest = endpoint.live.newest_close
    body = {"interval": "1h", "bars": market.bars(range(200, 201))}

    def full(*_: Any, **__: Any) -> None:
        raise LedgerError("full")

    with monkeypatch.context() as broken:
        broken.setattr(SharedChain, "append", full)
        assert endpoint.client.post("/v1/market/bars", json=body).status_code == 503
    assert endpoint.live.newest_close == newest
    retried = endpoint.client.post("/v1/market/bars", json=body).json()
    assert {result["status"] for result in retried["results"]} == {"applied"}


def test_bars_of_no_known_interval_are_422(serve: Any, market: Any) -> None:
    body = {"interval": "7h", "bars": [market.bar(0, 0)]}
    answer = serve().client.post("/v1/market/bars", json=body)
    assert answer.status_code == 422
    assert "'7h'" in answer.json()["detail"]


def test_health_is_answered_while_another_process_holds_the_ledger(serve: Any) -> None:
    endpoint = serve()
    with writing(endpoint.ledger.engine) as other:
        other.execute(text("SELECT 1"))
        started = time.monotonic()
        answer = endpoint.client.get("/health/ready")
        waited = time.monotonic() - started
    assert answer.status_code == 200, "a writer that holds the lock is no failure"
    assert waited < BUSY_SECONDS
    assert endpoint.client.get("/health/ready").status_code == 200


def test_on_the_wall_clock_a_bar_of_the_future_is_rejected(serve: Any, market: Any) -> None:
    bar = market.bar(0, 0) | {"ts": "2200-01-01T00:00:00Z"}
    endpoint = serve(clock="wall")
    answer = endpoint.client.post("/v1/market/bars", json={"interval": "1h", "bars": [bar]}).json()
    assert answer["results"][0]["status"] == "rejected"
    assert "once it has closed" in answer["results"][0]["detail"]


def test_a_decision_is_returned_by_id_with_its_place_in_the_ledger(
    serve: Any, account: dict[str, Any]
) -> None:
    endpoint = serve()
    decision = endpoint.score(account).json()["decisions"][0]
    found = endpoint.client.get(f"/v1/decisions/{decision['decision_id']}").json()
    record = endpoint.ledger.get_record(decision["decision_id"])
    assert {key: found[key] for key in decision} == decision
    assert (found["hash"], found["seq"]) == (record.hash, record.seq)
    assert parse_time(found["recorded_at"]) == record.recorded_at // 1_000 * 1_000
    assert found["requester"] == "local"


def test_an_unknown_decision_is_404_and_so_is_a_record_of_another_kind(
    serve: Any, market: Any
) -> None:
    endpoint = serve(market.head(200))
    body = {"interval": "1h", "bars": market.bars(range(200, 201))}
    endpoint.client.post("/v1/market/bars", json=body)
    (record,) = endpoint.ledger.records("bars")
    for name in ("nope", record.id):
        response = endpoint.client.get(f"/v1/decisions/{name}")
        assert response.status_code == 404
        assert response.headers["content-type"].startswith("application/problem+json")


def test_decisions_of_an_account_come_newest_first_page_by_page(
    serve: Any, account: dict[str, Any]
) -> None:
    endpoint = serve()
    ids = [endpoint.score(account).json()["decisions"][0]["decision_id"] for _ in range(3)]
    endpoint.score(account | {"account_id": "other"})
    path = "/v1/accounts/acc-1/decisions"
    first = endpoint.client.get(path, params={"limit": 2}).json()
    assert [d["decision_id"] for d in first["decisions"]] == ids[:0:-1]
    rest = endpoint.client.get(path, params={"limit": 2, "before": first["next_before"]}).json()
    assert [d["decision_id"] for d in rest["decisions"]] == ids[:1]
    assert rest["next_before"] is None
    for odd in ({"limit": 0}, {"limit": 501}, {"limit": "x"}, {"before": 0}, {"before": 2**63}):
        assert endpoint.client.get(path, params=odd).status_code == 422


def test_model_and_rule_set_are_shown(serve: Any, champion: str, ruleset: Any) -> None:
    endpoint = serve()
    model = endpoint.client.get("/v1/model").json()
    assert model["sha256"] == champion
    assert model["horizons"] == [1, 8, 24]
    assert "prior_logit_24h" in model["features"]
    assert model["training"]["span"][0] == "2025-01-01T00:00:00Z"
    assert model["metrics"] == {"1": {"auc": 0.9}}
    rules = endpoint.client.get("/v1/ruleset").json()
    assert rules == {"sha256": ruleset.sha256, "content": ruleset.content()}


def test_model_is_404_without_one(serve: Any) -> None:
    assert serve().client.get("/v1/model").status_code == 404


def test_ready_names_what_is_missing(serve: Any, market: Any, champion: str) -> None:
    assert serve().client.get("/health/live").json() == {"status": "live"}
    assert serve().client.get("/health/ready").json() == {"status": "ready", "reasons": []}
    for endpoint, reason in ((serve(clock="wall"), "stale"), (serve(market.head(50)), "warm-up")):
        answer = endpoint.client.get("/health/ready")
        assert answer.status_code == 200
        assert answer.json()["status"] == "degraded"
        assert reason in answer.json()["reasons"][0]


def test_ready_is_503_while_the_ledger_is_not_writable(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from market.core.errors import LedgerError

    def locked(**_: object) -> None:
        raise LedgerError("read-only")

    endpoint = serve()
    monkeypatch.setattr(endpoint.ledger, "transaction", locked)
    # The result of a probe that began before is shared for a short time.
    deadline = time.monotonic() + 60.0 + SHARED_SECONDS
    answer = endpoint.client.get("/health/ready")
    while answer.status_code == 200 and time.monotonic() < deadline:
        time.sleep(0.1)
        answer = endpoint.client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json() == {"status": "unavailable", "reasons": ["the ledger is not writable"]}
    assert endpoint.client.get("/health/live").status_code == 200


def test_ready_is_503_once_nothing_scores_any_more(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = serve()
    assert endpoint.client.get("/health/ready").status_code == 200
    monkeypatch.setattr(ScoreQueue, "health_error", lambda _: "the scoring thread ended")
    answer = endpoint.client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json() == {"status": "unavailable", "reasons": ["the scoring thread ended"]}


def test_steps_that_cannot_count_leave_the_market_as_it_is_and_are_reported(
    serve: Any,
    account: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def misfit(*_: object) -> None:
        raise DataError("the step does not fit")

    endpoint = serve(clock="wall")
    before = endpoint.score(account).json()["decisions"][0]
    with monkeypatch.context() as patch:
        patch.setattr(SharedMarket, "count_due", misfit)
        for _ in range(2):
            decision = endpoint.score(account).json()["decisions"][0]
            assert decision["floor"] == before["floor"]
            ready = endpoint.client.get("/health/ready")
            assert ready.status_code == 200
            assert any("cannot count" in reason for reason in ready.json()["reasons"])
        assert endpoint.client.get("/metrics").status_code == 200
        assert sum("the step does not fit" in r.message for r in caplog.records) == 1
    ready = endpoint.client.get("/health/ready").json()
    assert not any("cannot count" in reason for reason in ready["reasons"])


def test_metrics_count_requests_by_template_decisions_and_the_model(
    serve: Any, champion: str, account: dict[str, Any]
) -> None:
    endpoint = serve()
    endpoint.score(account)
    endpoint.client.get("/v1/decisions/one")
    endpoint.client.get("/nowhere/at/all")
    text = endpoint.client.get("/metrics").text
    template = "/v1/decisions/{decision_id}"
    for line in (
        'margincast_requests_total{method="POST",route="/v1/score",status="200"} 1.0',
        f'margincast_requests_total{{method="GET",route="{template}",status="404"}} 1.0',
        'margincast_requests_total{method="GET",route="unmatched",status="404"} 1.0',
        'margincast_request_seconds_count{route="/v1/score"} 1.0',
        f'margincast_model_info{{sha256="{champion}"}} 1.0',
        "margincast_market_age_seconds 0.0",
        "margincast_symbols_usable 4.0",
        'margincast_degraded_decisions_total{reason="no-bundle"} 0.0',
    ):
        assert line in text.splitlines()
    assert "margincast_decisions_total{binding=" in text


def test_unknown_routes_and_methods_are_problems(serve: Any) -> None:
    client = serve().client
    for response, status in ((client.get("/nope"), 404), (client.delete("/v1/score"), 405)):
        assert response.status_code == status
        assert response.headers["content-type"].startswith("application/problem+json")
        assert response.json()["status"] == status
    assert client.delete("/v1/score").headers["allow"]


def test_an_unexpected_error_is_a_500_without_internals(
    serve: Any, account: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise KeyError("internal secret")

    monkeypatch.setattr("monitoring.champion.decide", fail)
    response = serve().score(account)
    assert response.status_code == 500
    assert response.headers["content-type"].startswith("application/problem+json")
    assert "secret" not in response.text


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.external: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.external += [
            v for k, v in attrs if k in ("src", "href") and v and v.startswith(("http", "//"))
        ]


def test_docs_list_every_route_and_need_no_network(serve: Any) -> None:
    client = serve().client
    document = client.get("/docs/openapi.json").json()
    assert set(document["paths"]) == {
        "/v1/score",
        "/v1/what-if",
        "/v1/market/bars",
        "/v1/market/quotes",
        "/v1/decisions/{decision_id}",
        "/v1/decisions/{decision_id}/explanation",
        "/v1/accounts",
        "/v1/accounts/updates",
        "/v1/accounts/{account_id}",
        "/v1/accounts/{account_id}/decisions",
        "/v1/calls",
        "/v1/calls/{call_id}",
        "/v1/calls/{call_id}/ack",
        "/v1/calls/{call_id}/dispute",
        "/v1/calls/{call_id}/resolve",
        "/v1/commands/{command_id}",
        "/v1/instructions",
        "/v1/instructions/{instruction_id}",
        "/v1/instructions/{instruction_id}/ack",
        "/v1/overrides",
        "/v1/overrides/{override_id}/approve",
        "/v1/overrides/{override_id}/reject",
        "/v1/admin/mode",
        "/v1/admin/deliveries",
        "/v1/admin/deliveries/{event_id}/skip",
        "/v1/model",
        "/v1/ruleset",
        "/health/live",
        "/health/ready",
        "/metrics",
    }
    operation = document["paths"]["/v1/score"]["post"]
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert body["$ref"].endswith("ScoreRequest")
    assert answer["$ref"].endswith("ScoreResponse")
    assert {"401", "409", "413", "422", "503"} <= set(operation["responses"])
    assert "400" not in operation["responses"]
    history = document["components"]["schemas"]["AccountIn"]["properties"]["history"]
    kept = {"additionalProperties": {}, "type": "object"}
    assert history["oneOf"] == [kept, {"type": "null"}]
    assert [p["name"] for p in operation["parameters"]] == ["Idempotency-Key", "Request-Timeout"]
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    links = _Links()
    links.feed(page.text)
    assert links.external == []
    assert 'data-document="/docs/openapi.json"' in page.text


def test_settings_refuse_what_cannot_be_and_open_doors_to_the_network(tmp_path: Path) -> None:
    sound: dict[str, Any] = {"host": "::1", "port": 1, "bundles": tmp_path, "auth": "off"}
    refused: list[dict[str, Any]] = [
        {"clock": "sun"},
        {"auth": "maybe"},
        {"host": "0.0.0.0"},  # noqa: S104
        {"max_page": 0},
        {"max_body_bytes": -1},
        {"mark_max_age": 0},
    ]
    for value in refused:
        with pytest.raises(ConfigError):
            ServingSettings(**sound | value)
    assert ServingSettings("localhost", 1, tmp_path, auth="off").auth == "off"


def test_configured_limits_hold_over_http(serve: Any, account: dict[str, Any]) -> None:
    endpoint = serve(max_body_bytes=2_000, max_history_bytes=50, max_page=2)
    assert endpoint.score(account).status_code == 200
    assert endpoint.score(*[account] * 20).status_code == 413
    long = endpoint.score(account | {"history": {"note": "x" * 60}})
    assert long.status_code == 422
    assert "at most 50 are kept" in long.json()["errors"][0]["detail"]
    url = "/v1/accounts/acc-1/decisions"
    assert endpoint.client.get(url, params={"limit": 2}).status_code == 200
    refused = endpoint.client.get(url, params={"limit": 3})
    assert refused.status_code == 422
    assert "give 1 to 2" in refused.json()["detail"]
