from __future__ import annotations

import multiprocessing
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import make_url

from ledger.canonical import canonical_bytes, sha256_hex, sha256_of
from ledger.decisions import AlteredPageError
from ledger.engines import postgres_engine
from ledger.records import FIRST_PREVIOUS_HASH, Entry, Record, new_id
from ledger.store import Ledger
from ledger.verify import verify
from market.core.errors import AlteredError, LedgerError


def decision(account: str, add_on: float = 1.0, as_of: int = 0) -> Entry:
    return Entry("decision", {"add_on": add_on}, account_id=account, as_of=as_of)


def test_records_are_contiguous_linked_and_read_back(ledger: Ledger) -> None:
    first, second = ledger.append([decision("a", 0.1 + 0.2, 5), Entry("retrain", {"v": [1, None]})])
    (third,) = ledger.append([decision("b")])
    assert [r.seq for r in (first, second, third)] == [1, 2, 3]
    assert first.previous_hash == FIRST_PREVIOUS_HASH
    assert (second.previous_hash, third.previous_hash) == (first.hash, second.hash)
    assert ledger.get_record(first.id) == first
    assert ledger.get_record(second.id) == second


def test_hash_is_the_documented_one(ledger: Ledger) -> None:
    (record,) = ledger.append([Entry("market", {"x": 1.5}, id="m1", as_of=7)])
    assert record.hash == sha256_of(
        {
            "chain": "main",
            "seq": 1,
            "id": "m1",
            "kind": "market",
            "account_id": None,
            "as_of": 7,
            "recorded_at": record.recorded_at,
            "payload_sha256": sha256_hex(canonical_bytes({"x": 1.5})),
            "previous_hash": "0" * 64,
        }
    )


def test_reopened_ledger_continues_its_chain(url: str) -> None:
    with Ledger(url) as ledger:
        (before,) = ledger.append([decision("a")])
    with Ledger(url) as ledger:
        (after,) = ledger.append([decision("a")])
    assert (after.seq, after.previous_hash) == (2, before.hash)


