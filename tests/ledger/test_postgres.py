from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from ledger.decisions import Draft
from ledger.idempotency import IdempotentAnswer, LedgerDuplicateError
from ledger.keys import Keys
from ledger.records import Entry
from ledger.schema import metadata, open_engine
from ledger.store import Ledger
from ledger.verify import verify

URL = os.environ.get("MARGINCAST_TEST_POSTGRES", "")
pytestmark = pytest.mark.skipif(
    not URL, reason="MARGINCAST_TEST_POSTGRES names no empty postgresql+psycopg:// database"
)


@pytest.fixture
def url() -> Iterator[str]:
    yield URL
    engine = open_engine(URL)
    metadata.drop_all(engine)
    engine.dispose()


def test_ledger_on_postgres_records_reads_and_verifies(url: str) -> None:
    with Ledger(url) as ledger:
        view = ledger.put("market", {"x": 0.1 + 0.2})
        entries = [
            Entry("decision", {"n": n / 3, "contents": [view]}, account_id=f"a{n % 2}", as_of=n)
            for n in range(600)
        ]
        appended = ledger.append(entries)
        assert list(ledger.records("decision", since_as_of=0)) == appended
        assert ledger.last_decisions(["a0", "a1", "a2"]) == {
            "a0": appended[-2],
            "a1": appended[-1],
        }
        key_id, secret = Keys(ledger).add_key(["score"])
        assert Keys(ledger).authenticate(secret) is not None
        Keys(ledger).revoke(key_id)
        assert verify(url).intact
        with ledger.transaction() as connection:
            connection.execute(text("UPDATE records SET as_of = 1 WHERE seq = 300"))
            connection.execute(text("DELETE FROM contents"))
        assert len(verify(url).problems) == 3


def test_writers_on_postgres_share_a_chain_and_an_idempotency_key(url: str) -> None:
    duplicates: list[bytes] = []
    answer = IdempotentAnswer("o", "k", "a" * 64, 200, b"one")

    def work(n: int) -> None:
        with Ledger(url) as ledger, Ledger(url, chain=f"worker-{n}") as own:
            for _ in range(20):
                ledger.append([Entry("market", {})])
            try:
                own.append([Entry("market", {})], answer=answer)
            except LedgerDuplicateError as duplicate:
                duplicates.append(duplicate.answer.response)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    found = verify(url)
    assert found.problems == []
    assert sorted(state.records for state in found.chains.values()) == [1, 60]
    assert duplicates == [b"one", b"one"]


def test_decisions_on_postgres_each_continue_from_the_one_before(url: str) -> None:
    def work(n: int) -> None:
        with Ledger(url, chain=f"worker-{n}") as own:
            for _ in range(10):
                last = own.last_decisions(["a"]).get("a")
                count = 0.0 if last is None else last.payload["n"]
                based_on = None if last is None else last.id
                own.append_decisions(
                    Draft([_counted(count + 1.0)], based_on={"a": based_on}),
                    lambda last: Draft([_counted(last["a"].payload["n"] + 1.0)]),
                )

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with Ledger(url) as ledger:
        page, before = ledger.decisions_of("a", 30)
        rest, _ = ledger.decisions_of("a", 30, before)
        assert [r.payload["n"] for r in page + rest] == [float(n) for n in range(40, 0, -1)]
        since = {"a": page[-1].recorded_at, "b": 0}
        found = ledger.last_decisions_without(since, '"n":40.0')
        assert {name: record.payload["n"] for name, record in found.items()} == {"a": 39.0}
    assert verify(url).problems == []


def _counted(n: float) -> Entry:
    return Entry("decision", {"n": n}, account_id="a")
