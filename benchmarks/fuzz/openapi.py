"""``python -m benchmarks openapi``: requests made from the OpenAPI document, valid and invalid.

Every answer must have a documented status, type and schema, and none may be a 5xx. schemathesis
draws the requests and holds the answers to the document.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from benchmarks.fuzz.wire import MONITORED
from benchmarks.measure import Result, write
from benchmarks.reliability.scenarios import serve
from benchmarks.reliability.service import Service
from benchmarks.reliability.workspace import make_workspace

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
ROUTES = (
    "POST /v1/score",
    "POST /v1/what-if",
    "POST /v1/market/bars",
    "POST /v1/market/quotes",
    "POST /v1/accounts/updates",
    "PUT /v1/accounts/{account_id}",
    "GET /v1/accounts",
    "GET /v1/accounts/{account_id}",
    "GET /v1/decisions/{decision_id}",
    "GET /v1/decisions/{decision_id}/explanation",
    "GET /v1/accounts/{account_id}/decisions",
    "GET /v1/calls",
    "GET /v1/calls/{call_id}",
    "POST /v1/calls/{call_id}/ack",
    "POST /v1/calls/{call_id}/dispute",
    "POST /v1/calls/{call_id}/resolve",
    "GET /v1/commands/{command_id}",
    "GET /v1/instructions",
    "GET /v1/instructions/{instruction_id}",
    "POST /v1/instructions/{instruction_id}/ack",
    "GET /v1/overrides",
    "POST /v1/overrides",
    "POST /v1/overrides/{override_id}/approve",
    "POST /v1/overrides/{override_id}/reject",
    "GET /v1/admin/mode",
    "POST /v1/admin/mode",
    "GET /v1/admin/deliveries",
    "POST /v1/admin/deliveries/{event_id}/skip",
    "GET /v1/model",
    "GET /v1/ruleset",
    "GET /health/live",
    "GET /health/ready",
    "GET /metrics",
)
WITH_INPUT = (
    *ROUTES[:7],
    "GET /v1/accounts/{account_id}/decisions",
    *(route for route in ROUTES[7:] if route.startswith("POST")),
    "GET /v1/calls",
    "GET /v1/instructions",
    "GET /v1/admin/deliveries",
    "GET /v1/ruleset",
)
"""What the document can be violated for: a body or a parameter that is more than any text."""

KINDS = (
    *((route, GenerationMode.POSITIVE) for route in ROUTES),
    *((route, GenerationMode.NEGATIVE) for route in WITH_INPUT),
)
EXAMPLES = 1_000


def read_document(service: Service) -> dict[str, Any]:
    """The OpenAPI document of a running endpoint."""
    document: dict[str, Any] = json.loads(service.get("/docs/openapi.json")[1])
    return document


def documented_operations(service: Service, document: dict[str, Any]) -> dict[str, Any]:
    """Each documented operation; without keys, which this endpoint does not ask for."""
    document.pop("security", None)
    for path in document["paths"].values():
        for operation in path.values():
            operation.pop("security", None)
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=f"http://127.0.0.1:{service.port}")
    results = list(schema.get_all_operations())
    found = [result.ok() for result in results if isinstance(result, Ok)]
    if len(found) != len(results):
        raise RuntimeError(f"{len(results) - len(found)} documented operations cannot be read")
    return {operation.label: operation for operation in found}


def fuzz_operation(
    operation: Any, mode: GenerationMode, examples: int, number: int
) -> tuple[Counter[int], list[str]]:
    """Answers by status to so many requests, drawn from seed `number`, and broken promises."""
    answers: Counter[int] = Counter()
    faults: list[str] = []

    @seed(number)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        response = case.call()
        answers[response.status_code] += 1
        try:
            case.validate_response(response, checks=CHECKS)
        except FailureGroup as found:
            faults.append(str(found))

    check()
    return answers, faults


def main(arguments: list[str]) -> None:
    """Parse, run, print, write; exit code 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks openapi", description=__doc__)
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="of each route and kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/openapi.json")
    options = parser.parse_args(arguments)
    answers: Counter[int] = Counter()
    faults: list[str] = []
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        workspace = make_workspace(Path(folder) / "work")
        with serve(workspace, workspace.sqlite, variables=MONITORED) as service:
            operations = documented_operations(service, read_document(service))
            for route, mode in KINDS:
                found = fuzz_operation(operations[route], mode, options.examples, options.seed)
                answers += found[0]
                faults += [f"{route}, {mode.value}: {fault}" for fault in found[1]]
                seconds = time.monotonic() - begun
                print(f"{seconds:6.0f} s  {route}, {mode.value}: {dict(found[0])}", flush=True)
    counts = {
        "requests": answers.total(),
        "broken_promises": len(faults),
        "answers_5xx": sum(times for status, times in answers.items() if status >= 500),
        **{f"answers_{status}": times for status, times in sorted(answers.items())},
    }
    for name, value in counts.items():
        print(f"{name:<24} {value:>10}")
    print("\n".join(fault[:1_500] for fault in faults[:10]))
    if options.keep:
        settings_ = {"examples": options.examples, "seed": options.seed}
        print(f"written to {write(Result('openapi', settings_, {}, counts))}")
    if faults:
        raise SystemExit(1)
