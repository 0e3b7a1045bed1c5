"""Answers match the OpenAPI document; ``python -m benchmarks openapi`` sends many more requests."""

from __future__ import annotations

from typing import Any

import pytest
from schemathesis import GenerationMode

from benchmarks.fuzz.openapi import (
    KINDS,
    ROUTES,
    documented_operations,
    fuzz_operation,
    read_document,
)
from benchmarks.reliability.service import Service

EXAMPLES = 12
"""Of each route and kind; making them takes longer than answering them."""


@pytest.fixture(scope="module")
def operations(fuzzed: Service) -> dict[str, Any]:
    return documented_operations(fuzzed, read_document(fuzzed))


def test_every_documented_route_is_fuzzed(operations: dict[str, Any]) -> None:
    assert sorted(operations) == sorted(ROUTES)


@pytest.mark.parametrize(("route", "mode"), KINDS)
def test_answers_match_the_document(
    operations: dict[str, Any], route: str, mode: GenerationMode
) -> None:
    answers, faults = fuzz_operation(operations[route], mode, EXAMPLES, 1)
    assert faults == []
    assert answers.total() >= 1


def test_an_answer_that_the_document_does_not_know_is_noticed(fuzzed: Service) -> None:
    document = read_document(fuzzed)
    answers = document["paths"]["/v1/model"]["get"]["responses"]
    answers["404"] = answers.pop("200")
    operation = documented_operations(fuzzed, document)["GET /v1/model"]
    statuses, faults = fuzz_operation(operation, GenerationMode.POSITIVE, 1, 1)
    assert statuses == {200: len(faults)}