def test_database_is_durable_and_its_folder_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Ledger("sqlite:///var/deep/ledger.db") as ledger, ledger.engine.connect() as connection:
        pragma = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert (tmp_path / "var/deep/ledger.db").is_file()
    assert pragma == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_recorded_at_rises_also_when_the_clock_steps_back(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = ledger.append([decision("a")])
    monkeypatch.setattr("ledger.chain.time.time_ns", lambda: first.recorded_at - 10**12)
    (second,) = ledger.append([decision("a")])
    assert second.recorded_at > first.recorded_at
    assert ledger.last_decisions(["a"])["a"] == second


def test_failed_append_leaves_nothing_behind(ledger: Ledger) -> None:
    ledger.append([Entry("market", {}, id="taken")])
    with pytest.raises(LedgerError, match="already in the ledger"):
        ledger.append(
            [decision("a"), Entry("market", {}, id="taken")], contents=[("view", {"x": 1})]
        )
    with pytest.raises(LedgerError, match=r"\$\.add_on is nan"):
        ledger.append([decision("a"), decision("b", float("nan"))])
    with pytest.raises(LedgerError, match="not in the ledger"):
        ledger.get(sha256_of({"x": 1}))
    assert ledger.last_decisions(["a"]) == {}
    assert ledger.append([decision("a")])[0].seq == 2


@pytest.mark.parametrize("as_of", [True, 1.0, 2**63, "1"])
def test_as_of_a_database_would_store_otherwise_is_refused(as_of: object) -> None:
    with pytest.raises(LedgerError, match="as_of"):
        Entry("decision", {}, as_of=as_of)  # type: ignore[arg-type]


def test_contents_are_stored_once_and_read_back(ledger: Ledger) -> None:
    view = {"vol": {"BTC": 0.1 + 0.2}}
    sha256 = ledger.put("market", view)
    assert sha256 == sha256_of(view) == ledger.put("market", view)
    assert ledger.get(sha256) == view
    ledger.append([Entry("decision", {"contents": [sha256]})], contents=[("market", view)])


def test_altered_content_is_not_returned(ledger: Ledger, tmp_path: Path) -> None:
    sha256 = ledger.put("market", {"x": 1})
    tamper(tmp_path, "UPDATE contents SET content = '{\"x\":2}'")
    with pytest.raises(LedgerError, match="altered"):
        ledger.get(sha256)


def test_altered_record_is_not_returned(ledger: Ledger, tmp_path: Path) -> None:
    (record,) = ledger.append([decision("a")])
    tamper(tmp_path, "UPDATE records SET payload = '{\"add_on\":0.0}'")
    with pytest.raises(LedgerError, match="altered"):
        ledger.get_record(record.id)
    assert isinstance(ledger.last_decisions(["a"])["a"], AlteredError)
    with pytest.raises(AlteredPageError) as page:
        ledger.decisions_of("a", 5)
    assert (page.value.sound, page.value.altered[0].seq) == ([], record.seq)


def test_record_that_depends_on_a_missing_content_is_refused(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="not in the ledger"):
        ledger.append([Entry("decision", {"contents": {"view_sha256": "0" * 64}})])
    with pytest.raises(LedgerError, match="hexadecimal"):
        ledger.append([Entry("decision", {"contents": ["abc"]})])


def test_last_decisions_of_a_large_book_and_over_chains(url: str, ledger: Ledger) -> None:
    book = [f"account-{n}" for n in range(1_200)]
    ledger.append([decision(account, 1.0) for account in book])
    with Ledger(url, chain="second") as second:
        second.append([decision("account-7", 2.0)])
    ledger.append([Entry("bars", {}, account_id="account-8")])
    last = ledger.last_decisions([*book, "stranger"])
    assert set(last) == set(book)
    payloads = {name: one.payload for name, one in last.items() if isinstance(one, Record)}
    assert payloads["account-7"] == {"add_on": 2.0}
    assert payloads["account-8"] == {"add_on": 1.0}
    assert ledger.last_decisions(["stranger"]) == {}
    assert ledger.last_decisions([]) == {}


def test_decisions_of_an_account_come_newest_first_in_pages(ledger: Ledger) -> None:
    ledger.append([decision(account, n) for n in range(5) for account in ("a", "b")])
    page, before = ledger.decisions_of("a", 2)
    rest, end = ledger.decisions_of("a", 9, before)
    assert [record.payload["add_on"] for record in page] == [4, 3, 2, 1, 0]  # one transaction
    assert (rest, end) == ([], None)
    with pytest.raises(LedgerError, match="limit"):
        ledger.decisions_of("a", 0)


def test_records_of_a_kind_come_in_order_over_pages_and_chains(url: str, ledger: Ledger) -> None:
    ledger.append([Entry("bars", {"n": n}, as_of=n) for n in range(1_100)])
    with Ledger(url, chain="alpha") as alpha:
        alpha.append([Entry("bars", {"n": 1_100}, as_of=1_100), Entry("market", {})])
    assert [r.payload["n"] for r in ledger.records("bars")] == list(range(1_101))
    since = ledger.records("bars", since_as_of=1_000)
    assert [r.payload["n"] for r in since] == list(range(1_000, 1_101))


def test_new_ids_differ_and_are_version_7() -> None:
    ids = {new_id() for _ in range(1_000)}
    assert len(ids) == 1_000
    assert all(len(i) == 32 and i[12] == "7" and i[16] in "89ab" for i in ids)


def append_many(url: str, name: str, times: int) -> None:
    with Ledger(url) as ledger:
        for n in range(times):
            ledger.append([decision(name, n), decision(name, n)])


def test_processes_that_share_a_chain_keep_it_contiguous(url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    # The database does not exist yet: they also race to make it.
    workers = [spawn.Process(target=append_many, args=(url, f"p{n}", 20)) for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(300)
    assert [worker.exitcode for worker in workers] == [0, 0]
    found = verify(url)
    assert found.problems == []
    assert found.chains["main"].records == 80


def test_threads_that_share_a_ledger_keep_its_chain_contiguous(ledger: Ledger) -> None:
    def work(n: int) -> list[int]:
        return [ledger.append([decision(f"t{n}")])[0].seq for _ in range(15)]

    with ThreadPoolExecutor(4) as pool:
        seqs = [seq for mine in pool.map(work, range(4)) for seq in mine]
    assert sorted(seqs) == list(range(1, 61))
    assert verify(ledger.engine).intact


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("mysql://u:secret@h/d", "not of a known database"),
        ("nonsense", "could not open"),
        ("sqlite:////dev/null/x/ledger.db", "cannot be made"),
    ],
)
def test_impossible_urls_are_refused(url: str, words: str) -> None:
    with pytest.raises(LedgerError, match=words) as caught:
        Ledger(url)
    assert "secret" not in str(caught.value)


def test_postgres_reads_what_is_committed_whatever_the_server_defaults_to() -> None:
    pytest.importorskip("psycopg")
    engine = postgres_engine(make_url("postgresql+psycopg://u@127.0.0.1/d"), None)
    assert engine.dialect._on_connect_isolation_level == "READ COMMITTED"


def test_file_that_is_no_database_is_a_ledger_error(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"not a database" * 100)
    with pytest.raises(LedgerError, match="not a database"):
        Ledger(f"sqlite:///{tmp_path}/ledger.db")


def test_lost_table_is_a_ledger_error(ledger: Ledger, tmp_path: Path) -> None:
    tamper(tmp_path, "DROP TABLE records")
    with pytest.raises(LedgerError, match="could not record: no such table"):
        ledger.append([decision("a")])
    with pytest.raises(LedgerError, match="could not read: no such table"):
        ledger.last_decisions(["a"])["a"]


def tamper(folder: Path, statement: str) -> None:
    connection = sqlite3.connect(folder / "ledger.db")
    with connection:
        connection.execute(statement)
    connection.close()
