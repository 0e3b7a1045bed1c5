"""Decisions recorded one after the other, and pages over all chains."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import delete

from ledger.decisions import Draft, Meanwhile
from ledger.idempotency import IdempotentAnswer
from ledger.packing import pack_id
from ledger.records import EncodedEntry, Entry, Record
from ledger.schema import records
from ledger.store import Ledger
from ledger.verify import verify
from market.core.errors import LedgerError, UnrecordableError
from tests.ledger.intact import intact


def decision(account: str, add_on: float) -> Entry:
    return Entry("decision", {"add_on": add_on}, account_id=account)


def draft(*entries: Entry, **rest: Any) -> Draft:
    return Draft([[EncodedEntry.of(entry) for entry in entries]], **rest)


def never(meanwhile: Meanwhile) -> Draft:
    raise AssertionError(f"nothing is outdated, yet {sorted(meanwhile.newest)} are decided again")


def test_decision_on_the_newest_record_is_recorded_as_it_is(ledger: Ledger) -> None:
    ledger.append_decisions(draft(decision("a", 1.0), based_on={"a": None}), never)
    first = intact(ledger.last_decisions(["a"]))["a"]
    assert first is not None
    second = draft(decision("a", 2.0), decision("b", 3.0), based_on={"a": first.id, "b": None})
    assert ledger.append_decisions(second, never) is second
    last = intact(ledger.last_decisions(["a", "b"]))
    assert {name: record.payload["add_on"] for name, record in last.items()} == {"a": 2.0, "b": 3.0}


def test_outdated_decision_is_made_again_from_the_newest_record(url: str, ledger: Ledger) -> None:
    with Ledger(url, chain="other") as other:
        other.append([decision("a", 10.0)])
        (newest,) = other.append([decision("a", 20.0)])
    (untouched,) = ledger.append([decision("b", 1.0)])
    asked: list[dict[str, Record]] = []

    def renew(meanwhile: Meanwhile) -> Draft:
        asked.append(intact(meanwhile.newest))
        return draft(
            decision("a", intact(meanwhile.newest)["a"].payload["add_on"] + 1.0), decision("b", 2.0)
        )

    based_on = {"a": None, "b": untouched.id}
    stale = draft(decision("a", 1.0), decision("b", 2.0), based_on=based_on)
    ledger.append_decisions(stale, renew)
    assert asked == [{"a": newest}]
    last = intact(ledger.last_decisions(["a", "b"]))
    assert {name: record.payload["add_on"] for name, record in last.items()} == {
        "a": 21.0,
        "b": 2.0,
    }


def test_decision_counts_as_later_than_the_one_it_continues_also_if_a_clock_is_behind(
    url: str, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger(url, chain="ahead") as ahead:
        monkeypatch.setattr("ledger.chain.time.time_ns", lambda: 2 * 10**18)
        (first,) = ahead.append([decision("a", 1.0)])
    monkeypatch.setattr("ledger.chain.time.time_ns", lambda: 10**18)
    ledger.append_decisions(draft(decision("a", 2.0), based_on={"a": first.id}), never)
    last = intact(ledger.last_decisions(["a"]))["a"]
    assert last is not None
    assert last.payload == {"add_on": 2.0}
    assert last.recorded_at > first.recorded_at


def test_nothing_is_recorded_where_deciding_again_fails_or_the_request_is_answered(
    ledger: Ledger,
) -> None:
    answer = IdempotentAnswer("o", "k", "a" * 64, 200, b"one")
    first = draft(decision("a", 1.0), answers=[answer], based_on={"a": None})
    ledger.append_decisions(first, never)

    def fails(meanwhile: Meanwhile) -> Draft:
        raise RuntimeError("no model")

    with pytest.raises(RuntimeError, match="no model"):
        ledger.append_decisions(draft(decision("a", 2.0), based_on={"a": None}), fails)
    ledger.append_decisions(first, lambda _: Draft([]))
    page, more = ledger.decisions_of("a", 10)
    assert len(page) == 1
    assert more is None
    assert verify(ledger.engine).intact


def test_a_decision_whose_predecessor_is_gone_is_made_again_without_it(ledger: Ledger) -> None:
    (gone,) = ledger.append([decision("a", 1.0)])
    (kept,) = ledger.append([decision("b", 1.0)])
    with ledger.transaction() as connection:
        connection.execute(delete(records).where(records.c.id == pack_id(gone.id)))
    asked: list[Meanwhile] = []

    def renew(meanwhile: Meanwhile) -> Draft:
        asked.append(meanwhile)
        return draft(decision("a", 9.0), decision("b", 2.0))

    based_on = {"a": gone.id, "b": kept.id, "new": None}
    ledger.append_decisions(draft(decision("a", 2.0), decision("b", 2.0), based_on=based_on), renew)
    assert asked == [Meanwhile({}, {}, ["a"])]
    assert intact(ledger.last_decisions(["a"]))["a"].payload["add_on"] == 9.0


def test_rounds_of_one_transaction_are_recorded_one_after_the_other(
    url: str, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.chain.time.time_ns", lambda: 10**18)
    rounds = [[EncodedEntry.of(decision(name, float(n))) for name in "ab"] for n in range(3)]
    ledger.append_decisions(Draft(rounds, based_on={"a": None, "b": None}), never)
    records = list(ledger.records("decision"))
    assert [record.recorded_at - 10**18 for record in records] == [0, 0, 1, 1, 2, 2]
    assert ledger.last_decision_ids(["a", "b", "c"]) == {
        name: encoded.id for name, encoded in zip("ab", rounds[-1], strict=True)
    }
    with Ledger(url, chain="other") as other:
        other.append_decisions(draft(decision("a", 9.0), based_on={"a": rounds[-1][0].id}), never)
    assert intact(ledger.last_decisions(["a"]))["a"].recorded_at > 10**18 + 2
    assert verify(ledger.engine).intact


def test_concurrent_decisions_of_an_account_each_continue_from_the_one_before(
    url: str, ledger: Ledger
) -> None:
    def work(n: int) -> None:
        with Ledger(url, chain=f"worker-{n % 3}") as own:
            for _ in range(5):
                last = intact(own.last_decisions(["a"])).get("a")
                count = 0.0 if last is None else last.payload["add_on"]
                based_on = None if last is None else last.id
                own.append_decisions(
                    draft(decision("a", count + 1.0), based_on={"a": based_on}),
                    lambda meanwhile: draft(
                        decision("a", intact(meanwhile.newest)["a"].payload["add_on"] + 1.0)
                    ),
                )

    run_threads(work, 6)
    page, _ = ledger.decisions_of("a", 100)
    assert [record.payload["add_on"] for record in page] == [float(n) for n in range(30, 0, -1)]
    assert verify(ledger.engine).intact


def run_threads(work: Any, count: int) -> None:
    threads = [threading.Thread(target=work, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
        assert not thread.is_alive()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_pages_go_over_all_chains_and_give_every_decision_once(
    url: str, ledger: Ledger, size: int
) -> None:
    with Ledger(url, chain="score") as score, Ledger(url, chain="another") as another:
        for n in range(12):
            (ledger, score, another)[n % 3].append([decision("a", float(n)), decision("b", 0.0)])
    found: list[float] = []
    before: int | None = None
    for _ in range(14):
        page, before = ledger.decisions_of("a", size, before)
        found += [record.payload["add_on"] for record in page]
        if before is None:
            break
        ledger.append([decision("a", 99.0)])  # newer ones do not shift older pages
        assert 0 < before < 2**53
    assert found == [float(n) for n in range(11, -1, -1)]


def test_decisions_of_one_microsecond_are_never_torn_apart(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.chain.time.time_ns", lambda: 10**18)
    for n in range(5):
        ledger.append([decision("a", float(n))])
    page, before = ledger.decisions_of("a", 2)
    assert [record.payload["add_on"] for record in page] == [4.0, 3.0, 2.0, 1.0, 0.0]
    assert ledger.decisions_of("a", 2, before) == ([], None)


def test_a_look_back_passes_over_payloads_with_a_text_and_ends_at_its_time(
    url: str, ledger: Ledger
) -> None:
    (first,) = ledger.append([decision("a", 1.0)])
    with Ledger(url, chain="score") as score:
        (second,) = score.append([decision("a", 2.0)])
    ledger.append([Entry("decision", {"binding": "fallback"}, account_id="a")])
    text = '"binding":"fallback"'
    assert intact(ledger.last_decisions_without({"a": 0, "b": 0}, text)) == {"a": second}
    since = second.recorded_at + 1
    assert intact(ledger.last_decisions_without({"a": since}, text)) == {}
    assert intact(ledger.last_decisions_without({"a": 0}, '"add_on":2.0')) != {"a": second}
    assert first.recorded_at < second.recorded_at
    assert intact(ledger.last_decisions_without({}, text)) == {}


@pytest.mark.parametrize(
    "entry",
    [
        lambda: Entry("decision", {"x": float("inf")}),
        lambda: Entry("decision", {"x": "\ud800"}),
        lambda: Entry("decision", {"contents": ["abc"]}),
        lambda: Entry("decision", {"contents": ["0" * 64]}),
        lambda: Entry("decision", {}, id="taken"),
        lambda: Entry("decision", {}, as_of=2**63),
        lambda: Entry("", {}),
    ],
)
def test_what_an_entry_holds_is_told_from_a_fault_of_the_database(
    entry: Any, ledger: Ledger
) -> None:
    ledger.append([Entry("market", {}, id="taken")])
    with pytest.raises(UnrecordableError):
        ledger.append([entry()])


def test_a_fault_of_the_database_is_not_blamed_on_an_entry(ledger: Ledger) -> None:
    with ledger.transaction() as connection:
        connection.exec_driver_sql("DROP TABLE records")
    with pytest.raises(LedgerError) as caught:
        ledger.append([Entry("market", {})])
    assert not isinstance(caught.value, UnrecordableError)
