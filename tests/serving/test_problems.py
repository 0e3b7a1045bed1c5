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
from market.core.errors import DataError, LedgerError, MargincastError, UnknownOutcomeError
from monitoring.shared_market import NotFollowingError
from serving.admission import DeadlineError, LaneFullError
from serving.http.problems import ProblemError, problem_of
from serving.score_queue import QueueRefusedError
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


@pytest.mark.parametrize(
    "error",
    [
        LedgerError("why"),
        UnknownOutcomeError("why"),
        NoMarketError("why"),
        NoRulesError("why"),
        NotFollowingError("why"),
        QueueRefusedError("why"),
        LaneFullError("why"),
        DeadlineError(1.0),
        ProblemError(429, "rate-limited", "why"),
    ],
)
def test_every_refusal_for_a_while_says_when_to_try_again(error: MargincastError) -> None:
    problem, headers = problem_of(error)
    assert problem.status in (429, 503)
    assert int(headers["Retry-After"]) >= 1


def test_what_may_be_on_record_is_not_said_not_to_be() -> None:
    problem, _ = problem_of(UnknownOutcomeError("why"))
    assert "not known" in problem.detail
    assert "Idempotency-Key" in problem.detail
    assert "nothing was recorded" not in problem.detail
    assert "nothing was recorded" in problem_of(LedgerError("why"))[0].detail
