from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from ledger.idempotency import IdempotentAnswer, LedgerConflictError, LedgerDuplicateError
from ledger.records import Entry
from ledger.store import Ledger
from market.core.errors import LedgerError

ANSWER = IdempotentAnswer("key-1", "retry-7", "a" * 64, 200, b'{"decisions": []}\x00\xff')
DECISION = Entry("decision", {"add_on": 1.0}, account_id="a")


def test_answer_is_found_again_byte_for_byte(url: str, ledger: Ledger) -> None:
    assert ledger.answers.lookup("key-1", "retry-7", "a" * 64) is None
    ledger.append([DECISION], answer=ANSWER)
    with Ledger(url) as reopened:
        assert reopened.answers.lookup("key-1", "retry-7", "a" * 64) == ANSWER


def test_other_body_under_the_same_key_is_a_conflict(ledger: Ledger) -> None:
    ledger.append([DECISION], answer=ANSWER)
    with pytest.raises(LedgerConflictError, match="'retry-7' was used with another body"):
        ledger.answers.lookup("key-1", "retry-7", "b" * 64)
    other = IdempotentAnswer("key-1", "retry-7", "b" * 64, 200, b"")
    with pytest.raises(LedgerConflictError):
        ledger.append([DECISION], answer=other)
    assert len(ledger.decisions_of("a", 10)[0]) == 1


def test_owners_do_not_share_keys(ledger: Ledger) -> None:
    ledger.append([DECISION], answer=ANSWER)
    assert ledger.answers.lookup("key-2", "retry-7", "b" * 64) is None


def test_repeated_request_records_nothing_and_gets_the_first_answer(ledger: Ledger) -> None:
    ledger.append([DECISION], answer=ANSWER)
    again = IdempotentAnswer("key-1", "retry-7", "a" * 64, 200, b"computed anew")
    with pytest.raises(LedgerDuplicateError) as caught:
        ledger.append([DECISION], answer=again, contents=[("market", {"x": 1})])
    assert caught.value.answer == ANSWER
    assert len(ledger.decisions_of("a", 10)[0]) == 1


def test_answer_is_not_kept_when_recording_fails(ledger: Ledger) -> None:
    with pytest.raises(LedgerError):
        ledger.append([Entry("decision", {"add_on": float("nan")})], answer=ANSWER)
    assert ledger.answers.lookup("key-1", "retry-7", "a" * 64) is None
    ledger.append([DECISION], answer=ANSWER)


def test_concurrent_duplicates_record_once(url: str) -> None:
    start = Barrier(4)

    def request(n: int) -> bytes:
        # A chain each: the chain's own lock cannot be what keeps them apart.
        with Ledger(url, chain=f"worker-{n}") as ledger:
            mine = IdempotentAnswer("key-1", "k", "a" * 64, 200, str(n).encode())
            start.wait(20)
            try:
                ledger.append([DECISION], answer=mine)
            except LedgerDuplicateError as duplicate:
                return duplicate.answer.response
            return mine.response

    with Ledger(url) as ledger, ThreadPoolExecutor(4) as pool:
        responses = set(pool.map(request, range(4)))
        assert len(list(ledger.records("decision"))) == 1
    assert len(responses) == 1
