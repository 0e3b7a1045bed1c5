"""Spans of requests and batches, by the SDK's exporter in memory; nothing of it where it is off."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from typing import Any

import pytest
from litestar.testing import TestClient
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from ledger.store import Ledger
from margin.rules.history import RuleHistory
from margin.rules.ruleset import RuleSet
from serving.http.app import ServingSettings, create_app
from serving.telemetry.telemetry import Telemetry
from serving.telemetry.tracing.otel import OtelTracing

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def traced(market: Any, ruleset: RuleSet, bundles: Any, ledger: Ledger, champion: str) -> Any:
    def calls(sample: float, *headers: dict[str, str]) -> list[ReadableSpan]:
        exporter = InMemorySpanExporter()
        tracing = OtelTracing(SimpleSpanProcessor(exporter), sample, 2)
        served = ServingSettings("127.0.0.1", 8000, bundles.root, clock="market", auth="off")
        rules = RuleHistory.constant(ruleset)
        app = create_app(served, ledger, rules, market.live(), Telemetry(tracing=tracing))
        body = {"accounts": [{"account_id": "acc-1", "cash": 3_000.0, "positions": []}]}
        with TestClient(app, "http://127.0.0.1:8000") as client:
            for header in headers:
                assert client.post("/v1/score", json=body, headers=header).status_code == 200
            return list(exporter.get_finished_spans())

    return calls


def test_a_call_has_its_batch_and_stages_under_the_span_of_its_caller(traced: Any) -> None:
    spans = traced(1.0, {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-Id": "one"})
    by_name = {span.name: span for span in spans}
    assert set(by_name) == {"POST /v1/score", "batch", "decide", "commit", "encode"}
    assert {f"{span.context.trace_id:032x}" for span in spans} == {TRACE}
    request, batch = by_name["POST /v1/score"], by_name["batch"]
    assert f"{request.parent.span_id:016x}" == PARENT
    assert batch.parent.span_id == request.context.span_id
    stages = [by_name[name] for name in ("decide", "commit", "encode")]
    assert all(stage.parent.span_id == batch.context.span_id for stage in stages)
    for before, after in pairwise(stages):
        assert before.end_time == after.start_time
    assert batch.start_time <= stages[0].start_time
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["http.route"] == "/v1/score"
    assert request.attributes["margincast.request_id"] == "one"
    assert request.attributes["margincast.decisions"] == 1
    assert request.resource.attributes["service.name"] == "margincast"
    assert "acc-1" not in "".join(span.to_json() for span in spans)


def test_what_is_not_sampled_leaves_no_span_unless_its_caller_does(traced: Any) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    names = [span.name for span in traced(0.0, {}, {"traceparent": "no"}, headers)]
    assert names.count("POST /v1/score") == 1


def test_nothing_of_opentelemetry_is_imported_where_tracing_is_off() -> None:
    code = (
        "import sys, pipelines.jobs.serve, serving.http.app; "
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
