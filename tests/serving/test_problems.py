"""Every error of a request becomes its problem, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from decisions.errors import (
    NoAccountScoredError,
    NoMarketError,
    NoRulesError,
    NotFoundError,
    RequestError,
)
from decisions.messages import AccountProblem
from market.core.errors import DataError, MargincastError
from serving.service import Service

UNPROCESSABLE, UNAVAILABLE = "Unprocessable Entity", "Service Unavailable"


def answer_of(serve: Any, monkeypatch: pytest.MonkeyPatch, error: Exception) -> Any:
    """The answer of a route whose operation raises an error."""

    def fail(_: Service) -> None:
        raise error

    monkeypatch.setattr(Service, "model", fail)
    return serve().client.get("/v1/model")


@pytest.mark.parametrize(
    ("error", "status", "kind", "title"),
    [
        (RequestError("why"), 422, "invalid-request", UNPROCESSABLE),
        (NotFoundError("why"), 404, "not-found", "Not Found"),
        (NoMarketError("why"), 503, "no-market", UNAVAILABLE),
        (NoRulesError("why"), 503, "no-rules", UNAVAILABLE),
    ],
)
def test_a_refusal_has_the_status_and_kind_of_its_error(
    serve: Any,
    monkeypatch: pytest.MonkeyPatch,
    error: MargincastError,
    status: int,
    kind: str,
    title: str,
) -> None:
    answer = answer_of(serve, monkeypatch, error)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert answer.json() == {
        "type": f"urn:margincast:problem:{kind}",
        "title": title,
        "status": status,
        "detail": "why",
    }


def test_accounts_without_a_decision_are_named(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    error = NoAccountScoredError([AccountProblem("a", "account", "why")])
    answer = answer_of(serve, monkeypatch, error)
    assert answer.json() == {
        "type": "urn:margincast:problem:no-account-answered",
        "title": UNPROCESSABLE,
        "status": 422,
        "detail": "no account of the request could be answered; errors says why for each",
        "errors": [{"account_id": "a", "type": "account", "detail": "why"}],
    }


def test_any_other_error_is_internal(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = answer_of(serve, monkeypatch, DataError("a detail of the inside"))
    assert answer.status_code == 500
    assert "inside" not in answer.text
