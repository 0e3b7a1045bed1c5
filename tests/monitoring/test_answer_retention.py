"""Old answers go by themselves, beside whatever else uses the ledger."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from ledger import idempotency
from ledger.decisions import Draft, Meanwhile
from ledger.idempotency import IdempotentAnswer, RequestKey
from ledger.store import Ledger
from market.core.clock import DAY
from market.core.errors import LedgerError
from monitoring import answer_retention
from monitoring.answer_retention import AnswerRetention
from tests.waiting import WAIT_SECONDS, wait_for


def never(meanwhile: Meanwhile) -> Draft:
    raise AssertionError(meanwhile)


@pytest.fixture
def keys(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> list[RequestKey]:
    """Keys of five answers: two days old but the last one, which is new."""
    monkeypatch.setattr(answer_retention, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(answer_retention, "PAUSE_SECONDS", 0.0)
    for module in (idempotency, answer_retention):
        monkeypatch.setattr(module, "PRUNED_AT_ONCE", 2)
    answers = [IdempotentAnswer("o", f"{n}", "a" * 64, 200, b"{}") for n in range(5)]
    ledger.append_decisions(Draft([], answers=answers), never)
    with ledger.transaction() as connection:
        connection.exec_driver_sql(
            f"UPDATE answers SET answered_at = answered_at - {2 * DAY} WHERE key <> '4'"  # noqa: S608
        )
    return [answer.request for answer in answers]


def test_old_answers_are_deleted_and_younger_ones_stay(
    ledger: Ledger, keys: list[RequestKey]
) -> None:
    with AnswerRetention(ledger, 1):
        wait_for(lambda: list(ledger.answers.lookup(keys)) == keys[4:])
    assert "prune-answers" not in {thread.name for thread in threading.enumerate()}


def test_zero_days_are_for_ever(ledger: Ledger, keys: list[RequestKey]) -> None:
    with AnswerRetention(ledger, 0):
        time.sleep(0.1)
        assert "prune-answers" not in {thread.name for thread in threading.enumerate()}
    assert len(ledger.answers.lookup(keys)) == 5


def test_several_processes_delete_each_answer_once(ledger: Ledger, keys: list[RequestKey]) -> None:
    workers = [AnswerRetention(ledger, 1) for _ in range(4)]
    deleted: list[int] = []
    threads = [
        threading.Thread(target=lambda one=one: deleted.append(one.look())) for one in workers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    assert (len(deleted), sum(deleted)) == (4, 4)
    assert list(ledger.answers.lookup(keys)) == keys[4:]


@pytest.mark.parametrize("failure", [LedgerError("the disk is full"), MemoryError("for now")])
def test_a_failure_is_logged_once_and_deleting_goes_on(
    ledger: Ledger,
    keys: list[RequestKey],
    failure: Exception,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    prune, failures = ledger.answers.prune, iter(range(3))

    def flaky(before: int, wait_seconds: float | None = None) -> int:
        if next(failures, None) is not None:
            raise failure
        return prune(before, wait_seconds)

    monkeypatch.setattr(ledger.answers, "prune", flaky)
    with caplog.at_level(logging.ERROR), AnswerRetention(ledger, 1):
        wait_for(lambda: len(ledger.answers.lookup(keys)) == 1)
    assert len(caplog.records) == 1
    assert "old answers are not deleted" in caplog.text
