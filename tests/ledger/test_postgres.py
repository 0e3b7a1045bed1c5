from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, make_url, text

from ledger import schema
from ledger.contents import CanonicalContent
from ledger.decisions import Draft, Meanwhile
from ledger.idempotency import IdempotentAnswer, RequestKey
from ledger.keys import Keys
from ledger.records import EncodedEntry, Entry
from ledger.store import Ledger
from ledger.verify import verify
from market.core.clock import SECOND
from market.core.errors import LedgerError, UnknownOutcomeError
from serving.http.problems import problem_of
from tests.ledger.intact import intact


@pytest.fixture
def url(postgres_url: str) -> str:
    return postgres_url


def test_ledger_on_postgres_records_reads_and_verifies(url: str) -> None:
    with Ledger(url) as ledger:
        view = ledger.put("market", {"x": 0.1 + 0.2})
        entries = [
            Entry("decision", {"n": n / 3, "contents": [view]}, account_id=f"a{n % 2}", as_of=n)
            for n in range(600)
        ]
        appended = ledger.append(entries)
        assert list(ledger.records("decision", since_as_of=0)) == appended
        assert intact(ledger.last_decisions(["a0", "a1", "a2"])) == {
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
        altered, missing = verify(url).problems
        assert "seq 300" in altered
        assert "does not match its hash" in altered
        assert view in missing
        assert "is missing" in missing


def test_processes_on_postgres_delete_old_answers_beside_each_other(url: str) -> None:
    """One that deletes holds up neither another one nor a request of a new key."""
    answers = [IdempotentAnswer("o", f"{n}", "a" * 64, 200, b"x") for n in range(3)]
    with Ledger(url) as ledger:
        ledger.append_decisions(Draft([[_counted(1.0)]], answers=answers[:2]), never)
        later = time.time_ns() + SECOND
        with ledger.engine.connect() as other, other.begin():
            other.execute(text("SELECT 1 FROM answers WHERE key = '0' FOR UPDATE"))
            assert ledger.answers.prune(later) == 1
            ledger.append_decisions(Draft([], answers=answers[2:]), never)
        assert ledger.answers.prune(later) == 2
        assert ledger.answers.lookup([answer.request for answer in answers]) == {}
        assert verify(url).intact


def never(meanwhile: Meanwhile) -> Draft:
    raise AssertionError(meanwhile)


def test_writers_on_postgres_share_a_chain_and_an_idempotency_key(url: str) -> None:
    duplicates: list[bytes] = []
    answer = IdempotentAnswer("o", "k", "a" * 64, 200, b"one")

    def work(n: int) -> None:
        with Ledger(url) as ledger, Ledger(url, chain=f"worker-{n}") as own:
            for _ in range(20):
                ledger.append([Entry("market", {})])

            def renew(meanwhile: Meanwhile) -> Draft:
                duplicates.append(meanwhile.answered[answer.request].response)
                return Draft([])

            own.append_decisions(Draft([[_counted(1.0)]], answers=[answer]), renew)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    found = verify(url)
    assert found.problems == []
    # The decision and the record of its answer are in one chain.
    assert sorted(state.records for state in found.chains.values()) == [2, 60]
    assert duplicates == [b"one", b"one"]


@pytest.mark.parametrize("default", ["read committed", "repeatable read", "serializable"])
def test_decisions_on_postgres_each_continue_from_the_one_before_at_any_default_isolation(
    url: str, default: str
) -> None:
    escaped = default.replace(" ", r"\ ")
    option = {"options": f"-c default_transaction_isolation={escaped}"}
    served = make_url(url).update_query_dict(option)
    plain = create_engine(served)
    with plain.connect() as connection:
        assert connection.execute(text("SHOW transaction_isolation")).scalar() == default
    plain.dispose()

    def work(n: int) -> None:
        address = served.render_as_string(hide_password=False)
        with Ledger(address, chain=f"worker-{n}") as own:
            for _ in range(10):
                last = intact(own.last_decisions(["a"])).get("a")
                count = 0.0 if last is None else last.payload["n"]
                based_on = None if last is None else last.id
                own.append_decisions(
                    Draft([[_counted(count + 1.0)]], based_on={"a": based_on}),
                    lambda meanwhile: Draft(
                        [[_counted(intact(meanwhile.newest)["a"].payload["n"] + 1.0)]]
                    ),
                )

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    with Ledger(url) as ledger:
        page, before = ledger.decisions_of("a", 30)
        rest, _ = ledger.decisions_of("a", 30, before)
        assert [r.payload["n"] for r in page + rest] == [float(n) for n in range(40, 0, -1)]
        since = {"a": page[-1].recorded_at, "b": 0}
        found = intact(ledger.last_decisions_without(since, '"n":40.0'))
        assert {name: record.payload["n"] for name, record in found.items()} == {"a": 39.0}
    assert verify(url).problems == []


def test_a_group_of_decisions_on_postgres_is_recorded_with_its_contents_and_answers(
    url: str,
) -> None:
    names = ["a", 'quo"te', "släsh/\\ ☃"]
    market = CanonicalContent.of({"x": 0.5})
    rounds = [
        [
            EncodedEntry.of(
                Entry("decision", {"n": n, "contents": [market.sha256]}, account_id=name)
            )
            for name in names
        ]
        for n in range(3)
    ]
    answers = [IdempotentAnswer("o", key, "a" * 64, 200, b"\x00\xff") for key in names]
    with Ledger(url) as ledger:
        draft = Draft(rounds, [("market", market)], answers, dict.fromkeys(names))
        ledger.append_decisions(draft, lambda _: Draft([]))
        assert ledger.last_decision_ids([*names, "none"]) == {
            name: encoded.id for name, encoded in zip(names, rounds[-1], strict=True)
        }
        assert {n: r.payload["n"] for n, r in intact(ledger.last_decisions(names)).items()} == (
            dict.fromkeys(names, 2)
        )
        keys = [answer.request for answer in answers]
        assert ledger.answers.lookup([*keys, RequestKey("p", "a")]) == {
            answer.request: answer for answer in answers
        }
        meanwhile: list[Meanwhile] = []

        def renew(found: Meanwhile) -> Draft:
            meanwhile.append(found)
            return Draft([])

        ledger.append_decisions(draft, renew)
        assert set(meanwhile[0].newest) == set(names)
        assert set(meanwhile[0].answered) == set(keys)
        assert len(list(ledger.records("decision"))) == 9
    assert verify(url).problems == []


def _counted(n: float) -> EncodedEntry:
    return EncodedEntry.of(Entry("decision", {"n": n}, account_id="a"))


def test_a_writer_that_hangs_with_the_lock_stops_the_others_no_longer_than_their_wait(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.5)
    with Ledger(url) as hung, Ledger(url) as other, hung.transaction() as connection:
        schema.lock(connection, "decisions")
        began = time.monotonic()
        with pytest.raises(LedgerError, match="lock timeout") as refused:
            other.append_decisions(Draft([[_counted(1.0)]]), lambda _: Draft([]))
        assert 0.4 < time.monotonic() - began < 25.0
        assert not isinstance(refused.value, UnknownOutcomeError)
        problem, headers = problem_of(refused.value)
        assert (problem.status, "Retry-After" in headers) == (503, True)


def test_limits_that_a_url_sets_stay_and_others_are_added(url: str) -> None:
    query = {"options": "-c lock_timeout=7s", "connect_timeout": "3"}
    served = make_url(url).update_query_dict(query).render_as_string(hide_password=False)
    for address, shown in ((url, "30s"), (served, "7s")):
        with Ledger(address) as ledger, ledger.engine.connect() as connection:
            assert connection.execute(text("SHOW lock_timeout")).scalar() == shown
            raw: Any = connection.connection.dbapi_connection
            parameters = raw.info.get_parameters()
            assert parameters["connect_timeout"] == ("10" if address == url else "3")
            assert parameters["tcp_user_timeout"] == "30000"
    with schema.engine_of_any_revision(url) as engine, engine.connect() as connection:
        assert connection.execute(text("SHOW lock_timeout")).scalar() == "0", "an upgrade waits"


def test_a_connection_that_is_lost_at_the_commit_leaves_the_outcome_unknown(url: str) -> None:
    with Ledger(url) as ledger, Ledger(url) as other:
        with pytest.raises(UnknownOutcomeError), ledger.transaction() as connection:
            _end_backend(other, connection)
        with pytest.raises(LedgerError) as known:
            _lose_before_the_commit(ledger, other)
        assert not isinstance(known.value, UnknownOutcomeError)


def _lose_before_the_commit(ledger: Ledger, other: Ledger) -> None:
    with ledger.transaction() as connection:
        _end_backend(other, connection)
        connection.execute(text("SELECT 1"))


def _end_backend(other: Ledger, connection: Connection) -> None:
    number = connection.execute(text("SELECT pg_backend_pid()")).scalar()
    with other.transaction() as second:
        second.execute(text("SELECT pg_terminate_backend(:number, 60000)"), {"number": number})
