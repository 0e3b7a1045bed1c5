"""Answers under idempotency keys: kept with the decisions that they report, once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest

from ledger import idempotency
from ledger.decisions import Draft, Meanwhile
from ledger.idempotency import IdempotentAnswer, LedgerConflictError, RequestKey
from ledger.records import EncodedEntry, Entry
from ledger.store import Ledger
from ledger.verify import Checks, verify
from market.core.clock import SECOND
from market.core.errors import LedgerError, UnrecordableError

KEY = RequestKey("key-1", "retry-7")
ANSWER = IdempotentAnswer(*KEY, "a" * 64, 200, b'{"decisions": []}\x00\xff')


def draft(*answers: IdempotentAnswer, add_on: float = 1.0) -> Draft:
    entry = EncodedEntry.of(Entry("decision", {"add_on": add_on}, account_id="a"))
    return Draft([[entry]], answers=answers)


def never(meanwhile: Meanwhile) -> Draft:
    raise AssertionError(f"nothing was recorded meanwhile, yet {meanwhile} is")


def test_answer_is_found_again_byte_for_byte(url: str, ledger: Ledger) -> None:
    assert ledger.answers.lookup([KEY]) == {}
    ledger.append_decisions(draft(ANSWER), never)
    with Ledger(url) as reopened:
        assert reopened.answers.lookup([KEY, RequestKey("key-1", "new")]) == {KEY: ANSWER}


def test_other_body_under_the_same_key_is_a_conflict() -> None:
    assert KEY.conflict("a" * 64, "a" * 64) is None
    conflict = KEY.conflict("a" * 64, "b" * 64)
    assert isinstance(conflict, LedgerConflictError)
    assert "'retry-7' was used with another body" in str(conflict)


def test_owners_do_not_share_keys(ledger: Ledger) -> None:
    others = [
        IdempotentAnswer(owner, key, "b" * 64, 200, key.encode())
        for owner, key in (("key-1", 'x"\\'), ("key-2", "é ☃"), ("key-2", "x"))
    ]
    ledger.append_decisions(draft(ANSWER, *others), never)
    assert ledger.answers.lookup([RequestKey("key-2", "retry-7"), RequestKey("key-1", "x")]) == {}
    assert ledger.answers.lookup([a.request for a in others]) == {a.request: a for a in others}


def test_repeated_request_records_nothing_and_gets_the_first_answer(ledger: Ledger) -> None:
    ledger.append_decisions(draft(ANSWER), never)
    again = IdempotentAnswer(*KEY, "a" * 64, 200, b"computed anew")
    answered: list[object] = []

    def renew(meanwhile: Meanwhile) -> Draft:
        answered.append(meanwhile.answered)
        return Draft([])

    ledger.append_decisions(draft(again), renew)
    assert answered == [{KEY: ANSWER}]
    assert len(ledger.decisions_of("a", 10)[0]) == 1


def test_answer_is_not_kept_when_recording_fails(ledger: Ledger) -> None:
    missing = Entry("decision", {"contents": ["0" * 64]}, account_id="a")
    with pytest.raises(UnrecordableError):
        ledger.append_decisions(Draft([[EncodedEntry.of(missing)]], answers=[ANSWER]), never)
    assert ledger.answers.lookup([KEY]) == {}
    ledger.append_decisions(draft(ANSWER), never)


def test_an_answer_that_is_kept_already_is_never_replaced(ledger: Ledger) -> None:
    ledger.append_decisions(draft(ANSWER), never)
    other = draft(IdempotentAnswer(*KEY, "b" * 64, 200, b"other"))
    with pytest.raises(LedgerError):
        ledger.append_decisions(other, lambda _: other)
    assert ledger.answers.lookup([KEY]) == {KEY: ANSWER}


def test_old_answers_go_the_oldest_first_and_in_small_steps(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "PRUNED_AT_ONCE", 2)
    others = [replace(ANSWER, key=f"{n}") for n in range(4)]
    for answer in others:
        ledger.append_decisions(draft(answer), never)
    keys = [answer.request for answer in others]
    times = [record.recorded_at for record in ledger.records(idempotency.ANSWER)]
    assert ledger.answers.prune(times[0]) == 0
    assert [ledger.answers.prune(times[3]) for _ in range(3)] == [2, 1, 0]
    assert ledger.answers.lookup(keys) == {keys[3]: others[3]}
    assert len(list(ledger.records(idempotency.ANSWER))) == 4, "the records stay"


def test_nothing_old_waits_for_no_writer(ledger: Ledger) -> None:
    ledger.append_decisions(draft(ANSWER), never)
    with ledger.transaction():
        assert ledger.answers.prune(1, wait_seconds=0.0) == 0


def test_a_key_whose_answer_went_is_a_new_request(url: str, ledger: Ledger) -> None:
    """The newest record is the one of its row; that of the first request stays unmatched."""
    ledger.append_decisions(draft(ANSWER), never)
    assert ledger.answers.prune(time.time_ns()) == 1
    again = replace(ANSWER, status=422, response=b"refused now")
    ledger.append_decisions(draft(again), never)
    assert ledger.answers.lookup([KEY]) == {KEY: again}
    first, second = ledger.records(idempotency.ANSWER)
    kept = time.time_ns() - (first.recorded_at + second.recorded_at) // 2
    assert verify(url, checks=Checks(answers_kept=kept)).problems == []
    assert ledger.answers.prune(time.time_ns()) == 1
    (problem,) = verify(url, checks=Checks(answers_kept=kept + 60 * SECOND)).problems[1:]
    assert f"seq {second.seq}" in problem


def test_concurrent_duplicates_record_once(url: str) -> None:
    start = Barrier(4)

    def request(n: int) -> bytes:
        # A chain each: the chain's own lock cannot be what keeps them apart.
        with Ledger(url, chain=f"worker-{n}") as ledger:
            responses = [str(n).encode()]

            def renew(meanwhile: Meanwhile) -> Draft:
                responses.append(meanwhile.answered[KEY].response)
                return Draft([])

            start.wait(120)
            ledger.append_decisions(
                draft(IdempotentAnswer(*KEY, "a" * 64, 200, responses[0])), renew
            )
            return responses[-1]

    with Ledger(url) as ledger, ThreadPoolExecutor(4) as pool:
        responses = set(pool.map(request, range(4)))
        assert len(list(ledger.records("decision"))) == 1
    assert len(responses) == 1
